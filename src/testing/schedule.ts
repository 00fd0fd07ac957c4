/**
 * Virtual time: a list of what happens when. Time passes only from one entry to the next, so a minute takes as long as the work in
 * it, and two runs with the same entries are the same run.
 *
 * Invariants
 *   SC1  Entries run in the order of their time, then in the order in which they were made.
 *   SC2  Between two entries every promise that can go on has gone on: what code awaits is never decided by how fast a machine is.
 */
import type { Clock } from "../clock.ts";
import { assert } from "../errors.ts";

export interface Schedule {
  readonly nowMs: number;
  /** Entries that have run. */
  readonly ran: number;
  /** Runs `act` in `delayMs`, not before what is being run now has ended. @returns takes it back */
  after(delayMs: number, act: () => void): () => void;
  /**
   * Runs entries until `done` says so, or the time is over, or nothing is left.
   * @returns whether `done` said so
   */
  runUntil(done: () => boolean, options: { readonly timeoutMs: number }): Promise<boolean>;
  /** Runs everything of the next so many ms. */
  runFor(ms: number): Promise<void>;
  /** What an entry threw, which is a fault of whoever made it: the run ends with it. */
  fail(error: unknown): void;
}

interface Entry {
  readonly atMs: number;
  readonly number: number;
  act: (() => void) | null;
}

/** Entries after which whoever else is in this process has a turn too: the test runner, which wants to hear from it. */
const ENTRIES_A_TURN = 1_000;

/** Wall time of a simulation begins here, so that times in logs look like times. */
const WALL_START_MS = Date.UTC(2030, 0, 1);

export function createSchedule(): Schedule {
  const heap: Entry[] = [];
  let nowMs = 0;
  let made = 0;
  let ran = 0;
  let failure: { readonly error: unknown } | null = null;
  let running = false;

  async function run(until: () => boolean, limitMs: number): Promise<boolean> {
    assert(!running, "a schedule is run by one caller at a time");
    running = true;
    try {
      await turned();
      for (;;) {
        if (failure) throw failure.error;
        if (until()) return true;
        const next = heap[0];
        if (next === undefined || next.atMs > limitMs) {
          nowMs = Math.max(nowMs, Math.min(limitMs, next?.atMs ?? limitMs));
          return false;
        }
        pop(heap);
        nowMs = next.atMs;
        if (next.act === null) continue; // taken back: nothing ran, so nothing can go on
        ran += 1;
        next.act();
        await (ran % ENTRIES_A_TURN === 0 ? turned() : settled());
      }
    } finally {
      running = false;
    }
  }

  return {
    get nowMs() {
      return nowMs;
    },
    get ran() {
      return ran;
    },
    after(delayMs, act) {
      assert(delayMs >= 0, `time does not go back: ${delayMs} ms`);
      const entry: Entry = { atMs: nowMs + delayMs, number: made++, act };
      push(heap, entry);
      return () => {
        entry.act = null;
      };
    },
    runUntil: (done, { timeoutMs }) => run(done, nowMs + timeoutMs),
    async runFor(ms) {
      await run(() => false, nowMs + ms);
    },
    fail(error) {
      failure ??= { error };
    },
  };
}

/**
 * SC2, from within a promise's continuation: Node runs every microtask that is there, and those that follow from them, before the next tick.
 * Several times as fast as an immediate, for which the event loop turns once.
 */
function settled(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}

/** SC2, from anywhere: Node runs every microtask before the next immediate. */
function turned(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** A clock on virtual time. `after` is whose timers these are: the schedule's own, or those of a process that can be paused. */
export function virtualClock(schedule: Schedule, after: Schedule["after"] = schedule.after): Clock {
  return {
    wallMs: () => WALL_START_MS + schedule.nowMs,
    monotonicMs: () => schedule.nowMs,
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        if (signal?.aborted) return resolve();
        const done = () => {
          cancel();
          signal?.removeEventListener("abort", done);
          resolve();
        };
        const cancel = after(ms, done);
        signal?.addEventListener("abort", done, { once: true });
      }),
  };
}

// ---------------------------------------------------------------------------------------------------------------- binary heap

function isBefore(a: Entry, b: Entry): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.number < b.number); // SC1
}

function push(heap: Entry[], entry: Entry): void {
  let at = heap.push(entry) - 1;
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (!isBefore(entry, heap[parent]!)) break;
    heap[at] = heap[parent]!;
    at = parent;
  }
  heap[at] = entry;
}

function pop(heap: Entry[]): void {
  const last = heap.pop()!;
  if (heap.length === 0) return;
  let at = 0;
  for (;;) {
    let child = at * 2 + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child += 1;
    if (!isBefore(heap[child]!, last)) break;
    heap[at] = heap[child]!;
    at = child;
  }
  heap[at] = last;
}
