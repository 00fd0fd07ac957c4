/**
 * What the contract tests of src/kafka share: a client of the run's broker, fresh topics, and foreign producers that
 * write what we never would.
 */
import { randomUUID } from "node:crypto";
import type { InputRecord } from "../../../src/actors/record.ts";
import { createKafkaClient, type KafkaClient, type KafkaHandle } from "../../../src/kafka/client.ts";
import { readTopic } from "../../../src/kafka/read-topic.ts";
import { applyTopics } from "../../../src/kafka/topics.ts";
import { freshTopicPrefix, testStack } from "../../support/stack.ts";
import { until } from "../../support/until.ts";

export { outputRecord, valuesOf } from "./records.ts";

export function testClient(): KafkaClient {
  return createKafkaClient({ brokers: testStack().brokers, clientId: "contract" });
}

/** A new topic; `name` is only for people. */
export async function freshTopic(
  client: KafkaClient,
  name: string,
  options: { partitions?: number; config?: Record<string, string> } = {},
): Promise<string> {
  const topic = `${freshTopicPrefix()}${name}`;
  await applyTopics(client, [{ name: topic, partitions: options.partitions ?? 1, config: options.config ?? {} }]);
  return topic;
}

export function freshName(name: string): string {
  return `${name}-${randomUUID().slice(0, 8)}`;
}

/** Lends a raw kafkajs client: what other people's programs do to our topics. */
export async function withKafka<T>(client: KafkaClient, use: (kafka: KafkaHandle["kafka"]) => Promise<T>): Promise<T> {
  const handle = client.open();
  try {
    return await use(handle.kafka);
  } finally {
    handle.destroy();
  }
}

/** Writes values outside any transaction, one batch a call. */
export async function writePlain(
  client: KafkaClient,
  topic: string,
  values: readonly string[],
  partition = 0,
): Promise<void> {
  await withKafka(client, async (kafka) => {
    const producer = kafka.producer();
    await producer.connect();
    await producer.send({ topic, messages: values.map((value) => ({ value, partition })) });
    await producer.disconnect();
  });
}

/** Opens transactions of foreign producers, by name; each stays open until it is committed or aborted. */
export async function withTransactions(
  client: KafkaClient,
  topic: string,
  use: (transactions: {
    send(name: string, value: string, key?: Buffer): Promise<void>;
    commit(name: string): Promise<void>;
    abort(name: string): Promise<void>;
  }) => Promise<void>,
): Promise<void> {
  await withKafka(client, async (kafka) => {
    type Transaction = Awaited<ReturnType<ReturnType<typeof kafka.producer>["transaction"]>>;
    const open = new Map<string, Transaction>();
    const transactionOf = async (name: string) => {
      let transaction = open.get(name);
      if (transaction === undefined) {
        const producer = kafka.producer({
          transactionalId: freshName(name),
          maxInFlightRequests: 1,
          retry: { initialRetryTime: 10, retries: 20 },
        });
        await producer.connect();
        transaction = await producer.transaction();
        open.set(name, transaction);
      }
      return transaction;
    };
    const end = async (name: string, how: "commit" | "abort") => {
      await (await transactionOf(name))[how]();
      open.delete(name);
    };
    await use({
      async send(name, value, key) {
        await (await transactionOf(name)).send({ topic, messages: [{ value, key: key ?? null, partition: 0 }] });
      },
      commit: (name) => end(name, "commit"),
      abort: (name) => end(name, "abort"),
    });
  });
}

/** Deletes the records of partition 0 below an offset, as retention would. */
export async function trim(client: KafkaClient, topic: string, offset: bigint): Promise<void> {
  await withKafka(client, async (kafka) => {
    const admin = kafka.admin();
    await admin.connect();
    // deleteTopicRecords looks into metadata that it does not load itself.
    await admin.fetchTopicOffsets(topic);
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: offset.toString() }] });
    await admin.disconnect();
  });
}

export async function readAll(client: KafkaClient, topic: string): Promise<InputRecord[]> {
  const records: InputRecord[] = [];
  for await (const record of readTopic({ client, topic })) records.push(record);
  return records;
}

/** A commit is answered before its markers are written, so what was just published is waited for. */
export async function readAtLeast(client: KafkaClient, topic: string, count: number): Promise<InputRecord[]> {
  return until(
    async () => {
      const records = await readAll(client, topic);
      return records.length >= count && records;
    },
    { what: `${count} records on ${topic}` },
  );
}
