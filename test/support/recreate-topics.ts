/**
 * Topics made anew under their old names, for apps whose topics have fixed names: every test begins with empty logs.
 *
 * Kafka deletes a topic in its metadata at once and its files later, so a create right after a delete can still be refused:
 * both are waited for.
 */
import type kafkajs from "kafkajs";
import type { Admin } from "kafkajs";

import { createKafkaClient } from "../../src/kafka/client.ts";
import type { WantedTopic } from "../../src/kafka/topics.ts";
import { until } from "./until.ts";

/** @param names topics that must not be there unless they are wanted */
export async function recreateTopics(
  brokers: readonly string[],
  wanted: readonly WantedTopic[],
  names: readonly string[] = [],
): Promise<void> {
  const gone = [...new Set([...names, ...wanted.map(({ name }) => name)])];
  await withAdmin(brokers, async (admin) => {
    const standing = (await admin.listTopics()).filter((name) => gone.includes(name));
    if (standing.length > 0) await admin.deleteTopics({ topics: standing });
    await until(async () => (await admin.listTopics()).every((name) => !gone.includes(name)), {
      what: "the old topics to be gone",
    });
    if (wanted.length === 0) return;
    // Refused as long as a broker still knows an old one; what an earlier attempt created is not asked for again.
    await until(
      async () => {
        const there = new Set(await admin.listTopics());
        const missing = wanted.filter(({ name }) => !there.has(name));
        if (missing.length === 0) return true;
        await admin.createTopics({ waitForLeaders: true, topics: missing.map(toKafka) });
        return false;
      },
      { what: "the new topics" },
    );
    await until(() => haveLeaders(admin, wanted), { what: "leaders of the new topics" });
  });
}

export async function withAdmin<T>(brokers: readonly string[], work: (admin: Admin) => Promise<T>): Promise<T> {
  const handle = createKafkaClient({ brokers, clientId: "lockstep-test-admin" }).open();
  const admin = handle.kafka.admin();
  try {
    await admin.connect();
    return await work(admin);
  } finally {
    handle.destroy();
  }
}

function toKafka({ name, partitions, config }: WantedTopic): kafkajs.ITopicConfig {
  return {
    topic: name,
    numPartitions: partitions,
    replicationFactor: -1,
    configEntries: Object.entries(config).map(([key, value]) => ({ name: key, value })),
  };
}

async function haveLeaders(admin: Admin, wanted: readonly WantedTopic[]): Promise<boolean> {
  const { topics } = await admin.fetchTopicMetadata({ topics: wanted.map(({ name }) => name) });
  return wanted.every(({ name, partitions }) => {
    const found = topics.find((topic) => topic.name === name);
    return found?.partitions.filter(({ leader }) => leader >= 0).length === partitions;
  });
}
