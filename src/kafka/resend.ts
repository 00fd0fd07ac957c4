/**
 * Sends records to given partitions, plainly: in order, each round acknowledged before the next, idempotent, so that a retry of the
 * client puts nothing there twice. Not a transaction: an input that ends in a marker has a lag that nothing takes away.
 */
import type { OutputRecord } from "../actors/record.ts";
import type { KafkaClient } from "./client.ts";
import { batchRounds } from "./produce-batches.ts";
import { errorText, unavailable } from "./wire-errors.ts";

const BATCH_BYTES_MAX = 512 * 1024;

/** @throws {LockstepError} KAFKA_UNAVAILABLE some of the records may be there: those of the rounds before */
export async function resend(client: KafkaClient, records: readonly OutputRecord[]): Promise<void> {
  const handle = client.open();
  const producer = handle.kafka.producer({
    idempotent: true,
    maxInFlightRequests: 1,
    allowAutoTopicCreation: false,
    retry: { retries: 10, initialRetryTime: 50, maxRetryTime: 1_000 },
  });
  try {
    await producer.connect();
    for (const round of batchRounds(records, BATCH_BYTES_MAX)) {
      const topics = [...new Set(round.map(({ topic }) => topic))];
      await producer.sendBatch({
        acks: -1,
        topicMessages: topics.map((topic) => ({
          topic,
          messages: round.filter((batch) => batch.topic === topic).flatMap(({ messages }) => messages),
        })),
      });
    }
    await producer.disconnect();
  } catch (error) {
    throw unavailable(`send again (${errorText(error)})`, error);
  } finally {
    handle.destroy();
  }
}
