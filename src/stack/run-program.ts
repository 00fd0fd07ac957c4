/**
 * Runs a program that ends by itself, and says what it wrote when it fails.
 */
import { execFile } from "node:child_process";

import { LockstepError } from "../errors.ts";
import type { Reaper } from "./reaper.ts";

export interface Program {
  /** For the message, as in "<what> failed". */
  readonly what: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  readonly timeoutMs: number;
  readonly runAs?: { readonly uid: number; readonly gid: number } | null;
  /** Ends it when this process is gone. Without one it runs on: right for what is safe to finish alone. */
  readonly reaper?: Reaper;
}

const OUTPUT_LINES_MAX = 20;

/** @throws {LockstepError} STACK_UNAVAILABLE it cannot be started, failed, or took too long */
export async function runProgram(program: Program): Promise<void> {
  const { command, args, env, cwd, timeoutMs } = program;
  await new Promise<void>((resolve, reject) => {
    const options = { env, cwd, timeout: timeoutMs, ...(program.runAs ?? {}) };
    const child = execFile(command, [...args], options, (error, stdout, stderr) => {
      if (error === null) return resolve();
      const how = error.killed ? `took longer than ${timeoutMs} ms` : `code ${error.code}`;
      const output = `${stdout}${stderr}`.trim().split("\n").slice(0, OUTPUT_LINES_MAX).join("\n");
      const message = `${program.what} failed (${command}, ${how})\n${output}`.trimEnd();
      reject(new LockstepError("STACK_UNAVAILABLE", message, { cause: error, details: { command, args } }));
    });
    if (child.pid !== undefined) program.reaper?.watch(child.pid, "SIGTERM");
  });
}
