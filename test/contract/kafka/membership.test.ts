/** The group member on a real broker. M: src/kafka/membership.ts. */
import { afterEach, expect, test } from "vitest";

import type { Membership, MembershipListener } from "../../../src/actors/ports.ts";
import { type JoinOptions, joinGroup, leaveGroup } from "../../../src/kafka/membership.ts";
import { createPublisher, transactionalIdOf } from "../../../src/kafka/publisher.ts";
import { until } from "../../support/until.ts";
import { freshName, freshTopic, testClient, withKafka, writePlain } from "./kafka.ts";

const client = testClient();
const members: Membership[] = [];
afterEach(async () => {
  await Promise.all(members.splice(0).map((member) => member.stop()));
});

const SHARDS = 4;
const ALL = [0, 1, 2, 3];

/** A member that holds what it was last assigned. */
class Member implements MembershipListener {
  shards: number[] = [];
  joins = 0;
  failures: unknown[] = [];
  memberId = "";
  membership!: Membership;
  onAssigned(shards: readonly number[], details: { memberId: string }): void {
    this.shards = [...shards];
    this.joins += 1;
    this.memberId = details.memberId;
  }
  onRebalancing(): void {}
  onFailed(error: unknown): void {
    this.failures.push(error);
  }
}

function join(groupId: string, topics: string[], options: Partial<JoinOptions> & { version?: number } = {}): Member {
  const { version = 1, ...rest } = options;
  const member = new Member();
  member.membership = joinGroup({
    client,
    groupId,
    topics,
    shardCount: SHARDS,
    sessionTimeoutMs: 6_000,
    heartbeatIntervalMs: 300,
    rebalanceTimeoutMs: 10_000,
    member: { code: { version, digest: "d" }, held: () => member.shards },
    snapshotVersions: async () => new Map(),
    listener: member,
    ...rest,
  });
  members.push(member.membership);
  return member;
}

const inputs = async () => [
  await freshTopic(client, "a", { partitions: SHARDS }),
  await freshTopic(client, "b", { partitions: SHARDS }),
];

const owned = (...group: Member[]) => group.flatMap(({ shards }) => shards).sort((a, b) => a - b);
const allOwned = (...group: Member[]) =>
  until(
    () => owned(...group).join() === ALL.join() && group.every(({ shards }) => shards.length === SHARDS / group.length),
    {
      what: `${group.length} members to own all shards`,
    },
  );

test("M3: two members share the shards, and keep what they have when one comes or goes", async () => {
  const topics = await inputs();
  const groupId = freshName("group");
  const first = join(groupId, topics);
  await allOwned(first);
  expect(first.shards).toEqual(ALL);

  const second = join(groupId, topics);
  await allOwned(first, second);
  const kept = [...first.shards];
  expect(kept.every((shard) => !second.shards.includes(shard))).toBe(true);

  const third = join(groupId, topics);
  await until(() => owned(first, second, third).join() === ALL.join() && third.shards.length === 1, {
    what: "a third",
  });
  expect([...first.shards, ...second.shards].every((shard) => first.joins > 0 && !third.shards.includes(shard))).toBe(
    true,
  );
  expect(first.shards.every((shard) => kept.includes(shard))).toBe(true);

  const before = { first: [...first.shards], second: [...second.shards] };
  await third.membership.stop();
  await until(() => owned(first, second).join() === ALL.join(), { what: "the third's shard to be taken over" });
  expect(first.shards).toEqual(expect.arrayContaining(before.first));
  expect(second.shards).toEqual(expect.arrayContaining(before.second));
  expect([first, second, third].flatMap(({ failures }) => failures)).toEqual([]);
});

test("M2: answered grows with every heartbeat", async () => {
  const member = join(freshName("group"), await inputs());
  expect(member.membership.answered()).toBe(0);
  expect(member.membership.memberId()).toBeNull();
  await allOwned(member);
  expect(member.membership.memberId()).toBe(member.memberId);
  const atJoin = member.membership.answered();
  expect(atJoin).toBeGreaterThan(0);
  await until(() => member.membership.answered() > atJoin + 2, { what: "heartbeats" });
  await member.membership.stop();
  expect(member.membership.memberId()).toBeNull();
});

test("M1: the group's offsets never move by a member, with records waiting and across rebalances", async () => {
  const topics = await inputs();
  const groupId = freshName("group");
  for (const partition of ALL) await writePlain(client, topics[0]!, ["a", "b", "c"], partition);
  const publisher = createPublisher({ client, groupId, topics });
  const writer = (await publisher.fence(transactionalIdOf(groupId, 1)))!;
  await writer.publish({
    records: [],
    positions: { [topics[0]!]: 1n, [topics[1]!]: 0n },
    metadata: { instance: "i", seq: 1, token: "t" },
  });
  await until(async () => (await publisher.committed(1))[topics[0]!]!.offset === 1n, { what: "the offset" });

  const first = join(groupId, topics);
  await allOwned(first);
  const second = join(groupId, topics);
  await allOwned(first, second);
  const answered = first.membership.answered();
  await until(() => first.membership.answered() > answered + 2, { what: "heartbeats" });
  await second.membership.stop();
  await allOwned(first);
  await first.membership.stop();

  expect((await publisher.committed(1))[topics[0]!]).toEqual({ offset: 1n, metadata: "i/1/t" });
  for (const shard of [0, 2, 3]) expect((await publisher.committed(shard))[topics[0]!]!.offset).toBeNull();
  expect(first.failures).toEqual([]);
  await writer.close();
  await publisher.close();
});

test("a shard whose snapshot is of newer code goes only to a member that has it", async () => {
  const topics = await inputs();
  const groupId = freshName("group");
  const snapshotVersions = async () => new Map([[2, 2]]);
  const old = join(groupId, topics, { snapshotVersions });
  await until(() => old.joins > 0, { what: "the old member" });
  expect(old.shards).toEqual([0, 1, 3]);
  const recent = join(groupId, topics, { snapshotVersions, version: 2 });
  await allOwned(old, recent);
  expect(recent.shards).toContain(2);
});

test("leaveGroup frees the shards of a member that died", async () => {
  const topics = await inputs();
  const groupId = freshName("group");
  // Its session lasts far longer than this test.
  const dead = join(groupId, topics, { sessionTimeoutMs: 60_000, heartbeatIntervalMs: 10_000 });
  await allOwned(dead);
  await leaveGroup(client, groupId, dead.memberId);
  await leaveGroup(client, groupId, dead.memberId);
  const groups = await withKafka(client, async (kafka) => {
    const admin = kafka.admin();
    await admin.connect();
    return (await admin.describeGroups([groupId])).groups;
  });
  expect(groups[0]!.members).toEqual([]);
});

test("another protocol in the group is a failure that stays", async () => {
  const topics = await inputs();
  const groupId = freshName("group");
  await withKafka(client, async (kafka) => {
    const consumer = kafka.consumer({ groupId });
    await consumer.connect();
    await consumer.subscribe({ topics });
    const joined = new Promise((resolve) => consumer.on(consumer.events.GROUP_JOIN, resolve));
    await consumer.run({ eachMessage: async () => {} });
    await joined;
    const member = join(groupId, topics);
    await until(() => member.failures.length > 0, { what: "the failure" });
    expect(member.failures[0]).toMatchObject({
      code: "KAFKA_UNSUITABLE",
      details: { type: "INCONSISTENT_GROUP_PROTOCOL" },
    });
    await consumer.disconnect();
  });
});
