/**
 * The independent reader shows what is there, and only that.
 */
import { CompressionTypes, Kafka, logLevel } from "kafkajs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { readCommitted } from "../../src/stack/console-consumer.ts";
import { committedRecords } from "../support/console-consumer.ts";
import { freshTopicPrefix, testStack } from "../support/stack.ts";

const prefix = freshTopicPrefix();
const { brokers, kafkaLibs } = testStack();
const kafka = new Kafka({ brokers, logLevel: logLevel.NOTHING, retry: { initialRetryTime: 20, retries: 20 } });
const admin = kafka.admin();
const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1, transactionalId: `${prefix}writer` });
beforeAll(() => Promise.all([admin.connect(), producer.connect()]));
afterAll(() => Promise.all([admin.disconnect(), producer.disconnect()]));

async function makeTopic(name: string, partitions = 1): Promise<string> {
  const topic = `${prefix}${name}`;
  await admin.createTopics({ topics: [{ topic, numPartitions: partitions }] });
  return topic;
}

interface Message {
  key: string | null;
  value: string | null;
  partition: number;
  headers?: Record<string, string>;
  timestamp?: string;
}

async function write(topic: string, messages: Message[], outcome: "commit" | "abort"): Promise<void> {
  const transaction = await producer.transaction();
  await transaction.send({ topic, messages });
  await transaction[outcome]();
}

describe("the console consumer as a reader", () => {
  test("shows committed records whole, and no aborted one", async () => {
    const topic = await makeTopic("whole", 2);
    const first = { partition: 0, key: "BTC-USD", value: '{"note":"tab\\tand é"}', headers: { a: "1", b: "x:y" } };
    await write(topic, [{ ...first, timestamp: "1700000000123" }], "commit");
    await write(topic, [{ partition: 0, key: "aborted", value: "aborted" }], "abort");
    await write(topic, [{ partition: 0, key: null, value: "no key", timestamp: "1700000000124" }], "commit");
    await write(topic, [{ partition: 1, key: "gone", value: null, timestamp: "1700000000125" }], "commit");
    await write(topic, [{ partition: 1, key: "aborted", value: "aborted at the end" }], "abort");

    expect(await committedRecords(topic)).toEqual([
      { topic, ...first, offset: 0n, timestampMs: 1700000000123 },
      { topic, partition: 0, offset: 4n, timestampMs: 1700000000124, key: null, headers: {}, value: "no key" },
      { topic, partition: 1, offset: 0n, timestampMs: 1700000000125, key: "gone", headers: {}, value: null },
    ]);
  });

  test("shows every record of a topic larger than any buffer on the way, in order", async () => {
    const topic = await makeTopic("large", 3);
    const perPartition = 20_000;
    for (let from = 0; from < perPartition; from += 5_000) {
      const messages = Array.from({ length: 3 * 5_000 }, (_, index) => ({
        partition: index % 3,
        key: `key-${index % 3}`,
        value: JSON.stringify({ number: from + Math.floor(index / 3), padding: "x".repeat(200) }),
      }));
      const transaction = await producer.transaction();
      await transaction.send({ topic, messages, compression: CompressionTypes.GZIP });
      await transaction.commit();
    }
    const seen = [0, 0, 0];
    for await (const record of readCommitted({ libs: kafkaLibs, brokers, topic })) {
      const { number } = JSON.parse(record.value!) as { number: number };
      if (number !== seen[record.partition]) expect({ record, number }).toEqual({ expected: seen[record.partition] });
      seen[record.partition]! += 1;
    }
    expect(seen).toEqual([perPartition, perPartition, perPartition]);
  });

  test("ends early when the caller knows where the topic ends, and reads no topic that is empty", async () => {
    const topic = await makeTopic("known", 2);
    const empty = new Map([
      [0, 0n],
      [1, 0n],
    ]);
    expect(await committedRecords(topic, { ends: empty, brokers: ["127.0.0.1:1"] })).toEqual([]);
    const plain = kafka.producer();
    await plain.connect();
    await plain.send({ topic, messages: [{ partition: 1, key: "k", value: "v" }] });
    await plain.disconnect();
    const ends = new Map([
      [0, 0n],
      [1, 1n],
    ]);
    // The idle limit is longer than the test may take: only the known end can end it.
    const records = await committedRecords(topic, { ends, idleMs: 3_600_000 });
    expect(records.map((record) => record.value)).toEqual(["v"]);
  });

  test("finds a topic without records empty, once it has its partitions", async () => {
    expect(await committedRecords(await makeTopic("empty"))).toEqual([]);
  });

  test("says why, when it cannot read", async () => {
    const topic = await makeTopic("refused");
    const reading = committedRecords(topic, { brokers: ["not-a-host:1"] });
    await expect(reading).rejects.toMatchObject({
      code: "KAFKA_UNAVAILABLE",
      message: expect.stringContaining("not-a-host"),
    });
  });
});
