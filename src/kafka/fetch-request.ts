/**
 * One fetch request to one broker, and what its answer means: data records, where to go on, and how far committed data reaches.
 *
 * Invariants
 *   Q1  `nextOffset` >= `position`, and every record is in [position, nextOffset), ascending.
 *   Q2  `nextOffset` is past control records and aborted ones, so that a log that ends in them is still read to its end.
 *   Q3  A record keeps no more memory alive than its partition's share of the answer: its bytes are copied out of it.
 */
import type { InputRecord } from "../actors/record.ts";
import { filterCommitted } from "./committed-filter.ts";
import { toHeaders } from "./record-headers.ts";
import type { WireBroker, WirePartition, WireRecord } from "./wire.ts";
import { READ_COMMITTED } from "./wire.ts";

export interface PartitionPosition {
  readonly topic: string;
  readonly partition: number;
  /** Next offset to read. */
  readonly position: bigint;
}

export interface PartitionAnswer {
  readonly topic: string;
  readonly partition: number;
  readonly records: InputRecord[];
  readonly nextOffset: bigint;
  /** Committed data ends before this offset. */
  readonly lastStableOffset: bigint;
  /** First offset that is still there; null when the broker does not say. */
  readonly logStartOffset: bigint | null;
}

/** A Kafka request holds its sizes in an int32. */
const REQUEST_BYTES_MAX = 2 ** 31 - 1;

/**
 * @param positions led by this broker, at least one
 * @returns one answer per partition, in no particular order
 * @throws kafkajs' error, the first that stands in the answer: one faulty partition hides the others,
 *   so who asked for several asks for each alone then
 */
export async function fetchPositions(
  broker: WireBroker,
  positions: readonly PartitionPosition[],
  { maxBytes, maxBytesPerPartition, maxWaitMs }: { maxBytes?: number; maxBytesPerPartition: number; maxWaitMs: number },
): Promise<PartitionAnswer[]> {
  const byTopic = new Map<string, Map<number, bigint>>();
  for (const { topic, partition, position } of positions) {
    const partitions = byTopic.get(topic) ?? new Map<number, bigint>();
    byTopic.set(topic, partitions.set(partition, position));
  }
  const { responses } = await broker.fetch({
    maxWaitTime: maxWaitMs,
    minBytes: 1,
    // Where there is no room for every partition's share, those that come last in the request get nothing this time.
    maxBytes: Math.min(positions.length * maxBytesPerPartition, maxBytes ?? REQUEST_BYTES_MAX),
    isolationLevel: READ_COMMITTED,
    topics: [...byTopic].map(([topic, partitions]) => ({
      topic,
      partitions: [...partitions].map(([partition, position]) => ({
        partition,
        fetchOffset: position.toString(),
        maxBytes: maxBytesPerPartition,
      })),
    })),
  });
  return responses.flatMap(({ topicName, partitions }) =>
    partitions.map((answer) => readAnswer(topicName, byTopic.get(topicName)!.get(answer.partition)!, answer)),
  );
}

function readAnswer(topic: string, position: bigint, answer: WirePartition): PartitionAnswer {
  // A batch comes whole, also the part of it that lies before the position.
  const wanted = filterCommitted(answer.messages, answer.abortedTransactions).filter(
    ({ offset }) => BigInt(offset) >= position,
  );
  const copy = storeFor(wanted);
  const last = answer.messages.at(-1)?.batchContext;
  const end = last === undefined ? position : BigInt(last.firstOffset) + BigInt(last.lastOffsetDelta) + 1n;
  return {
    topic,
    partition: answer.partition,
    records: wanted.map((record) => toInputRecord(topic, answer.partition, record, copy)),
    nextOffset: end > position ? end : position,
    lastStableOffset: BigInt(answer.lastStableOffset),
    logStartOffset: answer.lastStartOffset === undefined ? null : BigInt(answer.lastStartOffset),
  };
}

function toInputRecord(
  topic: string,
  partition: number,
  record: WireRecord,
  copy: (part: Buffer | null) => Buffer | null,
): InputRecord {
  return {
    topic,
    partition,
    offset: BigInt(record.offset),
    key: copy(record.key),
    value: copy(record.value),
    headers: toHeaders(record.headers).map(([name, value]) => [name, copy(value)] as const),
    timestampMs: BigInt(record.timestamp),
  };
}

/**
 * Q3: kafkajs cuts keys and values out of the whole answer, or out of a whole batch that was compressed, without copying.
 * @returns what copies each of the records' byte strings, once, into memory of their own
 */
function storeFor(records: readonly WireRecord[]): (part: Buffer | null) => Buffer | null {
  let bytes = 0;
  for (const { key, value, headers } of records) {
    bytes += (key?.length ?? 0) + (value?.length ?? 0);
    for (const [, part] of toHeaders(headers)) bytes += part?.length ?? 0;
  }
  const store = Buffer.allocUnsafeSlow(bytes); // not of the pool that all buffers of the thread share
  let used = 0;
  return (part) => {
    if (part === null) return null;
    const from = used;
    used += part.copy(store, used);
    return store.subarray(from, used);
  };
}
