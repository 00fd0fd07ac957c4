/**
 * Output records as produce requests: grouped by partition, order kept, cut into batches that a topic takes.
 *
 * A request holds one batch a partition, and Kafka refuses a batch above `max.message.bytes`
 * as a whole, however small its records. So a batch has at most `maxBatchBytes`, and what is more goes into the next round.
 */
import type { OutputRecord } from "../actors/record.ts";
import { assert } from "../errors.ts";

export interface PartitionBatch {
  readonly topic: string;
  readonly partition: number;
  readonly records: OutputRecord[];
}

/** Upper bound of what surrounds key, value and headers of a record: six varints, attributes, offset and time deltas. */
const RECORD_OVERHEAD_BYTES = 32;
const HEADER_OVERHEAD_BYTES = 10;

/** @returns rounds, each with at most one batch per partition; a partition's batches come in ascending rounds */
export function batchRounds(records: readonly OutputRecord[], maxBatchBytes: number): PartitionBatch[][] {
  const batches = new Map<string, PartitionBatch[]>();
  const bytes = new Map<string, number>();
  for (const record of records) {
    const partition = `${record.topic}/${record.partition}`;
    const list = batches.get(partition) ?? [];
    batches.set(partition, list);
    const size = recordBytes(record);
    const filled = bytes.get(partition) ?? 0;
    if (list.length === 0 || filled + size > maxBatchBytes) {
      list.push({ topic: record.topic, partition: record.partition, records: [] });
      bytes.set(partition, size);
    } else bytes.set(partition, filled + size);
    list.at(-1)!.records.push(record);
  }
  const rounds: PartitionBatch[][] = [];
  for (const list of batches.values()) {
    for (const [round, batch] of list.entries()) {
      rounds[round] ??= [];
      rounds[round].push(batch);
    }
  }
  return rounds;
}

/** Every record of the commit, and every byte of its key and value, is in one batch: what is sent is what redo has. */
export function assertAllSent(records: readonly OutputRecord[], rounds: readonly (readonly PartitionBatch[])[]): void {
  const sent = rounds.flat().flatMap((batch) => batch.records);
  const [wantedBytes, sentBytes] = [contentBytes(records), contentBytes(sent)];
  assert(
    sent.length === records.length && sentBytes === wantedBytes,
    `${sent.length} records with ${sentBytes} bytes would be sent, redo has ${records.length} with ${wantedBytes}`,
    "REDO_DIFFERS",
  );
}

function contentBytes(records: readonly Pick<OutputRecord, "key" | "value">[]): number {
  return records.reduce((bytes, { key, value }) => bytes + (key?.length ?? 0) + (value?.length ?? 0), 0);
}

/** Upper bound of the bytes that a record takes in a batch, uncompressed. */
export function recordBytes(record: OutputRecord): number {
  let bytes = RECORD_OVERHEAD_BYTES + (record.key?.length ?? 0) + (record.value?.length ?? 0);
  for (const [name, value] of record.headers)
    bytes += HEADER_OVERHEAD_BYTES + Buffer.byteLength(name) + (value?.length ?? 0);
  return bytes;
}
