/**
 * A plain idempotent producer for generated load: in order, each batch acknowledged before the next is sent.
 *
 * Idempotent, so that a retry inside the client cannot put a record there twice: what was sent once is there once.
 */
import { partitionFor } from "../actors/partition.ts";
import { createKafkaClient } from "./client.ts";
import { describeTopics } from "./topics.ts";

export interface SentRecord {
  readonly topic: string;
  /** Default: as Kafka's default partitioner has it. */
  readonly partition?: number;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly timestampMs: number;
}

export interface Sender {
  send(batch: readonly SentRecord[]): Promise<void>;
  close(): Promise<void>;
}

/** @param topics every topic that will be sent to: their partition counts decide where a key goes */
export async function openSender(brokers: readonly string[], topics: readonly string[]): Promise<Sender> {
  const client = createKafkaClient({ brokers, clientId: "lockstep-generator" });
  const counts = new Map(
    [...(await describeTopics(client, topics)).values()].map(({ name, partitions }) => [name, partitions]),
  );
  const handle = client.open();
  const producer = handle.kafka.producer({
    idempotent: true,
    maxInFlightRequests: 1,
    allowAutoTopicCreation: false,
    retry: { retries: 50, initialRetryTime: 50, maxRetryTime: 1_000 },
  });
  await producer.connect();
  let withoutKey = 0;
  return {
    async send(batch) {
      const byTopic = new Map<
        string,
        {
          key: Buffer | null;
          value: Buffer | null;
          headers: Record<string, string>;
          timestamp: string;
          partition: number;
        }[]
      >();
      for (const record of batch) {
        const count = counts.get(record.topic) ?? 1;
        // Set here, so that a retry cannot send a record elsewhere.
        const partition =
          record.partition ?? (record.key === null ? withoutKey++ % count : partitionFor(record.key, count));
        const messages = byTopic.get(record.topic) ?? [];
        messages.push({
          key: record.key,
          value: record.value,
          headers: { ...record.headers },
          timestamp: String(record.timestampMs),
          partition,
        });
        byTopic.set(record.topic, messages);
      }
      await producer.sendBatch({
        acks: -1,
        topicMessages: [...byTopic].map(([topic, messages]) => ({ topic, messages })),
      });
    },
    async close() {
      await producer.disconnect();
      handle.destroy();
    },
  };
}
