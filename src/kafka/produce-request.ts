/**
 * One produce request. The bytes are ours (record-batch.ts); connection, versions and what the answer means are kafkajs'.
 *
 * kafkajs' `Broker.produce` does the same around its own encoding (src/broker/index.js, 2.2.4).
 */
import { createRequire } from "node:module";

import type { OutputRecord } from "../actors/record.ts";
import { assert } from "../errors.ts";
import { encodeBatch } from "./record-batch.ts";
import type { TopicPartitions, WireBroker } from "./wire.ts";

export interface ProduceRequest {
  /** Undefined: idempotent, without transactions. */
  readonly transactionalId?: string | undefined;
  readonly producerId: string;
  readonly producerEpoch: number;
  /** What the broker waits for its replicas, ms. */
  readonly timeoutMs: number;
  readonly topics: readonly TopicPartitions<{
    readonly partition: number;
    readonly firstSequence: number;
    readonly records: readonly OutputRecord[];
  }>[];
}

const API_KEY = 0;
/** From version 3 on a request holds batches of magic 2; up to 7 it has the fields written here. kafkajs knows none above. */
const VERSION_MIN = 3;
const VERSION_MAX = 7;
const ALL_IN_SYNC = -1;

/** Resolves when all in-sync replicas have every batch. @throws kafkajs' error, the first in the answer */
export async function produce(broker: WireBroker, request: ProduceRequest): Promise<void> {
  const { request: framed, response } = broker.lookupRequest(API_KEY, definitions())({ topicData: [] });
  const { apiVersion } = framed;
  assert(
    apiVersion >= VERSION_MIN && apiVersion <= VERSION_MAX,
    `produce requests of version ${apiVersion} are unknown here: another version of kafkajs?`,
  );
  const encode = async () => {
    const bytes = encodeProduce(request);
    return { buf: bytes, buffer: bytes, size: () => bytes.length }; // as kafkajs' Encoder shows itself
  };
  const protocol = { request: { ...framed, expectResponse: () => true, encode }, response };
  try {
    await broker.connectionPool.send(protocol);
  } catch (error) {
    if ((error as { name?: unknown }).name === "KafkaJSConnectionClosedError") await broker.disconnect();
    throw error;
  }
}

export function encodeProduce({ transactionalId, timeoutMs, topics, ...producer }: ProduceRequest): Buffer {
  const isTransactional = transactionalId !== undefined;
  const parts: Buffer[] = [string(transactionalId ?? null), int16(ALL_IN_SYNC), int32(timeoutMs), int32(topics.length)];
  for (const { topic, partitions } of topics) {
    parts.push(string(topic), int32(partitions.length));
    for (const { partition, firstSequence, records } of partitions) {
      const batch = encodeBatch(records, { ...producer, firstSequence, isTransactional });
      parts.push(int32(partition), int32(batch.length), batch);
    }
  }
  return Buffer.concat(parts);
}

let produceDefinitions: unknown;

/** kafkajs' versions of the request, among which `lookupRequest` picks. */
function definitions(): unknown {
  produceDefinitions ??= createRequire(import.meta.url)("kafkajs/src/protocol/requests/produce");
  return produceDefinitions;
}

function string(text: string | null): Buffer {
  if (text === null) return int16(-1);
  const bytes = Buffer.from(text);
  return Buffer.concat([int16(bytes.length), bytes]);
}

function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(value);
  return bytes;
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}
