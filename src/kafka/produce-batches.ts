/**
 * Output records as produce requests: grouped by partition, order kept, cut into batches that a topic takes.
 *
 * kafkajs makes one batch of all messages of a partition in a request, and Kafka refuses a batch above `max.message.bytes`
 * as a whole, however small its records. So a request holds at most one batch of `maxBatchBytes` per partition, and what
 * is more goes into the next round.
 */
import type { Message } from "kafkajs";

import type { Headers, OutputRecord } from "../actors/record.ts";
import { assert } from "../errors.ts";

export interface PartitionBatch {
  readonly topic: string;
  readonly partition: number;
  readonly messages: Message[];
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
      list.push({ topic: record.topic, partition: record.partition, messages: [] });
      bytes.set(partition, size);
    } else bytes.set(partition, filled + size);
    list.at(-1)!.messages.push(toMessage(record));
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
  const messages = rounds.flat().flatMap((batch) => batch.messages);
  const wanted = contentBytes(records);
  const sent = contentBytes(messages as readonly Pick<OutputRecord, "key" | "value">[]);
  assert(
    messages.length === records.length && sent === wanted,
    `${messages.length} records with ${sent} bytes would be sent, redo has ${records.length} with ${wanted}`,
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

function toMessage(record: OutputRecord): Message {
  return {
    partition: record.partition,
    key: record.key,
    value: record.value,
    headers: toMessageHeaders(record.headers),
    timestamp: record.timestampMs.toString(),
  };
}

/**
 * kafkajs takes an object, so headers of one name come together, at the place of the first. It cannot encode a header
 * without a value (it throws), so that one is sent as an empty value.
 */
function toMessageHeaders(headers: Headers): NonNullable<Message["headers"]> {
  const byName = new Map<string, Buffer[]>();
  for (const [name, value] of headers) {
    const values = byName.get(name) ?? [];
    byName.set(name, values);
    values.push(value ?? Buffer.alloc(0));
  }
  return Object.fromEntries(byName);
}
