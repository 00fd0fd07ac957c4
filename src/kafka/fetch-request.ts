/**
 * One fetch request to one broker, and what its answer means: data records, where to go on, and how far committed data reaches.
 *
 * Invariants
 *   Q1  `nextOffset` >= `position`, and every record is in [position, nextOffset), ascending.
 *   Q2  `nextOffset` is past control records and aborted ones, so that a log that ends in them is still read to its end.
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
  { maxBytesPerPartition, maxWaitMs }: { maxBytesPerPartition: number; maxWaitMs: number },
): Promise<PartitionAnswer[]> {
  const byTopic = new Map<string, Map<number, bigint>>();
  for (const { topic, partition, position } of positions) {
    const partitions = byTopic.get(topic) ?? new Map<number, bigint>();
    byTopic.set(topic, partitions.set(partition, position));
  }
  const { responses } = await broker.fetch({
    maxWaitTime: maxWaitMs,
    minBytes: 1,
    // Room for every partition's share, so that one busy partition cannot cut another's answer.
    maxBytes: Math.min(positions.length * maxBytesPerPartition, REQUEST_BYTES_MAX),
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
  const records: InputRecord[] = [];
  for (const record of filterCommitted(answer.messages, answer.abortedTransactions)) {
    const offset = BigInt(record.offset);
    // A batch comes whole, also the part of it that lies before the position.
    if (offset >= position) records.push(toInputRecord(topic, answer.partition, offset, record));
  }
  const last = answer.messages.at(-1)?.batchContext;
  const end = last === undefined ? position : BigInt(last.firstOffset) + BigInt(last.lastOffsetDelta) + 1n;
  return {
    topic,
    partition: answer.partition,
    records,
    nextOffset: end > position ? end : position,
    lastStableOffset: BigInt(answer.lastStableOffset),
    logStartOffset: answer.lastStartOffset === undefined ? null : BigInt(answer.lastStartOffset),
  };
}

function toInputRecord(topic: string, partition: number, offset: bigint, record: WireRecord): InputRecord {
  return {
    topic,
    partition,
    offset,
    key: record.key,
    value: record.value,
    headers: toHeaders(record.headers),
    timestampMs: BigInt(record.timestamp),
  };
}
