/** Topics and the cluster's identity on a real broker. */
import { expect, test } from "vitest";

import {
  applyTopics,
  clusterIdentity,
  describeTopics,
  inputFaults,
  maxMessageBytes,
} from "../../../src/kafka/topics.ts";
import { freshName, testClient } from "./kafka.ts";

const client = testClient();

test("what is missing is created, what is there is compared and left alone", async () => {
  const [one, two] = [freshName("one"), freshName("two")];
  const wanted = [
    { name: one, partitions: 2, config: { "retention.ms": "604800000", "max.message.bytes": "2000000" } },
    { name: two, partitions: 3, config: {} },
  ];
  expect(await applyTopics(client, wanted)).toEqual({ created: [one, two], differences: [] });
  expect(await applyTopics(client, wanted)).toEqual({ created: [], differences: [] });

  const { created, differences } = await applyTopics(client, [
    { name: one, partitions: 4, config: { "retention.ms": "1000" } },
  ]);
  expect(created).toEqual([]);
  expect(differences).toEqual([
    `Topic "${one}" has 2 partitions, wanted are 4; the count is never altered.`,
    `Topic "${one}" has retention.ms=604800000, wanted is 1000.`,
  ]);
  const described = await describeTopics(client, [one, two, "no-such-topic"]);
  expect([...described.keys()].sort()).toEqual([one, two].sort());
  expect(described.get(one)).toMatchObject({ partitions: 2, replicationFactor: 1 });
  expect(maxMessageBytes(described.get(one)!)).toBe(2_000_000);
  expect(maxMessageBytes(described.get(two)!)).toBe(1_048_588);
});

test("inputs that cannot be replayed or co-partitioned are named", async () => {
  const [plain, compacted, packed] = [freshName("plain"), freshName("compacted"), freshName("packed")];
  await applyTopics(client, [
    { name: plain, partitions: 2, config: {} },
    { name: compacted, partitions: 3, config: { "cleanup.policy": "compact,delete" } },
    { name: packed, partitions: 2, config: { "compression.type": "zstd" } },
  ]);
  const described = await describeTopics(client, [plain, compacted, packed]);
  expect(inputFaults(described, [plain])).toEqual([]);
  expect(inputFaults(described, [plain, compacted, packed, "gone"])).toEqual([
    `Input topic "${compacted}" is compacted: records that replay needs would be gone.`,
    `Input topic "${packed}" is compressed with zstd, for which there is no codec here.`,
    'Input topic "gone" does not exist.',
    `Input topics have different partition counts (${plain}, ${packed}: 2; ${compacted}: 3), so a key is not in the same shard of each.`,
  ]);
});

test("a topic that Kafka refuses is an error of the cluster's settings, not of the network", async () => {
  await expect(applyTopics(client, [{ name: "bad name!", partitions: 1, config: {} }])).rejects.toMatchObject({
    code: "KAFKA_UNSUITABLE",
  });
  await expect(
    applyTopics(client, [{ name: freshName("replicas"), partitions: 1, config: {}, replicationFactor: 9 }]),
  ).rejects.toMatchObject({ code: "KAFKA_UNSUITABLE" });
});

test("the cluster has an identity, and this one can be used", async () => {
  const identity = await clusterIdentity(client);
  expect(identity).toMatchObject({ brokers: 1, faults: [] });
  expect(identity.clusterId).toMatch(/^\S{10,}$/);
  expect((await clusterIdentity(client)).clusterId).toBe(identity.clusterId);
});
