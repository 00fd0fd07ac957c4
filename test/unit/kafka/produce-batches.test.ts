/** Cutting output records into produce requests. */
import fc from "fast-check";
import { expect, test } from "vitest";

import type { OutputRecord } from "../../../src/actors/record.ts";
import { assertAllSent, batchRounds, recordBytes } from "../../../src/kafka/produce-batches.ts";

const record = (topic: string, partition: number, value: Buffer): OutputRecord => ({
  topic,
  partition,
  key: null,
  value,
  headers: [],
  timestampMs: 0n,
});

test("no records, no request", () => {
  expect(batchRounds([], 100)).toEqual([]);
});

test("rounds keep the order of every partition, and no batch but of one record exceeds the limit", () => {
  const anyRecord = fc
    .tuple(fc.constantFrom("a", "b"), fc.nat(2), fc.uint8Array({ maxLength: 200 }))
    .map(([topic, partition, value]) => record(topic, partition, Buffer.from(value)));
  fc.assert(
    fc.property(fc.array(anyRecord, { maxLength: 60 }), fc.integer({ min: 1, max: 1_000 }), (records, limit) => {
      const rounds = batchRounds(records, limit);
      for (const round of rounds) {
        const partitions = round.map(({ topic, partition }) => `${topic}/${partition}`);
        expect(new Set(partitions).size).toBe(partitions.length);
        for (const batch of round) {
          const bytes = batch.records.reduce((sum, each) => sum + recordBytes(each), 0);
          expect(batch.records.length === 1 || bytes <= limit).toBe(true);
        }
      }
      for (const topic of ["a", "b"]) {
        for (const partition of [0, 1, 2]) {
          const isHere = (each: { topic: string; partition: number }) =>
            each.topic === topic && each.partition === partition;
          const sent = rounds.flatMap((round) => round.filter(isHere).flatMap((batch) => batch.records));
          expect(sent.map(({ value }) => value)).toEqual(records.filter(isHere).map(({ value }) => value));
        }
      }
    }),
  );
});

test("a record or a byte that would not be sent is a bug", () => {
  const records = [
    record("t", 0, Buffer.from("one")),
    record("t", 1, Buffer.from("two")),
    record("t", 0, Buffer.alloc(0)),
  ];
  const rounds = batchRounds(records, 40);
  expect(() => assertAllSent(records, rounds)).not.toThrow();
  const differs = expect.objectContaining({ code: "REDO_DIFFERS" });
  expect(() => assertAllSent(records, rounds.slice(1))).toThrow(differs);
  expect(() => assertAllSent(records, [...rounds, rounds.at(-1)!])).toThrow(differs);
  expect(() => assertAllSent([...records.slice(1), record("t", 0, Buffer.from("more"))], rounds)).toThrow(differs);
});
