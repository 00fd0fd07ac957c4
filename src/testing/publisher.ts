/**
 * The PublisherPort on Kafka in memory. The steps of a transaction, and which of them are repeated, are those of
 * src/kafka/transactional-writer.ts; both pass the same contract.
 */
import { formatOffsetMetadata } from "../actors/offset-metadata.ts";
import type { PublisherPort, TransactionalWriter } from "../actors/ports.ts";
import type { OutputRecord } from "../actors/record.ts";
import { assert, LockstepError } from "../errors.ts";
import type { Hook } from "../runtime/failpoints.ts";
import { BrokerError, type BrokerErrorType, type MemoryKafka } from "./kafka.ts";
import { type Network, Unreachable } from "./network.ts";
import type { SimulatedProcess } from "./process.ts";

export interface MemoryPublisherOptions {
  readonly kafka: MemoryKafka;
  readonly network: Network;
  readonly process: SimulatedProcess;
  /** Input topics, in order of definition. */
  readonly topics: readonly string[];
  readonly transactionTimeoutMs: number;
  /** Records of one produce request. */
  readonly batchRecordsMax?: number;
  readonly hook: Hook;
}

/** There is one cluster in a simulation. */
export const CLUSTER_ID = "simulated";

const REQUEST_TIMEOUT_MS = 4_000;
const RETRY_FIRST_MS = 3;
const RETRY_MAX_MS = 250;
const BATCH_RECORDS_MAX = 500;
/** The same request can succeed later, and was not executed. */
const PASSING: ReadonlySet<BrokerErrorType> = new Set(["CONCURRENT_TRANSACTIONS"]);

export function createMemoryPublisher(options: MemoryPublisherOptions): PublisherPort {
  const { kafka, network, process, topics, transactionTimeoutMs } = options;

  async function read<T>(what: string, act: () => T): Promise<T> {
    try {
      return await network.call(process, { to: "kafka", what, deadlineMs: REQUEST_TIMEOUT_MS }, act);
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      throw new LockstepError("KAFKA_UNAVAILABLE", `Kafka did not answer: ${what}.`, { cause: error });
    }
  }

  return {
    async fence(transactionalId) {
      const shard = Number(/-(\d+)$/.exec(transactionalId)?.[1]);
      try {
        const identity = await read("initProducerId", () =>
          kafka.initProducerId(transactionalId, transactionTimeoutMs),
        );
        return createWriter(options, { ...identity, shard });
      } catch (error) {
        if (error instanceof BrokerError && error.type === "CONCURRENT_TRANSACTIONS") return null;
        throw error;
      }
    },
    committed: (shard) => read("committed", () => kafka.offsetsAnswered(shard, topics)),
    committedInLog: (shard) => read("committedInLog", () => kafka.offsetsOf(shard, topics)),
    partitionCounts: () =>
      read("partitionCounts", () => Object.fromEntries(topics.map((topic) => [topic, kafka.partitions(topic)]))),
    clusterId: () => read("clusterId", () => CLUSTER_ID),
    watermarks: (shard) =>
      read("watermarks", () =>
        Object.fromEntries(topics.map((topic) => [topic, { low: 0n, high: kafka.log(topic, shard).stable }])),
      ),
  };
}

interface Identity {
  readonly transactionalId: string;
  readonly epoch: number;
  readonly shard: number;
}

function createWriter(options: MemoryPublisherOptions, identity: Identity): TransactionalWriter {
  const { kafka, network, process, topics, transactionTimeoutMs, hook } = options;
  const { clock } = process;
  const publishTimeoutMs = Math.floor((transactionTimeoutMs * 2) / 3);
  const sequences = new Map<string, number>();
  let state: "ready" | "publishing" | "failed" | "closed" = "ready";
  let endMs = 0;

  const send = (what: string, act: () => void): Promise<void> => {
    if (state !== "publishing") return Promise.reject(new Unreachable("kafka", what, "the connection was closed"));
    const deadlineMs = Math.max(1, endMs - clock.monotonicMs());
    return network.call(process, { to: "kafka", what, deadlineMs }, act);
  };

  /**
   * Repeats an idempotent request while its failure can pass and the deadline is not over.
   * @param once not where no answer came (T7 of the real writer)
   */
  async function repeat(what: string, act: () => void, { once } = { once: false }): Promise<void> {
    for (let waitMs = RETRY_FIRST_MS; ; waitMs = Math.min(waitMs * 2, RETRY_MAX_MS)) {
      try {
        return await send(what, act);
      } catch (error) {
        const passing = error instanceof BrokerError ? PASSING.has(error.type) : error instanceof Unreachable && !once;
        if (!passing || state !== "publishing" || clock.monotonicMs() + waitMs > endMs) throw error;
        await clock.sleep(waitMs);
      }
    }
  }

  async function addPartitions(records: readonly OutputRecord[]): Promise<void> {
    const partitions = [...new Map(records.map((one) => [`${one.topic}/${one.partition}`, one])).values()];
    await repeat("addPartitions", () => kafka.addPartitions(identity, partitions, transactionTimeoutMs));
  }

  async function produce(records: readonly OutputRecord[]): Promise<void> {
    const byPartition = new Map<string, OutputRecord[]>();
    for (const record of records) {
      const key = `${record.topic}/${record.partition}`;
      byPartition.set(key, [...(byPartition.get(key) ?? []), record]);
    }
    const outcomes = await Promise.allSettled(
      [...byPartition].map(async ([key, all]) => {
        const { topic, partition } = all[0]!;
        const max = options.batchRecordsMax ?? BATCH_RECORDS_MAX;
        for (let at = 0; at < all.length; at += max) {
          const batch = all.slice(at, at + max);
          const sequence = sequences.get(key) ?? 0;
          sequences.set(key, sequence + batch.length);
          await repeat(`produce ${key}`, () => kafka.produce(identity, { topic, partition, sequence, records: batch }));
        }
      }),
    );
    const failed = outcomes.find((outcome) => outcome.status === "rejected");
    if (failed) throw failed.reason;
  }

  return {
    async publish({ records, positions, metadata, again = false }) {
      assert(state === "ready", `a writer that is ${state} publishes nothing: ${identity.transactionalId}`);
      state = "publishing";
      endMs = clock.monotonicMs() + publishTimeoutMs;
      const offsets = topics.map((topic) => {
        const offset = positions[topic];
        assert(offset !== undefined, `a commit carries the position of every input: ${topic} is missing`);
        return { topic, partition: identity.shard, offset, metadata: formatOffsetMetadata(metadata) };
      });
      let stage = "begin";
      try {
        if (records.length > 0 && again) {
          await addPartitions(records);
          await send("endTransaction abort", () => kafka.endTransaction(identity, "aborted"));
        }
        if (records.length > 0) await addPartitions(records);
        await hook("kafka.begun");
        stage = "produce";
        await produce(records);
        await hook("kafka.produced");
        stage = "offsets";
        await repeat("addOffsets", () => kafka.addOffsets(identity, transactionTimeoutMs));
        await repeat("commitOffsets", () => kafka.commitOffsets(identity, offsets), { once: true });
        await hook("kafka.offsets-sent");
        await hook("kafka.before-end");
        stage = "end";
        await send("endTransaction commit", () => kafka.endTransaction(identity, "committed"));
        await hook("kafka.ended");
        state = "ready";
      } catch (error) {
        if (state === "publishing") state = "failed";
        throw failure(identity, stage, error, records);
      }
    },
    async close() {
      state = "closed";
    },
  };
}

function failure(
  { transactionalId }: Identity,
  stage: string,
  error: unknown,
  records: readonly OutputRecord[],
): LockstepError {
  const type = error instanceof BrokerError ? error.type : (error as Error).name;
  if (type === "UNKNOWN_TOPIC_OR_PARTITION" && stage !== "end") {
    const about = [...new Set(records.map(({ topic }) => topic))];
    return new LockstepError("PUBLISH_REFUSED", `Kafka refuses what "${transactionalId}" publishes: ${error}`, {
      details: { transactionalId, stage, type, fenced: false, topics: about },
      cause: error,
    });
  }
  const fenced = type === "INVALID_PRODUCER_EPOCH";
  return new LockstepError("PUBLISH_FAILED", `The transaction of "${transactionalId}" failed at "${stage}": ${error}`, {
    details: { transactionalId, stage, type, fenced },
    cause: error,
  });
}
