/**
 * Sends records to given partitions again, plainly: in order, each batch acknowledged before the next, idempotent, so that a repeated
 * request puts nothing there twice. Not a transaction: an input that ends in a marker has a lag that nothing takes away.
 *
 * Invariants
 *   SA1  A request holds one batch, of one partition, so that what Kafka refuses is known by name.
 *   SA2  What comes before a record that is refused is sent, and nothing of its partition that comes after it.
 */
import type { OutputRecord } from "../actors/record.ts";
import { LockstepError } from "../errors.ts";
import type { KafkaClient } from "./client.ts";
import { openConnection } from "./connection.ts";
import { openIdempotentWrites, type PartitionWrites } from "./partition-writes.ts";
import { batchRounds, type PartitionBatch } from "./produce-batches.ts";
import { errorText, errorType, isRefused, unavailable } from "./wire-errors.ts";

/** On a record that was sent again: what it was sent again of, by which it is named in errors. */
export const REPLAY_HEADER = "lockstep-replay-of";

const BATCH_BYTES_MAX = 512 * 1024;
/** A person waits for it. */
const BATCH_MS = 30_000;

/** What to do about a refusal. */
const CURES: Readonly<Record<string, string>> = {
  TOPIC_AUTHORIZATION_FAILED: "Grant the right to write to the topic",
  CLUSTER_AUTHORIZATION_FAILED: "Grant the right to write idempotently",
  INVALID_TIMESTAMP:
    "Its time is further from now than message.timestamp.before.max.ms of the topic allows: raise that",
  MESSAGE_TOO_LARGE: "Raise max.message.bytes of the topic",
  RECORD_LIST_TOO_LARGE: "Raise max.message.bytes of the topic",
};

/** Refusals of a batch for one record of it, or for its size: a part of it may well be taken. */
const OF_SOME_RECORD: ReadonlySet<string> = new Set([
  "MESSAGE_TOO_LARGE",
  "RECORD_LIST_TOO_LARGE",
  "INVALID_TIMESTAMP",
  "INVALID_RECORD",
]);

/**
 * @param records each with the header `lockstep-replay-of`
 * @param options `batchMs`: how long failures that can pass are retried for one batch, default 30,000
 * @throws {LockstepError} PUBLISH_REFUSED Kafka will not take one of them as things stand; KAFKA_UNAVAILABLE some of a batch under way
 *   may be there. `details.sent` says of both how many are there for certain.
 */
export async function resend(
  client: KafkaClient,
  records: readonly OutputRecord[],
  { batchMs = BATCH_MS }: { batchMs?: number } = {},
): Promise<void> {
  const connection = openConnection(client);
  const topics = [...new Set(records.map(({ topic }) => topic))];
  let writes: PartitionWrites | null = null;
  let sent = 0;
  let current: PartitionBatch | null = null;

  /** SA2: of a batch that is refused for one of its records, the halves, in order, down to that record. */
  async function send(batch: PartitionBatch): Promise<void> {
    writes ??= await openIdempotentWrites(connection, { topics, deadlineMs: batchMs });
    current = batch;
    const endMs = performance.now() + batchMs;
    try {
      await writes.locate([batch], endMs);
      await writes.produce([batch], endMs);
      sent += batch.records.length;
    } catch (error) {
      if (batch.records.length === 1 || !OF_SOME_RECORD.has(errorType(error))) throw error;
      writes = null; // Its next sequence number counts what was refused.
      const middle = Math.ceil(batch.records.length / 2);
      await send({ ...batch, records: batch.records.slice(0, middle) });
      await send({ ...batch, records: batch.records.slice(middle) });
    }
  }

  try {
    for (const batch of batchRounds(records, BATCH_BYTES_MAX).flat()) await send(batch);
  } catch (error) {
    throw failureOf(error, current, { sent, count: records.length });
  } finally {
    connection.destroy();
  }
}

function failureOf(error: unknown, batch: PartitionBatch | null, { sent, count }: { sent: number; count: number }) {
  const type = errorType(error);
  const details = { sent, type, topic: batch?.topic, partition: batch?.partition };
  const state = `${sent} of ${count} were sent before; a repeat without --again leaves out what is there`;
  if (!isRefused(error)) return unavailable(`send again; ${state}`, error, details);
  const record = batch?.records[0]?.headers.findLast(([name]) => name === REPLAY_HEADER)?.[1]?.toString() ?? null;
  const which = batch === null ? "a producer" : `${record}, to be sent to ${batch.topic}/${batch.partition}`;
  return new LockstepError(
    "PUBLISH_REFUSED",
    `Kafka refuses ${which} (${errorText(error)}). ${CURES[type] ?? "Mend that"}, or leave it out by naming the others. ${state}.`,
    { details: { ...details, record }, cause: error },
  );
}
