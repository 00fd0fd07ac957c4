/**
 * The publisher port of one worker: fences transactional ids, and reads what Kafka holds of a shard.
 *
 * Invariant
 *   B1  `committed` never writes: offsets are fetched from the group's coordinator by a plain OffsetFetch.
 *
 * What is read after a fence of the shard's id is final, unless the coordinator has not read its log to the end (offsets-log.ts):
 * InitProducerId has completed the predecessor's transaction, and pending offsets are not shown. Without it, the old offset would be shown (OffsetFetch v4 knows no "require stable"), even
 * right after a publish: Kafka answers EndTxn before it has written the markers.
 */
import { formatOffsetMetadata } from "../actors/offset-metadata.ts";
import type { CommittedOffset, PublisherPort } from "../actors/ports.ts";
import { assert, LockstepError } from "../errors.ts";
import type { KafkaClient } from "./client.ts";
import { openConnection, persist } from "./connection.ts";
import { readOffsetsLog } from "./offsets-log.ts";
import { readOffsets } from "./partition-log.ts";
import type { PublishHook } from "./transactional-writer.ts";
import { fenceWriter } from "./transactional-writer.ts";
import { errorText, errorType } from "./wire-errors.ts";

export interface PublisherOptions {
  readonly client: KafkaClient;
  readonly groupId: string;
  /** Input topics, in order of definition. */
  readonly topics: readonly string[];
  readonly transactionTimeoutMs?: number;
  readonly publishTimeoutMs?: number;
  readonly maxBatchBytes?: number;
  /** How long reads retry failures that can pass, default 10,000. */
  readonly readDeadlineMs?: number;
  readonly hook?: PublishHook;
}

export interface Publisher extends PublisherPort {
  close(): Promise<void>;
}

export function createPublisher(options: PublisherOptions): Publisher {
  const { client, groupId, topics } = options;
  const deadlineMs = options.readDeadlineMs ?? 10_000;
  const connection = openConnection(client);

  return {
    async fence(transactionalId) {
      const shard = shardOfTransactionalId(transactionalId);
      const writer = await fenceWriter({ ...options, transactionalId });
      if (writer === null) return null;
      return {
        publish: ({ records, positions, metadata, again = false }) =>
          writer.publish({
            records,
            again,
            offsets: topics.map((topic) => {
              const offset = positions[topic];
              assert(offset !== undefined, `a commit carries the position of every input: ${topic} is missing`);
              return { topic, partition: shard, offset, metadata: formatOffsetMetadata(metadata) };
            }),
          }),
        close: () => writer.close(),
      };
    },
    async committed(shard) {
      const what = `offsets of group ${groupId}, partition ${shard}`;
      const { responses } = await persist(connection, { what, deadlineMs }, async () => {
        const coordinator = await connection.coordinator("group", groupId);
        return coordinator.offsetFetch({
          groupId,
          topics: topics.map((topic) => ({ topic, partitions: [{ partition: shard }] })),
        });
      }).catch((error: unknown) => refuse(error, what));
      const found = new Map(
        responses.map(({ topic, partitions }) => [topic, partitions.find((p) => p.partition === shard)]),
      );
      const committed: Record<string, CommittedOffset> = {};
      for (const topic of topics) {
        const answer = found.get(topic);
        const offset = answer === undefined ? -1n : BigInt(answer.offset);
        committed[topic] = { offset: offset < 0n ? null : offset, metadata: answer?.metadata ?? "" };
      }
      return committed;
    },
    committedInLog: (partition) => readOffsetsLog({ client, groupId, topics, partition, deadlineMs }),
    async watermarks(shard) {
      const found: Record<string, { low: bigint; high: bigint }> = {};
      for (const topic of topics) {
        found[topic] = await readOffsets(connection, topic, shard, deadlineMs).catch((error: unknown) =>
          refuse(error, `offsets of ${topic}/${shard}`),
        );
      }
      return found;
    },
    async partitionCounts() {
      const what = `metadata of ${topics.join(", ")}`;
      await persist(connection, { what, deadlineMs }, async () => {
        await connection.watch(topics);
        await connection.refresh();
      }).catch((error: unknown) => refuse(error, what));
      return Object.fromEntries(topics.map((topic) => [topic, connection.partitions(topic).length]));
    },
    async clusterId() {
      const what = "the cluster's id";
      return persist(connection, { what, deadlineMs }, () => connection.clusterId(topics)).catch((error: unknown) =>
        refuse(error, what),
      );
    },
    async close() {
      connection.destroy();
    },
  };
}

export function transactionalIdOf(groupId: string, shard: number): string {
  return `${groupId}-${shard}`;
}

/** A transactional id of a shard ends in its number: design, "Identity". */
export function shardOfTransactionalId(transactionalId: string): number {
  const digits = /-(\d+)$/.exec(transactionalId)?.[1];
  assert(digits !== undefined, `the transactional id of a shard is <group>-<shard>, not "${transactionalId}"`);
  return Number(digits);
}

/** What cannot pass (authorization) is no reason to retry. */
function refuse(error: unknown, what: string): never {
  if (error instanceof LockstepError) throw error;
  throw new LockstepError("KAFKA_UNSUITABLE", `Kafka refuses: ${what} (${errorText(error)}).`, {
    details: { type: errorType(error) },
    cause: error,
  });
}
