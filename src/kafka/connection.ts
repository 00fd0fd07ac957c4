/**
 * A connection to the cluster that speaks single requests, for whoever decides itself what is sent and what is repeated.
 *
 * kafkajs hands its `Cluster` to custom partition assigners when a consumer is made. That consumer is never run: it joins
 * no group and fetches nothing. docs/decisions/0001-own-fetch-loop.md says why we fetch and publish below kafkajs' own
 * consumer and producer.
 */
import { setTimeout as sleep } from "node:timers/promises";

import { assert } from "../errors.ts";
import type { KafkaClient } from "./client.ts";
import type { CoordinatorKind, WireBroker, WireCluster } from "./wire.ts";
import { COORDINATOR } from "./wire.ts";
import { errorType, isPassing, unavailable } from "./wire-errors.ts";

export interface Connection {
  readonly destroyed: boolean;
  /** Holds metadata of these topics from now on. @throws kafkajs' error, UNKNOWN_TOPIC_OR_PARTITION among them */
  watch(topics: readonly string[]): Promise<void>;
  /** Reads the metadata again: leaders may have moved. */
  refresh(): Promise<void>;
  /** Of the cluster that answers at this moment. @param topics some that are there */
  clusterId(topics: readonly string[]): Promise<string>;
  /** Partition numbers of a watched topic, ascending; empty when it is unknown. */
  partitions(topic: string): number[];
  /** Node id of the leader, null while none is known. */
  leader(topic: string, partition: number): number | null;
  broker(nodeId: number): Promise<WireBroker>;
  /** The coordinator of a group or transactional id; looked up once and kept until `forgetCoordinators`. */
  coordinator(kind: CoordinatorKind, key: string): Promise<WireBroker>;
  forgetCoordinators(): void;
  /** Low watermark and last stable offset (`uncommitted`: high watermark) of partitions of a watched topic. */
  offsets(topic: string, partitions: readonly number[]): Promise<Map<number, { low: bigint; high: bigint }>>;
  /** Cuts the sockets: what is under way fails, nothing more is sent. Idempotent. */
  destroy(): void;
}

/** @param options `uncommitted`: `offsets` sees what is in open transactions too */
export function openConnection(
  client: KafkaClient,
  { uncommitted = false, ...options }: { requestTimeoutMs?: number; uncommitted?: boolean } = {},
): Connection {
  const handle = client.open(options);
  const cluster = captureCluster(handle.kafka, uncommitted);
  const coordinators = new Map<string, number>();

  async function connected(): Promise<void> {
    if (!cluster.isConnected()) {
      await cluster.connect();
      await cluster.refreshMetadata();
    }
  }

  async function lookUpCoordinator(kind: CoordinatorKind, key: string): Promise<number> {
    // Not `cluster.findGroupCoordinator`: it swallows every error of the look-up, authorization among them.
    let failure: unknown = new Error("no broker is known");
    for (const nodeId of cluster.getNodeIds()) {
      try {
        const broker = await cluster.findBroker({ nodeId });
        const { coordinator } = await broker.findGroupCoordinator({ groupId: key, coordinatorType: COORDINATOR[kind] });
        return coordinator.nodeId;
      } catch (error) {
        failure = error;
        if (!isPassing(error)) break;
      }
    }
    throw failure;
  }

  return {
    get destroyed() {
      return handle.destroyed;
    },
    async watch(topics) {
      await cluster.connect();
      await cluster.addMultipleTargetTopics([...topics]);
    },
    async refresh() {
      await cluster.connect();
      await cluster.refreshMetadata();
    },
    async clusterId(topics) {
      await connected();
      return (await cluster.metadata({ topics: [...topics] })).clusterId;
    },
    partitions(topic) {
      return cluster
        .findTopicPartitionMetadata(topic)
        .map((metadata) => metadata.partitionId)
        .sort((a, b) => a - b);
    },
    leader(topic, partition) {
      try {
        const metadata = cluster.findTopicPartitionMetadata(topic).find((each) => each.partitionId === partition);
        return metadata === undefined || metadata.leader < 0 ? null : metadata.leader;
      } catch (error) {
        // kafkajs throws while it holds no metadata at all, which here is "none is known".
        if (errorType(error) === "KafkaJSTopicMetadataNotLoaded") return null;
        throw error;
      }
    },
    broker: (nodeId) => cluster.findBroker({ nodeId }),
    async coordinator(kind, key) {
      await connected();
      const name = `${kind} ${key}`;
      let nodeId = coordinators.get(name);
      if (nodeId === undefined) {
        nodeId = await lookUpCoordinator(kind, key);
        coordinators.set(name, nodeId);
      }
      return cluster.findBroker({ nodeId });
    },
    forgetCoordinators: () => coordinators.clear(),
    async offsets(topic, partitions) {
      const wanted = partitions.map((partition) => ({ partition }));
      const [low, high] = await Promise.all([
        cluster.fetchTopicsOffset([{ topic, partitions: wanted, fromBeginning: true }]),
        cluster.fetchTopicsOffset([{ topic, partitions: wanted, fromBeginning: false }]),
      ]);
      const highs = new Map(high.flatMap((each) => each.partitions.map((p) => [p.partition, BigInt(p.offset)])));
      const found = new Map<number, { low: bigint; high: bigint }>();
      for (const each of low.flatMap((answer) => answer.partitions)) {
        const highest = highs.get(each.partition);
        if (highest !== undefined) found.set(each.partition, { low: BigInt(each.offset), high: highest });
      }
      return found;
    },
    destroy: handle.destroy,
  };
}

/**
 * Repeats `attempt` while its failure can pass, refreshing metadata and forgetting coordinators in between.
 * @throws {LockstepError} KAFKA_UNAVAILABLE when `deadlineMs` is over; any other failure as it came
 */
export async function persist<T>(
  connection: Connection,
  options: { what: string; deadlineMs: number },
  attempt: () => Promise<T>,
): Promise<T> {
  const endMs = performance.now() + options.deadlineMs;
  for (let waitMs = BACKOFF_FIRST_MS; ; waitMs = Math.min(waitMs * 2, BACKOFF_MAX_MS)) {
    try {
      return await attempt();
    } catch (error) {
      if (!isPassing(error)) throw error;
      if (connection.destroyed || performance.now() + waitMs >= endMs) throw unavailable(options.what, error);
    }
    await sleep(waitMs);
    connection.forgetCoordinators();
    // A failed refresh shows in the next attempt, with its cause.
    await connection.refresh().catch(() => undefined);
  }
}

export const BACKOFF_FIRST_MS = 25;
export const BACKOFF_MAX_MS = 1_000;

function captureCluster(kafka: import("kafkajs").Kafka, uncommitted: boolean): WireCluster {
  let captured: WireCluster | undefined;
  kafka.consumer({
    // Never joined.
    groupId: "lockstep-connection",
    readUncommitted: uncommitted,
    allowAutoTopicCreation: false,
    partitionAssigners: [
      ({ cluster }) => {
        captured = cluster as unknown as WireCluster;
        return {
          name: "none",
          version: 0,
          assign: async () => [],
          protocol: () => ({ name: "none", metadata: Buffer.alloc(0) }),
        };
      },
    ],
  });
  assert(
    captured !== undefined,
    "kafkajs did not hand its cluster to the partition assigner: another version of kafkajs?",
  );
  return captured;
}
