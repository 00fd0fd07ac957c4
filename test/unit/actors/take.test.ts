import fc from "fast-check";
import { describe, expect, it } from "vitest";

import type { Judged } from "../../../src/actors/judge.ts";
import { memoryOf, QueueBudget } from "../../../src/actors/queue-budget.ts";
import { InputQueues } from "../../../src/actors/take.ts";
import { judged, op, record, testApp } from "./machines.ts";

const app = testApp();
const A = "in.a";
const B = "in.b";
const at = (topic: string, offset: number, ts: number): Judged => op(app, offset, { ts }, { topic });
const queues = (options: Partial<ConstructorParameters<typeof InputQueues>[0]> = {}) =>
  new InputQueues({ topics: [A, B], inputWaitMsMax: 100, recordsHigh: 10, bytesHigh: () => 1e6, ...options });
const answer = (nextOffset: number, answeredAtMs: number, caughtUp = false) => ({
  nextOffset: BigInt(nextOffset),
  askedAtMs: answeredAtMs,
  answeredAtMs,
  caughtUp,
});

describe("what is taken next", () => {
  it("is idle with nothing queued", () => {
    expect(queues().next(0)).toEqual({ kind: "idle" });
  });

  it("is the smallest time, ties in order of definition", () => {
    const q = queues();
    q.enqueue(B, [at(B, 0, 50), at(B, 1, 70)], answer(2, 1));
    q.enqueue(A, [at(A, 0, 60), at(A, 1, 70)], answer(2, 1));
    const order: string[] = [];
    for (let i = 0; i < 3; i += 1) {
      const next = q.next(1);
      expect(next).toMatchObject({ kind: "take", forced: false });
      const { record, timeMs } = q.take((next as { topic: string }).topic, 1);
      order.push(`${record.topic} ${timeMs}`);
    }
    expect(order).toEqual(["in.b 50", "in.a 60", "in.a 70"]);
  });

  it("waits for an input that may have an earlier record, until its wait is over", () => {
    const q = queues();
    q.enqueue(A, [at(A, 0, 60)], answer(1, 1_000, true));
    expect(q.next(1_001)).toEqual({ kind: "wait", untilMs: 1_100 });
    expect(q.next(1_099.9)).toMatchObject({ kind: "wait" });
    expect(q.next(1_100)).toEqual({ kind: "take", topic: A, forced: true });
  });

  it("does not wait for an input that was found empty when the head arrived, or later", () => {
    const q = queues();
    q.enqueue(A, [at(A, 0, 60)], answer(1, 1_000));
    q.enqueue(B, [], answer(0, 999, true));
    expect(q.next(1_001)).toMatchObject({ kind: "wait" });
    q.enqueue(B, [], answer(0, 1_000, true));
    expect(q.next(1_001)).toEqual({ kind: "take", topic: A, forced: false });
    q.enqueue(B, [], answer(0, 1_002, false));
    expect(q.next(1_003)).toMatchObject({ kind: "wait" });
  });

  it("IQ5: an answer that found an input empty says nothing of a record that arrived after it was asked for", () => {
    const q = queues();
    q.enqueue(A, [at(A, 0, 60)], answer(1, 1_000));
    q.enqueue(B, [], { ...answer(0, 1_000, true), askedAtMs: 990 });
    expect(q.next(1_001)).toMatchObject({ kind: "wait" });
    q.enqueue(B, [at(B, 0, 40)], { ...answer(1, 1_002), askedAtMs: 1_001 });
    expect(q.next(1_003)).toEqual({ kind: "take", topic: B, forced: false });
  });

  it("IQ4: waits for an input that is heard of, however long the head has waited for its own turn", () => {
    const q = queues();
    q.enqueue(A, [at(A, 0, 10), at(A, 1, 60)], answer(2, 1_000, true));
    q.enqueue(B, [at(B, 0, 20)], answer(1, 1_000));
    q.take(A, 5_000);
    q.take(B, 5_000); // now there is nothing of B, and what comes next may be earlier than 60
    expect(q.next(5_000)).toEqual({ kind: "wait", untilMs: 5_100 });
    q.enqueue(B, [], answer(1, 5_090)); // no room in the answer, and more to come
    expect(q.next(5_100)).toEqual({ kind: "wait", untilMs: 5_190 });
    expect(q.next(5_190)).toEqual({ kind: "take", topic: A, forced: true });
    q.enqueue(B, [at(B, 1, 30)], answer(2, 5_195));
    expect(q.next(5_195)).toEqual({ kind: "take", topic: B, forced: false });
  });

  it("IQ4: waits anew for an input that was paused until now", () => {
    const q = queues({ recordsHigh: 1 });
    q.enqueue(A, [at(A, 0, 60)], answer(1, 1_000, true));
    q.enqueue(B, [at(B, 0, 20)], answer(1, 1_000));
    expect(q.pausable(B)).toBe(true);
    q.take(B, 2_000);
    expect(q.resumable(B, 3_000)).toBe(true);
    expect(q.next(3_000)).toEqual({ kind: "wait", untilMs: 3_100 });
  });

  it("may wait for ever", () => {
    const q = queues({ inputWaitMsMax: Number.POSITIVE_INFINITY });
    q.enqueue(A, [at(A, 0, 60)], answer(1, 1_000));
    expect(q.next(1e15)).toEqual({ kind: "wait", untilMs: null });
  });

  it("IQ2: is a rejected record at once", () => {
    const q = queues();
    q.enqueue(A, [at(A, 0, 60)], answer(1, 1));
    q.enqueue(B, [judged(app, record(B, 0, { value: null }))], answer(1, 1));
    expect(q.next(1)).toEqual({ kind: "take", topic: B, forced: false });
    q.take(B, 1);
    q.enqueue(A, [], answer(1, 2, true));
    expect(q.next(2)).toMatchObject({ kind: "wait" });
  });

  it("IQ1: takes each record once, in order of offset, and by time where all is queued", () => {
    const input = fc.array(fc.nat({ max: 100 }), { maxLength: 200 });
    fc.assert(
      fc.property(input, input, fc.array(fc.nat({ max: 300 }), { maxLength: 5 }), (a, b, chunks) => {
        const q = queues({ recordsHigh: 1e6 });
        const sources = [A, B].map((topic, i) => ({
          topic,
          all: [a, b][i]!.map((ts, offset) => at(topic, offset, ts)),
          queued: 0,
        }));
        const taken: Judged[] = [];
        const takeAll = (nowMs: number): void => {
          for (let next = q.next(nowMs); next.kind === "take"; next = q.next(nowMs))
            taken.push(q.take(next.topic, nowMs));
        };
        for (const [i, chunk] of [...chunks, 1e6].entries()) {
          for (const source of sources) {
            const part = source.all.slice(source.queued, source.queued + chunk);
            source.queued += part.length;
            q.enqueue(source.topic, part, answer(source.queued, i, source.queued === source.all.length));
          }
          takeAll(i);
        }
        takeAll(1e9);
        for (const { topic, all } of sources) expect(taken.filter((one) => one.record.topic === topic)).toEqual(all);
        expect([q.records(), q.bytes()]).toEqual([0, 0]);
        const merged = mergeByTime(sources.map(({ all }) => all));
        expect(taken.map(({ record }) => `${record.topic} ${record.offset}`)).toEqual(merged);
      }),
    );
  });
});

describe("marks", () => {
  it("pause at the high mark and resume at the low one, once each", () => {
    const q = queues({ recordsHigh: 4 });
    q.enqueue(
      A,
      [0, 1, 2].map((i) => at(A, i, i)),
      answer(3, 1),
    );
    expect([q.pausable(A), q.resumable(A, 1)]).toEqual([false, false]);
    q.enqueue(A, [at(A, 3, 3)], answer(4, 1));
    expect([q.pausable(A), q.pausable(A), q.pausable(B)]).toEqual([true, false, false]);
    q.take(A, 1);
    expect(q.resumable(A, 1)).toBe(false);
    q.take(A, 1);
    expect([q.resumable(A, 1), q.resumable(A, 1)]).toEqual([true, false]);
  });

  it("count bytes too", () => {
    const one = at(A, 0, 1);
    const q = queues({ bytesHigh: () => memoryOf(one) });
    q.enqueue(A, [one], answer(1, 1));
    expect([q.pausable(A), q.bytes(A), q.bytes(B)]).toEqual([true, memoryOf(one), 0]);
  });

  it("IQ3: QB1: a budget shared by any number of queues pauses none that is empty, and all of it is taken in the end", () => {
    const load = fc.array(fc.nat({ max: 40 }), { maxLength: 60 });
    fc.assert(
      fc.property(load, load, fc.integer({ min: 1, max: 200_000 }), fc.nat({ max: 50 }), (a, b, bytesMax, others) => {
        const budget = new QueueBudget(bytesMax);
        const closeOthers = budget.open(others);
        const close = budget.open(2);
        const q = queues({ recordsHigh: 30, bytesHigh: () => budget.share });
        const sources = [A, B].map((topic, i) => ({ topic, answers: [a, b][i]!, next: 0, offset: 0, paused: false }));
        let taken = 0;
        // One round: an answer for each input that is not paused, a batch, and the marks as the loop of a shard looks at them.
        for (let round = 0; sources.some(({ next, answers }) => next < answers.length) || q.records() > 0; round += 1) {
          expect(round).toBeLessThan(1_000);
          if (round === 20) closeOthers();
          for (const source of sources) {
            if (source.paused) continue;
            const records = Array.from({ length: source.answers[source.next] ?? 0 }, (_, i) =>
              at(source.topic, source.offset + i, source.offset + i),
            );
            source.next += 1;
            source.offset += records.length;
            const caughtUp = source.next >= source.answers.length;
            const before = q.bytes(source.topic);
            expect(before).toBeLessThan(Math.max(1, budget.share)); // or it would be paused
            q.enqueue(source.topic, records, answer(source.offset, round, caughtUp));
            if (q.pausable(source.topic)) source.paused = true;
          }
          for (let next = q.next(1e9), n = 0; next.kind === "take" && n < 25; next = q.next(1e9), n += 1) {
            q.take(next.topic, 1e9);
            taken += 1;
          }
          for (const source of sources) {
            if (q.resumable(source.topic, 1)) source.paused = false;
            expect(source.paused && q.records(source.topic) === 0).toBe(false);
          }
        }
        expect(taken).toBe(sources.reduce((sum, { offset }) => sum + offset, 0));
        close();
        closeOthers();
        expect(budget.share).toBe(bytesMax);
      }),
    );
  });

  it("QB1: QB2: the shares of the open queues add up to the budget; closing twice closes once", () => {
    const budget = new QueueBudget(1_000);
    expect(budget.share).toBe(1_000);
    const first = budget.open(3);
    expect(budget.share).toBe(333);
    const second = budget.open(1);
    expect(budget.share).toBe(250);
    first();
    first();
    expect(budget.share).toBe(1_000);
    second();
    budget.open(5_000);
    expect(budget.share).toBe(1);
  });

  it("are forgotten with everything else by clear()", () => {
    const q = queues({ recordsHigh: 1 });
    q.enqueue(A, [at(A, 5, 1)], answer(6, 1, true));
    q.pausable(A);
    q.clear();
    expect([q.records(), q.bytes(), q.nextOffset(A), q.resumable(A, 1), q.caughtUp(1, 1e9)]).toEqual([
      0,
      0,
      null,
      false,
      false,
    ]);
    q.enqueue(A, [at(A, 2, 1)], answer(3, 2));
    expect(q.pausable(A)).toBe(true);
  });
});

describe("being caught up", () => {
  it("needs every input found empty, lately, and nothing queued", () => {
    const q = queues();
    q.enqueue(A, [], answer(0, 1_000, true));
    expect(q.caughtUp(1_000, 50)).toBe(false);
    q.enqueue(B, [at(B, 0, 1)], answer(1, 1_010, true));
    expect(q.caughtUp(1_010, 50)).toBe(false);
    q.take(B, 1);
    expect(q.caughtUp(1_010, 50)).toBe(true);
    expect(q.caughtUp(1_051, 50)).toBe(false);
    q.enqueue(A, [], answer(0, 1_052, false));
    expect(q.caughtUp(1_052, 50)).toBe(false);
  });

  it("knows where the next fetch goes on, past offsets that hold no record", () => {
    const q = queues();
    q.enqueue(A, [at(A, 0, 1)], answer(5, 1));
    expect(q.nextOffset(A)).toBe(5n);
    expect(() => q.enqueue(A, [at(A, 4, 1)], answer(6, 1))).toThrow("offset 4 of in.a was queued");
    expect(() => q.enqueue(A, [], answer(4, 1))).toThrow("before 5");
  });
});

/** Merges by head time; ties and equal heads in order of definition. */
function mergeByTime(inputs: Judged[][]): string[] {
  const left = inputs.map((input) => [...input]);
  const merged: string[] = [];
  for (;;) {
    const heads = left.filter((input) => input.length > 0);
    const first = heads.reduce<Judged[] | null>(
      (best, input) => (best === null || input[0]!.timeMs < best[0]!.timeMs ? input : best),
      null,
    );
    if (!first) return merged;
    const { record } = first.shift()!;
    merged.push(`${record.topic} ${record.offset}`);
  }
}
