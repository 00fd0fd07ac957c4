/** Batches of records byte by byte, beside those of kafkajs. */
import { createRequire } from "node:module";
import fc from "fast-check";
import { expect, test } from "vitest";

import type { OutputRecord } from "../../../src/actors/record.ts";
import { encodeProduce } from "../../../src/kafka/produce-request.ts";
import { encodeBatch } from "../../../src/kafka/record-batch.ts";

const require = createRequire(import.meta.url);
const kafkajsProduce = require("kafkajs/src/protocol/requests/produce/v7/request") as (fields: object) => {
  encode(): Promise<{ buffer: Buffer }>;
};
const Decoder = require("kafkajs/src/protocol/decoder") as new (bytes: Buffer) => object;
const decodeBatch = require("kafkajs/src/protocol/recordBatch/v0/decoder") as (decoder: object) => Promise<{
  records: { offset: string; key: Buffer | null; value: Buffer | null; timestamp: string; headers: unknown }[];
}>;

const anyBytes = fc.oneof(
  fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  fc.constantFrom(63, 64, 8_191, 8_192).map((size) => Buffer.alloc(size, 7)),
);
const anyRecord = fc.record({
  topic: fc.constant("t"),
  partition: fc.constant(0),
  key: fc.option(anyBytes),
  value: fc.option(anyBytes),
  // Names of their own, each with a value: what kafkajs encodes as it is. A letter first, so that they keep their order.
  headers: fc
    .uniqueArray(
      fc.string({ maxLength: 20 }).map((name) => `h${name}é`),
      { maxLength: 4 },
    )
    .chain((names) => fc.tuple(...names.map((name) => anyBytes.map((value) => [name, value] as const)))),
  // kafkajs sorts timestamps as texts, so they have equally many digits.
  timestampMs: fc.bigInt({ min: 1_000_000_000_000n, max: 9_999_999_999_999n }),
});

test("RB1: a request has the bytes of kafkajs'", async () => {
  const producer = fc.record({
    transactionalId: fc.option(fc.string({ minLength: 1, maxLength: 20 }), { nil: undefined }),
    producerId: fc.bigInt({ min: 0n, max: 2n ** 62n }).map(String),
    producerEpoch: fc.nat(32_767),
    firstSequence: fc.nat(2 ** 31 - 1),
  });
  await fc.assert(
    fc.asyncProperty(producer, fc.array(anyRecord, { minLength: 1, maxLength: 200 }), async (of, records) => {
      const { firstSequence, ...identity } = of;
      const topics = [
        { topic: "t", partitions: [{ partition: 3, firstSequence, records }] },
        { topic: "über", partitions: [{ partition: 0, firstSequence: 0, records: records.slice(0, 1) }] },
      ];
      const theirs = await kafkajsProduce({
        ...identity,
        acks: -1,
        timeout: 1_234,
        topicData: topics.map(({ topic, partitions }) => ({
          topic,
          partitions: partitions.map(({ records: ofBatch, ...batch }) => ({
            ...batch,
            messages: ofBatch.map(toMessage),
          })),
        })),
      }).encode();
      const ours = encodeProduce({ ...identity, timeoutMs: 1_234, topics });
      expect(ours.equals(theirs.buffer)).toBe(true);
    }),
    { numRuns: 200 },
  );
});

test("RB2: headers keep order and names, and one without a value has none", async () => {
  const headers = [
    ["b", Buffer.from("1")],
    ["a", null],
    ["1", Buffer.alloc(0)],
    ["b", Buffer.from("2")],
  ] as const;
  const record = { key: null, value: Buffer.from("v"), headers, timestampMs: 5n };
  const bytes = encodeBatch([record], {
    producerId: "-1",
    producerEpoch: -1,
    firstSequence: -1,
    isTransactional: false,
  });
  const written = bytes.toString("latin1");
  // Number of headers, then of each the length of its name and of its value, doubled; -1 is 1.
  expect(written.endsWith("\x08\x02b\x021\x02a\x01\x021\x00\x02b\x022")).toBe(true);
});

test("records whose times are not in order, or before 1970, come out as they went in", async () => {
  const times = [5n, -1n, 1_700_000_000_000n, 0n, 9_999_999_999_999n, 1_700_000_000_000_000_001n];
  const records = times.map((timestampMs) => ({ key: Buffer.from("k"), value: null, headers: [], timestampMs }));
  const bytes = encodeBatch(records, { producerId: "9", producerEpoch: 1, firstSequence: 2, isTransactional: true });
  const decoded = await decodeBatch(new Decoder(bytes));
  expect(decoded.records.map(({ timestamp }) => BigInt(timestamp))).toEqual(times);
  expect(decoded.records.map(({ offset }) => offset)).toEqual(times.map((_, index) => String(index)));
});

test("a batch without records is a bug", () => {
  const origin = { producerId: "-1", producerEpoch: -1, firstSequence: -1, isTransactional: false };
  expect(() => encodeBatch([], origin)).toThrow("without records");
});

function toMessage({ key, value, headers, timestampMs }: OutputRecord) {
  return { key, value, headers: Object.fromEntries(headers), timestamp: String(timestampMs) };
}
