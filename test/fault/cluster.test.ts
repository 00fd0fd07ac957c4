/**
 * A stack of three brokers: what the rows that need a cluster stand on.
 */
import { Kafka, logLevel } from "kafkajs";
import { expect } from "vitest";

import { startStack } from "../../src/stack/index.ts";
import { longTest } from "../support/fault-rows.ts";
import { until } from "../support/until.ts";

longTest("a stack of three brokers takes writes while one of them is dead, and has it back after", async () => {
  const stack = await startStack({ postgres: false, brokers: 3 });
  const { brokers, nodes } = stack.kafka!;
  const kafka = new Kafka({ brokers, logLevel: logLevel.NOTHING, retry: { initialRetryTime: 50, retries: 20 } });
  const admin = kafka.admin();
  const producer = kafka.producer();
  try {
    await Promise.all([admin.connect(), producer.connect()]);
    await admin.createTopics({ topics: [{ topic: "replicated", numPartitions: 3, replicationFactor: 3 }] });
    await nodes[2]!.kill();
    expect(nodes[2]!.pid).toBeNull();
    for (const partition of [0, 1, 2]) {
      await producer.send({ topic: "replicated", acks: -1, messages: [{ partition, value: "while one is dead" }] });
    }
    await nodes[2]!.start();
    await until(async () => (await inSyncReplicas(admin, "replicated")).every((count) => count === 3), {
      what: "all three replicas in sync",
    });
  } finally {
    await Promise.all([admin.disconnect(), producer.disconnect()]);
    await stack.stop();
  }
});

async function inSyncReplicas(admin: ReturnType<Kafka["admin"]>, topic: string): Promise<number[]> {
  const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
  return topics[0]!.partitions.map((partition) => partition.isr.length);
}
