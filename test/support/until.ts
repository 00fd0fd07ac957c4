/**
 * Waiting in tests: for a condition, never for a time.
 */
import { setTimeout as sleep } from "node:timers/promises";

const POLL_MS = 20;

/**
 * Polls until the condition gives something true, and returns that.
 * @param options.what      what is waited for, to complete "waited 10000 ms for ..."
 * @param options.timeoutMs a limit against hanging, not an expectation; default 30,000
 * @throws {Error} it never came true; the message has the last value, or the last error of the condition as its cause
 */
export async function until<T>(
  condition: () => T | Promise<T>,
  options: { what: string; timeoutMs?: number },
): Promise<NonNullable<Exclude<T, false>>> {
  const timeoutMs = options.timeoutMs ?? 30_000;
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const outcome = await attempt(condition);
    if (outcome.error === undefined && outcome.value) return outcome.value as NonNullable<Exclude<T, false>>;
    if (performance.now() > deadline) {
      const last =
        outcome.error === undefined ? `last value: ${String(outcome.value)}` : `last error: ${outcome.error}`;
      throw new Error(`waited ${timeoutMs} ms for ${options.what}; ${last}`, { cause: outcome.error });
    }
    await sleep(POLL_MS);
  }
}

/** A condition may throw while what it asks is not up yet; the last such error is kept for the message. */
async function attempt<T>(condition: () => T | Promise<T>): Promise<{ value?: T; error?: unknown }> {
  try {
    return { value: await condition() };
  } catch (error) {
    return { error };
  }
}
