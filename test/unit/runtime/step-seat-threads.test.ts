/**
 * A seat that one thread writes while another reads it, as in a process: the watchdog looks at workers that run. W: step-seat.ts.
 *
 * Timers, for their names are text: long and short ones in turn, so that a name read half is one that cannot be decoded.
 */
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { build } from "vite";
import { afterAll, beforeAll, expect, test } from "vitest";

import type { StepTarget } from "../../../src/actors/step-target.ts";
import type { Clock } from "../../../src/clock.ts";
import { lookAtSeat, readSeat, SEAT_BYTES } from "../../../src/runtime/step-seat.ts";
import { createWatchdog } from "../../../src/runtime/watchdog.ts";
import { until } from "../../support/until.ts";

const KEY_LENGTHS = [1, 900];
/** Reads of one pass. Where names are read of a thread that runs, one in a few hundred is torn. */
const READS = 50_000;

const memory = new SharedArrayBuffer(SEAT_BYTES);
let writer: Worker;

beforeAll(async () => {
  const bundle = await build({
    configFile: false,
    logLevel: "error",
    build: {
      write: false,
      minify: false,
      ssr: fileURLToPath(new URL("../../../src/runtime/step-seat.ts", import.meta.url)),
    },
  });
  const [{ code }] = (bundle as unknown as { output: [{ code: string }] }).output;
  const program = `${code}
    import { workerData } from "node:worker_threads";
    const steps = createStepSeat(workerData, []).shard(1);
    const names = ${JSON.stringify(KEY_LENGTHS)}.map((length) =>
      ({ kind: "timer", actorType: "tally", key: "k".repeat(length), timerId: "t", dueMs: 1 }));
    for (let n = 0; ; n += 1) steps.begin(names[n % names.length]);`;
  writer = new Worker(new URL(`data:text/javascript,${encodeURIComponent(program)}`), { workerData: memory });
  await until(() => lookAtSeat(memory).stepping, { what: "the other thread to step", timeoutMs: 20_000 });
});

afterAll(async () => {
  await writer.terminate();
});

test("W7: a watchdog looks at a thread that begins timers without end, and is never thrown at", async () => {
  const ended = new AbortController();
  let looks = 0;
  // Time in which nothing is waited for: as many looks as there can be.
  const clock: Clock = {
    wallMs: () => 0,
    monotonicMs: () => 0,
    sleep: async () => {
      looks += 1;
      if (looks === READS) ended.abort();
    },
  };
  const log = { warn() {}, error() {} } as never;
  const suspects = { count: async () => {} };
  const watchdog = createWatchdog({ stepMsMax: 1_000, topics: [], suspects, clock, log });
  expect(await watchdog.stuck(memory, ended.signal)).toBe(false);
});

test("W2: who reads a seat that is still written to gets a name that was written, or none", () => {
  const names = KEY_LENGTHS.map((length) => timer("k".repeat(length)));
  const serials = new Set<number>();
  for (let read = 0; read < READS; read += 1) {
    const { serial, step } = readSeat(memory, []);
    serials.add(serial);
    if (step?.target) expect(names).toContainEqual(step.target);
  }
  expect(serials.size).toBeGreaterThan(1); // it was written to meanwhile
});

test("W2: a name that cannot be decoded is none", () => {
  const dead = new SharedArrayBuffer(SEAT_BYTES);
  new Int32Array(dead, 0, 5).set([1, 2, 7, 0, 3]); // a timer of shard 7, whose name is three NULs
  expect(readSeat(dead, []).step).toEqual({ shard: 7, target: null, replay: false, counted: false });
});

function timer(key: string): StepTarget {
  return { kind: "timer", actorType: "tally", key, timerId: "t", dueMs: 1 };
}
