/**
 * Sends records to given partitions, plainly: in order, each round acknowledged before the next, idempotent, so that a retry of the
 * client puts nothing there twice. Not a transaction: an input that ends in a marker has a lag that nothing takes away.
 */
import type { OutputRecord } from "../actors/record.ts";
import type { KafkaClient } from "./client.ts";
import { openConnection } from "./connection.ts";
import { openIdempotentWrites } from "./partition-writes.ts";
import { batchRounds } from "./produce-batches.ts";
import { errorText, unavailable } from "./wire-errors.ts";

const BATCH_BYTES_MAX = 512 * 1024;
/** A person waits for it. */
const SEND_MS = 30_000;

/** @throws {LockstepError} KAFKA_UNAVAILABLE some of the records may be there: those of the rounds before */
export async function resend(client: KafkaClient, records: readonly OutputRecord[]): Promise<void> {
  const connection = openConnection(client);
  try {
    const topics = [...new Set(records.map(({ topic }) => topic))];
    const writes = await openIdempotentWrites(connection, { topics, deadlineMs: SEND_MS });
    const endMs = performance.now() + SEND_MS;
    for (const round of batchRounds(records, BATCH_BYTES_MAX)) {
      await writes.locate(round, endMs);
      await writes.produce(round, endMs);
    }
  } catch (error) {
    throw unavailable(`send again (${errorText(error)})`, error);
  } finally {
    connection.destroy();
  }
}
