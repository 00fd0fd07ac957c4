/** Whether every partition has all of its replicas in sync: only then may a broker be lost without losing what it acknowledged. */
import { createKafkaClient } from "../../src/kafka/client.ts";

const ATTEMPT_MS = 5_000;

/** @returns partitions that lack a replica or a leader; null: no broker answered in time */
export async function lacking(brokers: readonly string[]): Promise<number | null> {
  const client = createKafkaClient({ brokers, clientId: "lockstep-soak-replicas", requestTimeoutMs: ATTEMPT_MS });
  const handle = client.open();
  try {
    const admin = handle.kafka.admin();
    await admin.connect();
    const { topics } = await admin.fetchTopicMetadata();
    return topics
      .flatMap(({ partitions }) => partitions)
      .filter(({ leader, isr, replicas }) => leader < 0 || isr.length < replicas.length).length;
  } catch {
    return null; // whoever waits asks again, and says at last what it waited for
  } finally {
    handle.destroy();
  }
}
