/**
 * A plain idempotent producer for generated load: in order, each batch acknowledged before the next is sent.
 *
 * Not kafkajs' own, which loses records when a leader moves while it repeats (partition-writes.ts, W2): a load that claims
 * to have sent what is not there would make every audit wrong.
 */
import { partitionFor } from "../actors/partition.ts";
import type { OutputRecord } from "../actors/record.ts";
import { createKafkaClient } from "./client.ts";
import { openConnection } from "./connection.ts";
import { openIdempotentWrites, type PartitionWrites } from "./partition-writes.ts";
import { batchRounds } from "./produce-batches.ts";
import { describeTopics } from "./topics.ts";
import { unavailable } from "./wire-errors.ts";

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
  /**
   * Resolves when all in-sync replicas have all of it.
   * @throws {LockstepError} KAFKA_UNAVAILABLE the outcome is unknown; the sender is useless then, send nothing more
   */
  send(batch: readonly SentRecord[]): Promise<void>;
  close(): Promise<void>;
}

/** Longer than a failover, or the restart of a broker. */
const SEND_MS = 120_000;
const BATCH_BYTES_MAX = 512 * 1024;

/** @param topics every topic that will be sent to: their partition counts decide where a key goes */
export async function openSender(brokers: readonly string[], topics: readonly string[]): Promise<Sender> {
  const client = createKafkaClient({ brokers, clientId: "lockstep-generator" });
  const counts = new Map(
    [...(await describeTopics(client, topics)).values()].map(({ name, partitions }) => [name, partitions]),
  );
  const connection = openConnection(client);
  let writes: PartitionWrites | null = null;
  let withoutKey = 0;

  function toOutput(record: SentRecord): OutputRecord {
    const count = counts.get(record.topic) ?? 1;
    return {
      topic: record.topic,
      // Set here, so that a repeat cannot send a record elsewhere.
      partition: record.partition ?? (record.key === null ? withoutKey++ % count : partitionFor(record.key, count)),
      key: record.key,
      value: record.value,
      headers: Object.entries(record.headers).map(([name, value]) => [name, Buffer.from(value)] as const),
      timestampMs: BigInt(record.timestampMs),
    };
  }

  return {
    async send(batch) {
      writes ??= await openIdempotentWrites(connection, { topics: [...counts.keys()], deadlineMs: SEND_MS });
      const endMs = performance.now() + SEND_MS;
      try {
        const rounds = batchRounds(batch.map(toOutput), BATCH_BYTES_MAX);
        if (rounds.length > 0) await writes.locate(rounds[0]!, endMs);
        for (const round of rounds) await writes.produce(round, endMs);
      } catch (error) {
        throw unavailable("a batch of generated records", error);
      }
    },
    async close() {
      connection.destroy();
    },
  };
}
