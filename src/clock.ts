/**
 * Time and chance, handed to whoever needs them, so that a test can hold both.
 *
 * Wall time is only ever logged or compared with wall time. Everything that is waited for, or that moves stream time, runs
 * on the monotonic clock: a VM whose wall clock jumps must not make records late.
 */
import { randomUUID } from "node:crypto";
import { performance } from "node:perf_hooks";

export interface Clock {
  /** ms since the Unix epoch. */
  wallMs(): number;
  /** ms since an arbitrary start; never falls. */
  monotonicMs(): number;
  /** Resolves after `ms`, or at once when the signal aborts. Never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export interface IdSource {
  /** A random UUID: the token of an ownership. */
  token(): string;
}

export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const done = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal?.addEventListener("abort", done, { once: true });
    }),
};

/** Resolves when the signal has aborted. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

export const randomIds: IdSource = { token: () => randomUUID() };
