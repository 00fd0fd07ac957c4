/** Main's watch over steps, on a clock that the test moves. W: src/runtime/watchdog.ts. */
import { describe, expect, test } from "vitest";

import type { SuspectStore } from "../../../src/actors/ports.ts";
import { targetText } from "../../../src/actors/step-target.ts";
import type { Clock } from "../../../src/clock.ts";
import { LockstepError } from "../../../src/errors.ts";
import { createStepSeat, SEAT_BYTES } from "../../../src/runtime/step-seat.ts";
import { createWatchdog } from "../../../src/runtime/watchdog.ts";
import { turn } from "../../support/fake-ports.ts";

const STEP_MS_MAX = 1_000;
const record = { kind: "record", topic: "in", offset: 5n } as const;

function bed({ failures = 0, stepMsMax = STEP_MS_MAX } = {}) {
  let nowMs = 0;
  const sleepers: { untilMs: number; wake: () => void }[] = [];
  const clock: Clock = {
    wallMs: () => nowMs,
    monotonicMs: () => nowMs,
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        if (signal?.aborted) return resolve();
        sleepers.push({ untilMs: nowMs + ms, wake: resolve });
        if (signal) signal.onabort = () => resolve(); // one sleeps at a time
      }),
  };
  const counted: Parameters<SuspectStore["count"]>[0][] = [];
  const lines: Record<string, unknown>[] = [];
  const take = (fields: object) => void lines.push(fields as Record<string, unknown>);
  const memory = new SharedArrayBuffer(SEAT_BYTES);
  const watchdog = createWatchdog({
    stepMsMax,
    topics: ["in"],
    suspects: {
      async count(attempt) {
        if (failures-- > 0) throw new LockstepError("STORE_UNAVAILABLE", "away");
        counted.push(attempt);
      },
    },
    clock,
    log: { debug: take, info: take, warn: take, error: take, child: () => ({}) } as never,
  });
  const ended = new AbortController();
  return {
    steps: createStepSeat(memory, ["in"]).shard(2),
    watchdog,
    memory,
    counted,
    lines,
    ended,
    /** Time passes: in one leap, as for a process that was stopped, or look by look. */
    async pass(ms: number, { leap = false } = {}) {
      for (let left = ms; left > 0; ) {
        const by = leap ? left : Math.min(left, 10);
        nowMs += by;
        left -= by;
        const due = sleepers.filter(({ untilMs }) => untilMs <= nowMs);
        for (const each of due) sleepers.splice(sleepers.indexOf(each), 1);
        for (const { wake } of due) wake();
        await turn();
      }
    },
    stuck: () => watchdog.stuck(memory, ended.signal),
  };
}

async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  void promise.then(() => {
    settled = true;
  });
  await turn();
  return settled;
}

describe("a step", () => {
  test("that is seen for its budget is stuck", async () => {
    const { steps, stuck, pass } = bed();
    const found = stuck();
    steps.begin(record);
    await pass(STEP_MS_MAX * 0.9);
    expect(await isSettled(found)).toBe(false);
    await pass(STEP_MS_MAX * 0.5);
    expect(await found).toBe(true);
  });

  test("W1, W3: is judged alone: a thousand steps, each within its budget, take as long as they like", async () => {
    const { steps, stuck, pass, ended } = bed();
    const found = stuck();
    for (let i = 0; i < 100; i += 1) {
      steps.begin(record);
      await pass(STEP_MS_MAX * 0.5);
      steps.end();
    }
    ended.abort();
    expect(await found).toBe(false);
  });

  test("W4: is not charged for time in which main did not run", async () => {
    const { steps, stuck, pass } = bed();
    const found = stuck();
    steps.begin(record);
    await pass(200);
    await pass(3_600_000, { leap: true });
    await pass(200);
    expect(await isSettled(found)).toBe(false);
    await pass(STEP_MS_MAX);
    expect(await found).toBe(true);
  });

  test("may take for ever when the budget is 0", async () => {
    expect(await bed({ stepMsMax: 0 }).stuck()).toBe(false);
  });
});

describe("a thread that has ended", () => {
  const ofMemory = Object.assign(new Error("heap"), { code: "ERR_WORKER_OUT_OF_MEMORY" });
  const how = { stuck: false, error: new Error("exit"), worker: 0 };
  const signal = new AbortController().signal;

  test.each([
    ["STEP_TIMEOUT", { ...how, stuck: true }],
    ["STEP_OUT_OF_MEMORY", { ...how, error: ofMemory }],
    ["STEP_CRASHED", how],
  ])("is counted as %s", async (code, ended) => {
    const { steps, watchdog, memory, counted } = bed();
    steps.begin(record);
    await watchdog.ended(memory, ended, signal);
    expect(counted).toEqual([{ shard: 2, target: targetText(record), replay: false, code, add: 1 }]);
  });

  test("is not counted when it was not stepping, nor a second time when its owner has counted it", async () => {
    const { steps, watchdog, memory, counted } = bed();
    steps.begin(record);
    steps.end();
    await watchdog.ended(memory, how, signal);
    expect(counted).toEqual([]);
    steps.counted(true);
    steps.replaying(true);
    steps.begin(record);
    await watchdog.ended(memory, how, signal);
    expect(counted).toMatchObject([{ replay: true, add: 0 }]);
  });

  test("W5: is waited for until it is counted, but not once the process is to stop", async () => {
    const { steps, watchdog, memory, counted, pass } = bed({ failures: 3 });
    steps.begin(record);
    const done = watchdog.ended(memory, how, signal);
    await pass(300);
    expect(await isSettled(done)).toBe(false);
    await pass(10_000);
    await done;
    expect(counted).toHaveLength(1);

    const other = bed({ failures: 1_000 });
    const stopping = new AbortController();
    other.steps.begin(record);
    const given = other.watchdog.ended(other.memory, how, stopping.signal);
    await turn();
    stopping.abort();
    await given;
    expect(other.counted).toEqual([]);
  });

  test("W6: is not counted when the heap was nearly full before the fold: its state has outgrown it", async () => {
    const { steps, watchdog, memory, counted, lines } = bed();
    steps.noteHeap();
    new Int32Array(memory)[7] = new Int32Array(memory)[8]! * 0.8;
    steps.begin(record);
    await watchdog.ended(memory, { ...how, error: ofMemory }, signal);
    expect(counted).toEqual([]);
    expect(lines).toMatchObject([{ event: "heap-full" }]);
  });
});
