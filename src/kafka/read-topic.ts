/**
 * All committed records of a topic, up to its last stable offset as of the start: for audit and tests.
 */
import type { InputRecord } from "../actors/record.ts";
import { LockstepError } from "../errors.ts";
import type { KafkaClient } from "./client.ts";
import { openConnection, persist } from "./connection.ts";
import { readOffsets, readPartition } from "./partition-log.ts";

export interface ReadTopicOptions {
  readonly client: KafkaClient;
  readonly topic: string;
  /** Default: all, ascending. */
  readonly partitions?: readonly number[];
  /** Per partition, where to begin; default and lower bound: where the log begins. */
  readonly from?: ReadonlyMap<number, bigint>;
  /** How long failures that can pass are retried, default 30,000. */
  readonly deadlineMs?: number;
}

const READ_BYTES_MAX = 4 * 1_048_576;
const READ_WAIT_MS = 100;

/**
 * Partition after partition, each in the order of its log.
 * @throws {LockstepError} KAFKA_UNAVAILABLE; KAFKA_UNSUITABLE for a codec that is missing; INPUT_TRIMMED when retention overtook the reader
 */
export async function* readTopic(options: ReadTopicOptions): AsyncGenerator<InputRecord, void, undefined> {
  const { topic } = options;
  const deadlineMs = options.deadlineMs ?? 30_000;
  const connection = openConnection(options.client);
  try {
    await persist(connection, { what: `metadata of ${topic}`, deadlineMs }, () => connection.watch([topic]));
    const ends: { partition: number; begin: bigint; end: bigint }[] = [];
    for (const partition of options.partitions ?? connection.partitions(topic)) {
      const { low, high } = await readOffsets(connection, topic, partition, deadlineMs);
      let begin = options.from?.get(partition) ?? low;
      if (begin < low) begin = low;
      ends.push({ partition, begin, end: high });
    }
    for (const { partition, begin, end } of ends) {
      let position = begin;
      while (position < end) {
        const answer = await readPartition(
          connection,
          { topic, partition, position },
          { maxBytes: READ_BYTES_MAX, maxWaitMs: READ_WAIT_MS, deadlineMs },
        );
        if (answer === null) {
          throw new LockstepError(
            "INPUT_TRIMMED",
            `${topic}/${partition} was trimmed above ${position} while it was read.`,
            {
              details: { topic, partition, position },
            },
          );
        }
        for (const record of answer.records) if (record.offset < end) yield record;
        position = answer.nextOffset;
      }
    }
  } finally {
    connection.destroy();
  }
}

/**
 * Per partition, the last stable offset: below it nothing is pending. Markers of transactions count too.
 * @throws {LockstepError} KAFKA_UNAVAILABLE
 */
export async function topicEnds(client: KafkaClient, topic: string, deadlineMs = 30_000): Promise<Map<number, bigint>> {
  const offsets = await topicOffsets(client, topic, { deadlineMs });
  return new Map([...offsets].map(([partition, { high }]) => [partition, high]));
}

/** Where the log of each partition begins. @throws {LockstepError} KAFKA_UNAVAILABLE */
export async function lowWatermarks(
  client: KafkaClient,
  topic: string,
  deadlineMs = 30_000,
): Promise<{ partition: number; low: bigint }[]> {
  const offsets = await topicOffsets(client, topic, { deadlineMs });
  return [...offsets].map(([partition, { low }]) => ({ partition, low }));
}

/**
 * Per partition, where its log begins, and its last stable offset; `uncommitted`: its high watermark, below which all stands that was
 * acknowledged, behind open transactions too.
 * @throws {LockstepError} KAFKA_UNAVAILABLE
 */
export async function topicOffsets(
  client: KafkaClient,
  topic: string,
  { uncommitted = false, deadlineMs = 30_000 }: { uncommitted?: boolean; deadlineMs?: number } = {},
): Promise<Map<number, { low: bigint; high: bigint }>> {
  const connection = openConnection(client, { uncommitted });
  try {
    await persist(connection, { what: `metadata of ${topic}`, deadlineMs }, () => connection.watch([topic]));
    const offsets = new Map<number, { low: bigint; high: bigint }>();
    for (const partition of connection.partitions(topic))
      offsets.set(partition, await readOffsets(connection, topic, partition, deadlineMs));
    return offsets;
  } finally {
    connection.destroy();
  }
}
