/** What a worker is stepping, as main reads it. W: src/runtime/step-seat.ts. */
import { expect, test } from "vitest";

import type { StepTarget } from "../../../src/actors/step-target.ts";
import { createStepSeat, readSeat, SEAT_BYTES } from "../../../src/runtime/step-seat.ts";

const TOPICS = ["in.a", "in.b"];
const record: StepTarget = { kind: "record", topic: "in.b", offset: 9_007_199_254_740_993n };
const timer = (key: string): StepTarget => ({ kind: "timer", actorType: "tally", key, timerId: "bomb", dueMs: 12 });

function bed() {
  const memory = new SharedArrayBuffer(SEAT_BYTES);
  return { seat: createStepSeat(memory, TOPICS), read: () => readSeat(memory, TOPICS) };
}

test("W2: what is stepped can be read by name, and nothing before and after", () => {
  const { seat, read } = bed();
  expect(read()).toMatchObject({ step: null, heapShare: 0 });
  const steps = seat.shard(3);
  steps.begin(record);
  expect(read().step).toEqual({ shard: 3, target: record, replay: false, counted: false });
  for (const key of ["BTC-USD/5m", "a\u0000b", "\ud800", "\u{1f4a3}".repeat(200)]) {
    steps.begin(timer(key));
    expect(read().step).toEqual({ shard: 3, target: timer(key), replay: false, counted: false });
  }
  steps.end();
  expect(read().step).toBeNull();
});

test("W2: a timer whose name does not fit is seen, and not by name", () => {
  const { seat, read } = bed();
  seat.shard(0).begin(timer("x".repeat(5_000)));
  expect(read().step).toMatchObject({ target: null });
});

test("W1: every begin and every end makes another serial, also of the same record", () => {
  const { seat, read } = bed();
  const steps = seat.shard(0);
  const serials = [read().serial];
  for (let i = 0; i < 3; i += 1) {
    steps.begin(record);
    serials.push(read().serial);
    steps.end();
    serials.push(read().serial);
  }
  expect(new Set(serials).size).toBe(7);
});

test("replay and count are a shard's own, though a thread has one seat", () => {
  const { seat, read } = bed();
  const [one, other] = [seat.shard(1), seat.shard(2)];
  one.replaying(true);
  one.counted(true);
  other.begin(record);
  expect(read().step).toMatchObject({ shard: 2, replay: false, counted: false });
  one.begin(record);
  expect(read().step).toMatchObject({ shard: 1, replay: true, counted: true });
});

test("the heap before a fold is a share of its limit", () => {
  const { seat, read } = bed();
  seat.shard(0).noteHeap();
  expect(read().heapShare).toBeGreaterThan(0);
  expect(read().heapShare).toBeLessThan(1);
});
