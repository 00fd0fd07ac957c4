/**
 * A lock between processes of one machine: a file that names its holder. A holder that has died is no holder.
 *
 * Two waiters may both find the holder dead, and the slower one then removes the lock of the faster: both work. So this
 * is for work that is merely wasteful when done twice.
 */
import { randomUUID } from "node:crypto";
import { link, readFile, rm, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

import { LockstepError } from "../errors.ts";

const POLL_MS = 100;

/**
 * Runs `work` while no other process holds the same lock.
 * @throws {LockstepError} STACK_UNAVAILABLE another process held it for longer than `timeoutMs`
 */
export async function withFileLock<T>(
  path: string,
  options: { timeoutMs: number },
  work: () => Promise<T>,
): Promise<T> {
  const deadline = performance.now() + options.timeoutMs;
  while (!(await take(path))) {
    const holder = await holderOf(path);
    if (holder !== null && !isAlive(holder)) {
      await rm(path, { force: true });
      continue;
    }
    if (performance.now() > deadline) {
      const message = `${path} has been held by another process (${holder}) for ${options.timeoutMs} ms`;
      throw new LockstepError("STACK_UNAVAILABLE", message, { details: { path, holder } });
    }
    await sleep(POLL_MS);
  }
  try {
    return await work();
  } finally {
    await rm(path, { force: true });
  }
}

/** The file appears with its content, by a link: an empty one could not be told from one whose holder died early. */
async function take(path: string): Promise<boolean> {
  const named = `${path}-${process.pid}-${randomUUID()}`;
  await writeFile(named, String(process.pid));
  try {
    await link(named, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  } finally {
    await rm(named, { force: true });
  }
}

/** @returns null when it was released just now */
async function holderOf(path: string): Promise<number | null> {
  try {
    return Number(await readFile(path, "utf8"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
}
