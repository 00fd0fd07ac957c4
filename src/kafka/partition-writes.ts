/**
 * Batches of one producer id into partitions, each acknowledged by all in-sync replicas, in order, without doubles: what a
 * transaction and the sender of generated load have in common.
 *
 * Invariants
 *   W1  A batch keeps its sequence number however often it is sent, so a repeat whose first copy was written is recognised.
 *   W2  Which batches are still missing is kept batch by batch: a leader that moved to a broker which had answered for others
 *       does not take its batches for sent. (kafkajs' producer keeps it broker by broker, and loses them: a load lost 3 of
 *       4,612 records when one of three brokers was killed.)
 *   W3  The next round of a partition is sent when the one before is acknowledged.
 *   W4  A topic or partition is unknown, which is final, only when metadata or a leader says so for longer than a grace. One without
 *       a leader, or of which no metadata could be read yet, is waited for until the deadline: kafkajs throws away an answer in
 *       which any partition lacks its leader, as those of a broker that comes back do. (A soak halted a shard over such a topic.)
 */
import { setTimeout as sleep } from "node:timers/promises";

import { type Connection, persist } from "./connection.ts";
import type { PartitionBatch } from "./produce-batches.ts";
import { produce } from "./produce-request.ts";
import type { TopicPartitions } from "./wire.ts";
import { errorType, isConnectionFailure, isPassing } from "./wire-errors.ts";

/**
 * First wait of a repeated request. After a commit the next transaction meets CONCURRENT_TRANSACTIONS until the
 * markers are written, some 5-20 ms; the broker itself answers such a request late, so a shorter wait gains nothing.
 */
const RETRY_FIRST_MS = 3;
const RETRY_MAX_MS = 250;

/** A topic that metadata does not know may have been made a moment ago. */
const UNKNOWN_TOPIC_GRACE_MS = 2_000;

const SEQUENCE_LIMIT = 2 ** 31;

export interface ProducerIdentity {
  /** Undefined: idempotent, without transactions. */
  readonly transactionalId?: string | undefined;
  readonly producerId: string;
  readonly producerEpoch: number;
}

/** Deadlines (`endMs`) are of `performance.now()`. Whatever cannot pass, or did not until then, is thrown as kafkajs has it. */
export interface PartitionWrites {
  /** Until metadata names a leader of each partition. */
  locate(partitions: readonly Pick<PartitionBatch, "topic" | "partition">[], endMs: number): Promise<void>;
  /** One round: at most one batch a partition. */
  produce(round: readonly PartitionBatch[], endMs: number): Promise<void>;
}

/** Writes of a new producer without transactions. @throws {LockstepError} KAFKA_UNAVAILABLE when `deadlineMs` is over */
export async function openIdempotentWrites(
  connection: Connection,
  { topics, deadlineMs }: { topics: readonly string[]; deadlineMs: number },
): Promise<PartitionWrites> {
  const { producerId, producerEpoch } = await persist(connection, { what: "a producer id", deadlineMs }, async () => {
    await connection.watch(topics);
    const anyBroker = await connection.coordinator("group", "lockstep-producers");
    return anyBroker.initProducerId({ transactionTimeout: deadlineMs });
  });
  return createPartitionWrites(connection, { producerId, producerEpoch });
}

/** @param send what sends a request to a broker; another one in tests alone */
export function createPartitionWrites(
  connection: Connection,
  identity: ProducerIdentity,
  send: typeof produce = produce,
): PartitionWrites {
  /** Next sequence number by `topic/partition`. */
  const sequences = new Map<string, number>();

  return {
    async locate(batches, endMs) {
      const topics = [...new Set(batches.map(({ topic }) => topic))];
      await repeat(connection, endMs, async () => {
        await connection.watch(topics);
        for (const { topic, partition } of batches) leaderOf(topic, partition);
      });
    },
    async produce(round, endMs) {
      let missing = round.map((batch) => ({ ...batch, firstSequence: takeSequence(batch) }));
      await repeat(connection, endMs, async () => {
        const byLeader = new Map<number, typeof missing>();
        for (const batch of missing) {
          const nodeId = leaderOf(batch.topic, batch.partition);
          byLeader.set(nodeId, [...(byLeader.get(nodeId) ?? []), batch]);
        }
        const results = await Promise.allSettled(
          [...byLeader].map(([nodeId, batches]) => produceTo(nodeId, batches, endMs)),
        );
        const written = new Set(results.flatMap((result) => (result.status === "fulfilled" ? result.value : [])));
        missing = missing.filter((batch) => !written.has(batch));
        const failed = results.find((result) => result.status === "rejected");
        if (failed !== undefined) throw failed.reason;
      });
    },
  };

  function leaderOf(topic: string, partition: number): number {
    const nodeId = connection.leader(topic, partition);
    if (nodeId !== null) return nodeId;
    const known = connection.partitions(topic);
    if (known.length > 0 && !known.includes(partition)) throw missing("UNKNOWN_TOPIC_OR_PARTITION", topic, partition);
    throw missing("LEADER_NOT_AVAILABLE", topic, partition);
  }

  /** A leader gets its batches in one request; one that fails is repeated whole. */
  async function produceTo<B extends PartitionBatch & { firstSequence: number }>(
    nodeId: number,
    batches: readonly B[],
    endMs: number,
  ): Promise<readonly B[]> {
    const broker = await connection.broker(nodeId);
    await send(broker, {
      ...identity,
      timeoutMs: Math.max(1, Math.floor(endMs - performance.now())),
      topics: groupByTopic(batches, ({ partition, firstSequence, records }) => ({ partition, firstSequence, records })),
    });
    return batches;
  }

  function takeSequence({ topic, partition, records }: PartitionBatch): number {
    const key = `${topic}/${partition}`;
    const first = sequences.get(key) ?? 0;
    sequences.set(key, (first + records.length) % SEQUENCE_LIMIT);
    return first;
  }
}

/**
 * Repeats an idempotent request while its failure can pass and the deadline is not over.
 * @param mayRepeat says of a failure that can pass whether repeating is harmless; of any, unless given
 */
export async function repeat<T>(
  connection: Connection,
  endMs: number,
  request: () => Promise<T>,
  mayRepeat: (error: unknown) => boolean = () => true,
): Promise<T> {
  let graceEndMs = Number.POSITIVE_INFINITY;
  for (let waitMs = RETRY_FIRST_MS; ; waitMs = Math.min(waitMs * 2, RETRY_MAX_MS)) {
    try {
      return await request();
    } catch (error) {
      const type = errorType(error);
      const isUnknown = type === "UNKNOWN_TOPIC_OR_PARTITION";
      // From when it was said first: what failed before says nothing of the topic.
      if (isUnknown) graceEndMs = Math.min(graceEndMs, performance.now() + UNKNOWN_TOPIC_GRACE_MS);
      const limitMs = isUnknown ? Math.min(graceEndMs, endMs) : endMs;
      if (!isPassing(error) || !mayRepeat(error)) throw error;
      if (connection.destroyed || performance.now() + waitMs > limitMs) throw error;
      await sleep(waitMs);
      if (type === "CONCURRENT_TRANSACTIONS") continue;
      connection.forgetCoordinators();
      // A refresh that fails shows in the next try, with its cause.
      await connection.refresh().catch(() => undefined);
    }
  }
}

/**
 * Repeats a request of which no copy may be left on its way: after an error that the broker answered, and while the broker is not found,
 * but not when the answer was lost.
 */
export async function repeatAnswered<B, T>(
  connection: Connection,
  endMs: number,
  find: () => Promise<B>,
  send: (broker: B) => Promise<T>,
): Promise<T> {
  let isSent = false;
  const request = async () => {
    isSent = false;
    const broker = await find();
    isSent = true;
    return send(broker);
  };
  return repeat(connection, endMs, request, (error) => !(isSent && isConnectionFailure(error)));
}

export function groupByTopic<T extends { readonly topic: string }, P>(
  items: readonly T[],
  toPartition: (item: T) => P,
): TopicPartitions<P>[] {
  const byTopic = new Map<string, P[]>();
  for (const item of items) {
    const partitions = byTopic.get(item.topic) ?? [];
    byTopic.set(item.topic, partitions);
    partitions.push(toPartition(item));
  }
  return [...byTopic].map(([topic, partitions]) => ({ topic, partitions }));
}

/** In kafkajs' shape: both can pass, and the first counts as refused when its grace is over. */
function missing(type: "UNKNOWN_TOPIC_OR_PARTITION" | "LEADER_NOT_AVAILABLE", topic: string, partition: number): Error {
  const what = type === "LEADER_NOT_AVAILABLE" ? "no leader is known" : "there is no such partition";
  return Object.assign(new Error(`${topic}/${partition}: ${what}`), { type, topic });
}
