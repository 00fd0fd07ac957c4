/**
 * Transactions of one transactional id, request by request.
 *
 *   fence -> ready -> publishing -> ready
 *                          \-> failed        close, from any of them -> closed
 *
 * One transaction: AddPartitionsToTxn, Produce, AddOffsetsToTxn, TxnOffsetCommit, EndTxn. We send these requests ourselves
 * instead of through kafkajs' producer, because that one repeats InitProducerId and TxnOffsetCommit by settings it does not
 * let us choose (first after 300 ms), never repeats AddOffsetsToTxn, looks coordinators up five times a transaction, and is
 * useless after an EndTxn that failed. docs/decisions/0001-own-fetch-loop.md.
 *
 * Invariants
 *   T1  EndTxn is sent at most once a transaction, and never after an error.
 *   T2  After any error the writer is useless and its sockets are cut, so that nothing more leaves in its name.
 *   T3  Requests before EndTxn are idempotent (a batch keeps its sequence number), so they are repeated in place while their
 *       failure can pass, until `publishTimeoutMs`, which is below the coordinator's own time-out; but for T7.
 *   T4  Records of a partition are written in the order given; each batch is acknowledged by all in-sync replicas before the next is sent.
 *   T5  A transaction of offsets only is one like any other.
 *   T6  What an earlier owner left open in a partition is aborted before the same records are written there again.
 *   T7  TxnOffsetCommit is repeated only after an answer. It has no sequence number, and a transaction has no epoch of its own: a copy
 *       whose answer was lost can arrive in the next transaction, after its offsets, and take their place. (Found by the model check.)
 */
import type { OutputRecord } from "../actors/record.ts";
import { assert, LockstepError } from "../errors.ts";
import type { KafkaClient } from "./client.ts";
import type { Connection } from "./connection.ts";
import { openConnection } from "./connection.ts";
import { createPartitionWrites, groupByTopic, repeat, repeatAnswered } from "./partition-writes.ts";
import { assertAllSent, batchRounds } from "./produce-batches.ts";
import { errorText, errorType, isCoordinatorMoved, isFenced, isRefused, unavailable } from "./wire-errors.ts";

/** Fail-points, in the order they are passed. */
export type PublishPoint = "kafka.begun" | "kafka.produced" | "kafka.offsets-sent" | "kafka.before-end" | "kafka.ended";
export type PublishHook = (point: PublishPoint) => void | Promise<void>;
export type PublishStage = "begin" | "produce" | "offsets" | "end";

export interface WriterOptions {
  readonly client: KafkaClient;
  readonly transactionalId: string;
  /** Group whose offsets the transactions carry. */
  readonly groupId: string;
  /** After so long the coordinator aborts an open transaction, default 15,000. */
  readonly transactionTimeoutMs?: number;
  /** Deadline of one publish, default two thirds of the transaction's. */
  readonly publishTimeoutMs?: number;
  /** Bytes of one batch, default 512 KiB: half of Kafka's default `max.message.bytes`. */
  readonly maxBatchBytes?: number;
  readonly hook?: PublishHook;
}

export interface GroupOffset {
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  readonly metadata: string;
}

export interface WriterTransaction {
  readonly records: readonly OutputRecord[];
  /** T6: an earlier producer of this id may have written the records already. */
  readonly again?: boolean;
  /** T6, for a writer whose records come in other cuts than its predecessor's: wherever that one may have left something. */
  readonly leftovers?: readonly TopicPartition[];
  readonly offsets: readonly GroupOffset[];
}

export interface TopicPartition {
  readonly topic: string;
  readonly partition: number;
}

export interface Writer {
  /**
   * @throws {LockstepError} PUBLISH_FAILED outcome unknown; `details`: `fenced`, `stage`, `type`
   * @throws {LockstepError} PUBLISH_REFUSED nothing a new writer can cure; `details.topics` are those it can be about
   */
  publish(transaction: WriterTransaction): Promise<void>;
  close(): Promise<void>;
}

/**
 * InitProducerId, once: aborts what a predecessor left open and fences it.
 * @returns null while the broker completes the predecessor's transaction or loads the coordinator: try again
 * @throws {LockstepError} KAFKA_UNAVAILABLE; PUBLISH_REFUSED when the id may not be used
 */
export async function fenceWriter(options: WriterOptions): Promise<Writer | null> {
  const { client, transactionalId } = options;
  const transactionTimeoutMs = options.transactionTimeoutMs ?? 15_000;
  const publishTimeoutMs = options.publishTimeoutMs ?? Math.floor((transactionTimeoutMs * 2) / 3);
  assert(
    publishTimeoutMs < transactionTimeoutMs,
    `a publish must end before its transaction: ${publishTimeoutMs} < ${transactionTimeoutMs} ms`,
  );
  const connection = openConnection(client, { requestTimeoutMs: publishTimeoutMs });
  try {
    const coordinator = await connection.coordinator("transaction", transactionalId);
    const identity = await coordinator.initProducerId({ transactionalId, transactionTimeout: transactionTimeoutMs });
    return createWriter({ ...options, publishTimeoutMs }, connection, {
      transactionalId,
      producerId: identity.producerId,
      producerEpoch: identity.producerEpoch,
    });
  } catch (error) {
    connection.destroy();
    const type = errorType(error);
    if (type === "CONCURRENT_TRANSACTIONS" || isCoordinatorMoved(error)) return null;
    if (isRefused(error)) {
      throw new LockstepError(
        "PUBLISH_REFUSED",
        `Transactional id "${transactionalId}" is refused (${errorText(error)}).`,
        {
          details: { transactionalId, type, topics: [] },
          cause: error,
        },
      );
    }
    throw unavailable(`fence ${transactionalId}`, error, { transactionalId });
  }
}

type Identity = { readonly transactionalId: string; readonly producerId: string; readonly producerEpoch: number };

function createWriter(
  options: WriterOptions & { readonly publishTimeoutMs: number },
  connection: Connection,
  identity: Identity,
): Writer {
  const { groupId, publishTimeoutMs } = options;
  const maxBatchBytes = options.maxBatchBytes ?? 512 * 1024;
  const hook = options.hook ?? (() => undefined);
  const writes = createPartitionWrites(connection, identity);
  let state: "ready" | "publishing" | "failed" | "closed" = "ready";

  return {
    async publish({ records, offsets, again = false, leftovers = [] }) {
      assert(state === "ready", `a writer that is ${state} publishes nothing: ${identity.transactionalId}`);
      assert(offsets.length > 0, "every transaction carries offsets");
      const rounds = batchRounds(records, maxBatchBytes);
      assertAllSent(records, rounds);
      state = "publishing";
      let stage: PublishStage = "begin";
      const endMs = performance.now() + publishTimeoutMs;
      // Cuts whatever is under way, so that a broker which never answers cannot hold a publish beyond its deadline.
      const deadline = setTimeout(connection.destroy, publishTimeoutMs);
      try {
        if (leftovers.length > 0) await abortLeftovers(leftovers, endMs);
        if (rounds.length > 0 && again) await abortLeftovers(rounds[0]!, endMs);
        if (rounds.length > 0) await addPartitions(rounds[0]!, endMs);
        await hook("kafka.begun");
        stage = "produce";
        for (const round of rounds) await writes.produce(round, endMs);
        await hook("kafka.produced");
        stage = "offsets";
        await sendOffsets(offsets, endMs);
        await hook("kafka.offsets-sent");
        const coordinator = await coordinatorNow("transaction", identity.transactionalId, endMs);
        await hook("kafka.before-end");
        stage = "end";
        await coordinator.endTxn({ ...identity, transactionResult: true });
        await hook("kafka.ended");
        state = "ready";
      } catch (error) {
        if (state === "publishing") state = "failed";
        connection.destroy();
        throw await translate(error, stage, records);
      } finally {
        clearTimeout(deadline);
      }
    },
    async close() {
      state = "closed";
      connection.destroy();
    },
  };

  /** The first round touches every partition of the transaction. */
  async function addPartitions(round: readonly TopicPartition[], endMs: number): Promise<void> {
    const topics = groupByTopic(round, ({ partition }) => partition);
    await writes.locate(round, endMs);
    await repeat(connection, endMs, async () => {
      const coordinator = await connection.coordinator("transaction", identity.transactionalId);
      await coordinator.addPartitionsToTxn({ ...identity, topics });
    });
  }

  /**
   * T6, by a transaction that writes nothing and aborts. InitProducerId has had Kafka abort what was open, but Kafka 4.3 passes
   * over a partition that has no leader at that moment, as while its only broker comes back; the next commit of this id
   * would then make visible what stands there (seen when the only broker was killed and came back, docs/protocol.md, B5).
   */
  async function abortLeftovers(round: readonly TopicPartition[], endMs: number): Promise<void> {
    await addPartitions(round, endMs);
    const coordinator = await coordinatorNow("transaction", identity.transactionalId, endMs);
    await coordinator.endTxn({ ...identity, transactionResult: false });
  }

  async function sendOffsets(offsets: readonly GroupOffset[], endMs: number): Promise<void> {
    await repeat(connection, endMs, async () => {
      const coordinator = await connection.coordinator("transaction", identity.transactionalId);
      await coordinator.addOffsetsToTxn({ ...identity, groupId });
    });
    const topics = groupByTopic(offsets, ({ partition, offset, metadata }) => ({
      partition,
      offset: offset.toString(),
      metadata,
    }));
    const find = () => connection.coordinator("group", groupId);
    await repeatAnswered(connection, endMs, find, (coordinator) =>
      coordinator.txnOffsetCommit({ ...identity, groupId, topics }),
    );
  }

  async function coordinatorNow(kind: "transaction", key: string, endMs: number) {
    return repeat(connection, endMs, () => connection.coordinator(kind, key));
  }

  async function translate(
    error: unknown,
    stage: PublishStage,
    records: readonly OutputRecord[],
  ): Promise<LockstepError> {
    const type = errorType(error);
    const fenced = isFenced(error);
    const topics = [...new Set(records.map(({ topic }) => topic))];
    const details = { transactionalId: identity.transactionalId, stage, type, fenced };
    // An EndTxn may have been executed whatever came back, so its failure is never "refused".
    if (isRefused(error) && stage !== "end") {
      const named = (error as { topic?: unknown }).topic;
      const about = typeof named === "string" ? [named] : await faultyTopics(type, topics);
      return new LockstepError(
        "PUBLISH_REFUSED",
        `Kafka refuses what "${identity.transactionalId}" publishes to ${about.join(" or ") || "its group's offsets"} (${errorText(error)}).`,
        { details: { ...details, topics: about }, cause: error },
      );
    }
    const why = fenced ? "another owner has fenced this writer" : errorText(error);
    return new LockstepError(
      "PUBLISH_FAILED",
      `The transaction of "${identity.transactionalId}" failed at "${stage}": ${why}.`,
      {
        details,
        cause: error,
      },
    );
  }

  /** kafkajs' errors do not name the topic, so where metadata can tell it is asked, topic by topic. */
  async function faultyTopics(type: string, topics: string[]): Promise<string[]> {
    if (topics.length < 2 || (type !== "UNKNOWN_TOPIC_OR_PARTITION" && type !== "TOPIC_AUTHORIZATION_FAILED"))
      return topics;
    const faulty: string[] = [];
    for (const topic of topics) {
      const probe = openConnection(options.client);
      try {
        await probe.watch([topic]);
      } catch (error) {
        if (errorType(error) === type) faulty.push(topic);
      } finally {
        probe.destroy();
      }
    }
    return faulty.length > 0 ? faulty : topics;
  }
}
