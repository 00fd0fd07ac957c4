/**
 * Topics and the cluster, as `topics apply` and the checks at start need them. A partition count is never altered: keys
 * would move to other shards.
 */

import type { Admin } from "kafkajs";
import kafkajs from "kafkajs";

import { LockstepError } from "../errors.ts";
import type { KafkaClient } from "./client.ts";
import { isCodecReadable } from "./codecs.ts";
import { openConnection, persist } from "./connection.ts";
import { errorText, isPassing, isRefused, unavailable } from "./wire-errors.ts";

export interface TopicDescription {
  readonly name: string;
  readonly partitions: number;
  readonly replicationFactor: number;
  /** Every setting in force, defaults included. */
  readonly config: Readonly<Record<string, string>>;
}

export interface WantedTopic {
  readonly name: string;
  readonly partitions: number;
  readonly config: Readonly<Record<string, string>>;
  /** Default: the broker's. */
  readonly replicationFactor?: number;
}

export interface ClusterIdentity {
  readonly clusterId: string;
  readonly brokers: number;
  /** Reasons why this cluster cannot be used; empty when it can. */
  readonly faults: readonly string[];
}

/** Request numbers of Kafka's protocol. */
const API = {
  fetch: 1,
  initProducerId: 22,
  addPartitionsToTxn: 24,
  addOffsetsToTxn: 25,
  endTxn: 26,
  txnOffsetCommit: 28,
} as const;

/** Kafka 4.0 removed the requests of before 2.1 (KIP-896): the oldest Fetch it takes is version 4. */
const FETCH_VERSION_MIN_OF_KAFKA_4 = 4;

/** @throws {LockstepError} KAFKA_UNAVAILABLE, KAFKA_UNSUITABLE */
export async function describeTopics(
  client: KafkaClient,
  names: readonly string[],
): Promise<Map<string, TopicDescription>> {
  return withAdmin(client, "describe topics", async (admin) => describe(admin, names));
}

/**
 * Creates what is missing.
 * @returns names created, and a sentence for each difference between what is wanted and what stands
 * @throws {LockstepError} KAFKA_UNAVAILABLE, KAFKA_UNSUITABLE
 */
export async function applyTopics(
  client: KafkaClient,
  wanted: readonly WantedTopic[],
): Promise<{ created: string[]; differences: string[] }> {
  return withAdmin(client, "create topics", async (admin) => {
    const before = await describe(
      admin,
      wanted.map(({ name }) => name),
    );
    const missing = wanted.filter(({ name }) => !before.has(name));
    if (missing.length > 0) {
      await admin.createTopics({
        waitForLeaders: true,
        topics: missing.map(({ name, partitions, config, replicationFactor }) => ({
          topic: name,
          numPartitions: partitions,
          replicationFactor: replicationFactor ?? -1,
          configEntries: Object.entries(config).map(([key, value]) => ({ name: key, value })),
        })),
      });
    }
    const differences = wanted.flatMap((topic) => {
      const found = before.get(topic.name);
      return found === undefined ? [] : differencesOf(topic, found);
    });
    return { created: missing.map(({ name }) => name), differences };
  });
}

/** @throws {LockstepError} KAFKA_UNAVAILABLE, KAFKA_UNSUITABLE */
export async function clusterIdentity(client: KafkaClient): Promise<ClusterIdentity> {
  const { clusterId, brokers } = await withAdmin(client, "describe the cluster", async (admin) => {
    const cluster = await admin.describeCluster();
    return { clusterId: cluster.clusterId, brokers: cluster.brokers };
  });
  const connection = openConnection(client);
  try {
    const faults: string[] = [];
    await persist(connection, { what: "versions of the brokers", deadlineMs: ADMIN_DEADLINE_MS }, async () => {
      await connection.refresh();
      faults.length = 0;
      for (const { nodeId } of brokers) {
        const versions = await (await connection.broker(nodeId)).apiVersions();
        const missing = Object.entries(API).filter(([, key]) => versions[key] === undefined);
        if (missing.length > 0) faults.push(`Broker ${nodeId} lacks ${missing.map(([name]) => name).join(", ")}.`);
        else if (versions[API.fetch]!.minVersion < FETCH_VERSION_MIN_OF_KAFKA_4) {
          faults.push(
            `Broker ${nodeId} is older than Kafka 4.0, whose group coordinator shows an offset as soon as its transaction is complete.`,
          );
        }
      }
    });
    return { clusterId, brokers: brokers.length, faults };
  } finally {
    connection.destroy();
  }
}

/** @returns a sentence for each reason why these inputs cannot be replayed or co-partitioned */
export function inputFaults(described: ReadonlyMap<string, TopicDescription>, inputs: readonly string[]): string[] {
  const faults: string[] = [];
  const counts = new Map<number, string[]>();
  for (const name of inputs) {
    const topic = described.get(name);
    if (topic === undefined) {
      faults.push(`Input topic "${name}" does not exist.`);
      continue;
    }
    counts.set(topic.partitions, [...(counts.get(topic.partitions) ?? []), name]);
    if (
      (topic.config["cleanup.policy"] ?? "")
        .split(",")
        .map((each) => each.trim())
        .includes("compact")
    ) {
      faults.push(`Input topic "${name}" is compacted: records that replay needs would be gone.`);
    }
    const codec = topic.config["compression.type"] ?? "producer";
    if (!isCodecReadable(codec))
      faults.push(`Input topic "${name}" is compressed with ${codec}, for which there is no codec here.`);
  }
  if (counts.size > 1) {
    const listed = [...counts].map(([count, names]) => `${names.join(", ")}: ${count}`).join("; ");
    faults.push(`Input topics have different partition counts (${listed}), so a key is not in the same shard of each.`);
  }
  return faults;
}

/** Greatest batch that a topic takes, in bytes; Kafka's default when the setting was not readable. */
export function maxMessageBytes(topic: TopicDescription): number {
  return Number(topic.config["max.message.bytes"] ?? 1_048_588);
}

/** How far from the broker's clock the timestamps of records may be, in ms; beyond it they are refused. */
export interface TimestampLimits {
  readonly aheadMsMax: number;
  readonly behindMsMax: number;
}

export function timestampLimits({ config }: TopicDescription): TimestampLimits {
  // The broker then writes its own time, and refuses none.
  const any = config["message.timestamp.type"] === "LogAppendTime";
  /** @param otherwise Kafka's default, where the setting was not readable */
  const limit = (name: string, otherwise: number): number =>
    any ? Number.MAX_SAFE_INTEGER : Math.min(Number.MAX_SAFE_INTEGER, Number(config[name] ?? otherwise));
  return {
    aheadMsMax: limit("message.timestamp.after.max.ms", 3_600_000),
    behindMsMax: limit("message.timestamp.before.max.ms", Number.MAX_SAFE_INTEGER),
  };
}

async function describe(admin: Admin, names: readonly string[]): Promise<Map<string, TopicDescription>> {
  const existing = new Set(await admin.listTopics());
  const found = [...new Set(names)].filter((name) => existing.has(name));
  if (found.length === 0) return new Map();
  const { topics } = await admin.fetchTopicMetadata({ topics: found });
  const { resources } = await admin.describeConfigs({
    includeSynonyms: false,
    resources: found.map((name) => ({ type: kafkajs.ConfigResourceTypes.TOPIC, name })),
  });
  const configs = new Map(resources.map(({ resourceName, configEntries }) => [resourceName, configEntries]));
  return new Map(
    topics.map(({ name, partitions }) => [
      name,
      {
        name,
        partitions: partitions.length,
        replicationFactor: partitions[0]?.replicas.length ?? 0,
        config: toConfig(configs.get(name) ?? []),
      },
    ]),
  );
}

function toConfig(entries: readonly unknown[]): Record<string, string> {
  // kafkajs types an entry as { configName, configValue }; null stands for "not set".
  return Object.fromEntries(
    (entries as { configName: string; configValue: string | null }[]).map(({ configName, configValue }) => [
      configName,
      configValue ?? "",
    ]),
  );
}

function differencesOf(wanted: WantedTopic, found: TopicDescription): string[] {
  const differences: string[] = [];
  if (found.partitions !== wanted.partitions) {
    differences.push(
      `Topic "${wanted.name}" has ${found.partitions} partitions, wanted are ${wanted.partitions}; the count is never altered.`,
    );
  }
  for (const [name, value] of Object.entries(wanted.config)) {
    if (found.config[name] !== value) {
      differences.push(
        `Topic "${wanted.name}" has ${name}=${found.config[name] ?? "(not known)"}, wanted is ${value}.`,
      );
    }
  }
  return differences;
}

const ADMIN_DEADLINE_MS = 10_000;

async function withAdmin<T>(client: KafkaClient, what: string, use: (admin: Admin) => Promise<T>): Promise<T> {
  const handle = client.open();
  const admin = handle.kafka.admin({
    retry: { initialRetryTime: 100, multiplier: 2, maxRetryTime: 2_000, retries: 6 },
  });
  try {
    await admin.connect();
    return await use(admin);
  } catch (error) {
    const refused = refusalOf(error);
    if (refused !== null) {
      throw new LockstepError("KAFKA_UNSUITABLE", `Kafka refuses: ${what} (${errorText(refused)}).`, { cause: error });
    }
    throw unavailable(what, error);
  } finally {
    handle.destroy();
  }
}

/** `createTopics` collects the errors of several topics in one. What kafkajs gave up on can still pass. */
function refusalOf(error: unknown): unknown {
  const all = (error as { errors?: unknown[] } | null)?.errors ?? [error];
  const lasting = all.filter((each) => !isPassing(each));
  return (
    lasting.find((each) => isRefused(each) || (each as { retriable?: boolean } | null)?.retriable === false) ?? null
  );
}
