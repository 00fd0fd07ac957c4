/**
 * Main's watch over the steps of its workers: it ends a thread whose step does not end, and has the attempt counted.
 *
 *   watching -- one step seen for stepMsMax --> thread ended --\
 *   watching -- the thread died by itself -------------------- > counted in Postgres --> another thread is started
 *
 * Invariants
 *   W3  The budget is one step's, not a commit's: a replay, or a batch, may take as long as it likes.
 *   W4  Time in which main itself did not run is not charged to a step: a process that was stopped, or a machine that slept, ends
 *       no worker. Each look adds at most twice its interval.
 *   W5  An attempt stands in Postgres before the next thread starts, unless the process is to stop: else a step that kills its
 *       thread would be tried for ever.
 *   W6  A thread that dies of a heap that was nearly full before the fold is no fault of the step: nothing is counted.
 *
 * What becomes of what was counted: care.ts. What a thread that is ended in the middle of anything leaves is what a crash there
 * leaves (docs/protocol.md, the crash table): its shard is fenced by the next owner as any other's.
 */
import type { SuspectStore } from "../actors/ports.ts";
import { targetText } from "../actors/step-target.ts";
import type { Clock } from "../clock.ts";
import { type ErrorCode, isLockstepError } from "../errors.ts";
import type { Log } from "../log.ts";
import { lookAtSeat, readSeat, type SeatReading } from "./step-seat.ts";

/** Looks at a seat within a budget: the step that hangs is found at most a tenth later. */
const LOOKS = 10;
const LOOK_MS_MIN = 20;
/** Of the heap before a fold, from which on running out of memory is no longer the step's fault. */
const HEAP_SHARE_FULL = 0.75;

const RETRY_MS_MIN = 200;
const RETRY_MS_MAX = 5_000;

export interface WatchdogOptions {
  /** Budget of one step, ms; 0: steps may take for ever. */
  readonly stepMsMax: number;
  readonly topics: readonly string[];
  readonly suspects: Pick<SuspectStore, "count">;
  readonly clock: Clock;
  readonly log: Log;
}

export interface Watchdog {
  /** Looks at a seat until the signal aborts. @returns true when a step has exceeded its budget: the thread must be ended */
  stuck(memory: SharedArrayBuffer, signal: AbortSignal): Promise<boolean>;
  /**
   * Counts the attempt of a thread that has ended, if it was stepping. Returns once it stands, or the signal aborts.
   * @returns whether it was the step that ended it
   */
  ended(
    memory: SharedArrayBuffer,
    how: { stuck: boolean; error: unknown; worker: number },
    signal: AbortSignal,
  ): Promise<boolean>;
}

export function createWatchdog(options: WatchdogOptions): Watchdog {
  const { stepMsMax, topics, suspects, clock, log } = options;
  const lookMs = Math.max(LOOK_MS_MIN, stepMsMax / LOOKS);

  return {
    async stuck(memory, signal) {
      if (stepMsMax === 0) return false;
      let serial: number | null = null;
      let forMs = 0;
      let lastMs = clock.monotonicMs();
      while (!signal.aborted) {
        await clock.sleep(lookMs, signal);
        const nowMs = clock.monotonicMs();
        const passedMs = Math.min(nowMs - lastMs, 2 * lookMs); // W4
        lastMs = nowMs;
        const seat = lookAtSeat(memory); // W7: it runs, and writes
        if (!seat.stepping || seat.serial !== serial) forMs = 0;
        else forMs += passedMs;
        serial = seat.stepping ? seat.serial : null;
        if (forMs >= stepMsMax && !signal.aborted) return true;
      }
      return false;
    },

    async ended(memory, { stuck, error, worker }, signal) {
      const seat = readSeat(memory, topics);
      const { step } = seat;
      if (step === null) return false;
      const code = codeOf(seat, { stuck, error });
      const { shard, target, replay, counted } = step;
      const details = { worker, shard, step: target && targetText(target), replay, code };
      if (code === null) {
        log.error(
          { event: "heap-full", ...details, heapShare: seat.heapShare },
          "a worker ran out of memory, which was nearly full before the step: its state has outgrown LOCKSTEP_WORKER_HEAP_MB",
        );
        return false;
      }
      log.error(
        { event: "step-ended-worker", ...details },
        "a step did not come to its end, and took its worker with it",
      );
      if (target === null) return true;
      let retryMs = RETRY_MS_MIN;
      do {
        try {
          await suspects.count({ shard, target: targetText(target), replay, code, add: counted ? 0 : 1 });
          return true;
        } catch (cause) {
          if (!isLockstepError(cause)) throw cause;
          log.warn(
            { event: "attempt-not-counted", ...details, err: cause },
            "could not count the attempt; trying again",
          );
        }
        await clock.sleep(retryMs, signal);
        retryMs = Math.min(retryMs * 2, RETRY_MS_MAX);
      } while (!signal.aborted); // W5
      return true;
    },
  };
}

/** @returns null when it is no fault of the step */
function codeOf({ heapShare }: SeatReading, { stuck, error }: { stuck: boolean; error: unknown }): ErrorCode | null {
  if (stuck) return "STEP_TIMEOUT";
  if ((error as { code?: unknown } | null)?.code !== "ERR_WORKER_OUT_OF_MEMORY") return "STEP_CRASHED";
  return heapShare < HEAP_SHARE_FULL ? "STEP_OUT_OF_MEMORY" : null; // W6
}
