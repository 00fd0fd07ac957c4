/**
 * The stack's side of the reaper: a child process that ends the servers and removes their data when this process is gone.
 *
 * Invariants
 *   R1  A server is named to the reaper in the same turn of the event loop in which it was started.
 *   R2  After the parent's end, also by SIGKILL, every named server ends, and its data is removed.
 */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

import { LockstepError } from "../errors.ts";

export interface Reaper {
  readonly pid: number;
  /** @throws {LockstepError} STACK_UNAVAILABLE it has finished: what is started now would outlive us */
  assertWatching(): void;
  /** @param signal the first one to try; SIGKILL follows */
  watch(pid: number, signal: NodeJS.Signals): void;
  /** The folder is removed after the servers have ended. */
  remove(folder: string): void;
  /** Does the work now, and resolves when all is ended and removed. */
  finish(): Promise<void>;
}

/** @throws {LockstepError} STACK_UNAVAILABLE it cannot be started */
export async function startReaper(env: NodeJS.ProcessEnv): Promise<Reaper> {
  const script = fileURLToPath(new URL("./reaper.mjs", import.meta.url));
  const child = spawn(process.execPath, [script], {
    detached: true,
    stdio: ["pipe", "pipe", "ignore"],
    env: { ...env, NODE_OPTIONS: "" }, // loaders and inspectors of the host are none of its business
  });
  const ended = new Promise<void>((resolve) => {
    child.once("exit", () => resolve());
  });
  await new Promise<void>((resolve, reject) => {
    const fail = (how: string): void =>
      reject(new LockstepError("STACK_UNAVAILABLE", `the reaper of the stack (${script}) ${how}`));
    child.once("error", (error) => fail(error.message));
    child.once("exit", (code) => fail(`exited with code ${code}`));
    child.stdout.once("data", () => resolve());
  });
  child.stdout.destroy();
  // A broken pipe means that someone ended the reaper: the servers are then left to `finish` and to its caller.
  child.stdin.on("error", () => {});
  child.unref();
  (child.stdin as unknown as { unref(): void }).unref();

  const tell = (message: Record<string, unknown>): void => void child.stdin.write(`${JSON.stringify(message)}\n`);
  let finished = false;
  return {
    pid: child.pid!,
    assertWatching() {
      if (finished) throw new LockstepError("STACK_UNAVAILABLE", "the stack was stopped: nothing of it starts again");
    },
    watch: (pid, signal) => tell({ watch: pid, signal }),
    remove: (folder) => tell({ remove: folder }),
    async finish() {
      finished = true;
      child.ref();
      child.stdin.end();
      await ended;
    },
  };
}
