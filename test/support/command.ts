/**
 * Commands run to their end, as an operator runs them: what they print, and the code they end with.
 */
import { spawn } from "node:child_process";

import { MAIN } from "./deployment-settings.ts";

export interface CommandResult {
  /** null when it was ended by a signal. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A limit against hanging, not an expectation. */
const TIMEOUT_MS = 120_000;

/** `node dist/main.js <args>`; the environment is complete, nothing is inherited. */
export function lockstep(args: readonly string[], env: NodeJS.ProcessEnv): Promise<CommandResult> {
  return command(process.execPath, [MAIN, ...args], { env });
}

/** @throws {Error} it cannot be started, or does not end in time */
export function command(
  program: string,
  args: readonly string[],
  options: { env: NodeJS.ProcessEnv; cwd?: string },
): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (chunk) => (stdout += chunk));
    child.stderr.on("data", (chunk) => (stderr += chunk));
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new Error(`${program} ${args.join(" ")} did not end within ${TIMEOUT_MS} ms:\n${stdout}\n${stderr}`));
    }, TIMEOUT_MS);
    child.once("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.once("close", (code) => {
      clearTimeout(timer);
      resolve({ code, stdout, stderr });
    });
  });
}
