/**
 * One server that the stack started: a process in a session of its own, its output in a file.
 *
 * A session of its own, because Ctrl-C in a terminal reaches every process of the foreground group: the servers must
 * outlive that signal until the host has drained its shards. The reaper (reaper.ts) sees to it that they never outlive
 * the host itself.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

import { LockstepError } from "../errors.ts";
import type { Reaper } from "./reaper.ts";

export interface ServerProcess {
  readonly name: string;
  readonly pid: number;
  /** Resolves when the process has ended, with a phrase that says how. */
  readonly ended: Promise<string>;
  /** null while it runs, else how it ended. */
  readonly ending: () => string | null;
  readonly signal: (signal: NodeJS.Signals) => void;
  /** The last lines that it wrote. */
  readonly lastLines: (lines: number) => Promise<string>;
}

export interface ServerCommand {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Output of both kinds is appended here. */
  readonly logFile: string;
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  /** User and group to run as; only root may choose. */
  readonly runAs?: { readonly uid: number; readonly gid: number } | null;
  readonly reaper: Reaper;
  /** How the reaper ends it. */
  readonly reapedBy: NodeJS.Signals;
}

/** @throws {LockstepError} STACK_UNAVAILABLE the command cannot be started */
export async function spawnServer(command: ServerCommand): Promise<ServerProcess> {
  command.reaper.assertWatching();
  const log = openSync(command.logFile, "a");
  let child: ChildProcess;
  try {
    child = spawn(command.command, command.args, {
      detached: true,
      stdio: ["ignore", log, log],
      env: command.env,
      cwd: command.cwd,
      ...(command.runAs ?? {}),
    });
  } finally {
    closeSync(log);
  }
  if (child.pid !== undefined) command.reaper.watch(child.pid, command.reapedBy);
  let ending: string | null = null;
  const ended = new Promise<string>((resolve) => {
    child.once("exit", (code, signal) => {
      ending = signal === null ? `exited with code ${code}` : `was ended by ${signal}`;
      resolve(ending);
    });
  });
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (cause) => {
      reject(new LockstepError("STACK_UNAVAILABLE", `${command.name} cannot be started: ${cause.message}`, { cause }));
    });
  });
  // The servers must not keep the host's event loop alive: a host that forgets to stop them still ends.
  child.unref();
  return {
    name: command.name,
    pid: child.pid!,
    ended,
    ending: () => ending,
    signal: (signal) => void child.kill(signal),
    lastLines: async (lines) =>
      (await readFile(command.logFile, "utf8")).trimEnd().split("\n").slice(-lines).join("\n"),
  };
}

/**
 * Polls until the server answers.
 * @throws {LockstepError} STACK_UNAVAILABLE it ended, or did not answer in time; the message has its last lines
 */
export async function untilReady(
  server: ServerProcess,
  options: { answers: () => Promise<boolean>; timeoutMs: number },
): Promise<void> {
  const deadline = performance.now() + options.timeoutMs;
  while (!(await options.answers())) {
    const ending = server.ending();
    if (ending !== null || performance.now() > deadline) {
      const what = ending ?? `did not answer within ${options.timeoutMs} ms`;
      throw new LockstepError("STACK_UNAVAILABLE", `${server.name} ${what}:\n${await server.lastLines(15)}`, {
        details: { server: server.name, pid: server.pid },
      });
    }
    await sleep(READY_POLL_MS);
  }
}

/** Sends each signal in turn until one has ended the process, and SIGKILL at last. */
export async function endServer(
  server: ServerProcess,
  steps: ReadonlyArray<{ signal: NodeJS.Signals; waitMs: number }>,
): Promise<void> {
  for (const step of [...steps, { signal: "SIGKILL" as const, waitMs: KILL_WAIT_MS }]) {
    if (server.ending() !== null) return;
    server.signal(step.signal);
    const patience = new AbortController();
    const timedOut = sleep(step.waitMs, "timeout", { signal: patience.signal }).catch(() => "aborted");
    const outcome = await Promise.race([server.ended, timedOut]);
    patience.abort();
    if (outcome !== "timeout") return;
  }
  throw new LockstepError("STACK_UNAVAILABLE", `${server.name} (pid ${server.pid}) did not end, not even by SIGKILL`);
}

const READY_POLL_MS = 25;
/** SIGKILL is not waited upon by the process, only by the kernel: seconds mean that the disk hangs. */
const KILL_WAIT_MS = 10_000;
