/**
 * What we use of kafkajs' `Cluster` and `Broker`, beyond what its type declarations say.
 *
 * `Broker` has one method per Kafka request, which picks the greatest version that both sides know, encodes, waits and
 * decodes, and throws the first error that stands in the answer. kafkajs 2.2.4, src/broker/index.js and src/cluster/index.js.
 */
import type { Cluster, PartitionMetadata } from "kafkajs";

import type { WireHeader } from "./record-headers.ts";

export interface WireRecord {
  readonly offset: string;
  readonly timestamp: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: readonly WireHeader[];
  readonly isControlRecord: boolean;
  readonly batchContext: {
    readonly firstOffset: string;
    readonly lastOffsetDelta: number;
    readonly producerId: string;
    readonly inTransaction: boolean;
  };
}

export interface AbortedTransaction {
  readonly producerId: string;
  readonly firstOffset: string;
}

export interface WirePartition {
  readonly partition: number;
  readonly highWatermark: string;
  readonly lastStableOffset: string;
  /** What the protocol calls log_start_offset; from version 5 of the request on. */
  readonly lastStartOffset?: string;
  readonly abortedTransactions: readonly AbortedTransaction[];
  readonly messages: readonly WireRecord[];
}

export interface TopicPartitions<P> {
  readonly topic: string;
  readonly partitions: P[];
}

interface ProducerIdentity {
  readonly transactionalId: string;
  readonly producerId: string;
  readonly producerEpoch: number;
}

export interface WireBroker {
  fetch(request: {
    maxWaitTime: number;
    minBytes: number;
    maxBytes: number;
    isolationLevel: number;
    topics: TopicPartitions<{ partition: number; fetchOffset: string; maxBytes: number }>[];
  }): Promise<{ responses: { topicName: string; partitions: WirePartition[] }[] }>;

  initProducerId(request: {
    /** Undefined: an idempotent producer without transactions. */
    transactionalId?: string;
    transactionTimeout: number;
  }): Promise<{ producerId: string; producerEpoch: number }>;
  addPartitionsToTxn(request: ProducerIdentity & { topics: TopicPartitions<number>[] }): Promise<unknown>;
  addOffsetsToTxn(request: ProducerIdentity & { groupId: string }): Promise<unknown>;
  txnOffsetCommit(
    request: ProducerIdentity & {
      groupId: string;
      topics: TopicPartitions<{ partition: number; offset: string; metadata: string }>[];
    },
  ): Promise<unknown>;
  endTxn(request: ProducerIdentity & { transactionResult: boolean }): Promise<unknown>;

  offsetFetch(request: { groupId: string; topics: TopicPartitions<{ partition: number }>[] }): Promise<{
    responses: TopicPartitions<{ partition: number; offset: string; metadata: string | null }>[];
  }>;
  findGroupCoordinator(request: {
    groupId: string;
    coordinatorType: number;
  }): Promise<{ coordinator: { nodeId: number } }>;
  leaveGroup(request: { groupId: string; memberId: string }): Promise<unknown>;
  apiVersions(): Promise<Record<number, { minVersion: number; maxVersion: number }>>;

  /** The parts that a method of `Broker` is made of, for the one request that we encode ourselves: produce-request.ts. */
  lookupRequest(apiKey: number, definitions: unknown): (fields: object) => WireProtocol;
  readonly connectionPool: { send(protocol: WireProtocol): Promise<unknown> };
  disconnect(): Promise<void>;
}

export interface WireProtocol {
  readonly request: {
    readonly apiVersion: number;
    readonly expectResponse: () => boolean;
    readonly encode: () => Promise<{ readonly buf: Buffer; readonly buffer: Buffer; size(): number }>;
  };
  readonly response: unknown;
}

export interface WireCluster extends Omit<Cluster, "findBroker" | "getNodeIds" | "metadata"> {
  getNodeIds(): string[];
  findBroker(node: { nodeId: string | number }): Promise<WireBroker>;
  findTopicPartitionMetadata(topic: string): PartitionMetadata[];
  /** As the broker answers; its type in kafkajs leaves the cluster out. */
  metadata(of: { topics: string[] }): Promise<{ clusterId: string }>;
}

export const READ_UNCOMMITTED = 0;
export const READ_COMMITTED = 1;

export const COORDINATOR = { group: 0, transaction: 1 } as const;
export type CoordinatorKind = keyof typeof COORDINATOR;
