/** The log of committed offsets on a real broker: what we read there is what a coordinator that has read it answers. G: src/kafka/offsets-log.ts. */
import { afterEach, expect, test } from "vitest";

import type { TransactionalWriter } from "../../../src/actors/ports.ts";
import { readOffsetsLog } from "../../../src/kafka/offsets-log.ts";
import { createPublisher, type Publisher, transactionalIdOf } from "../../../src/kafka/publisher.ts";
import { until } from "../../support/until.ts";
import { freshName, freshTopic, testClient, withKafka } from "./kafka.ts";

const client = testClient();
const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((each) => each.close()));
});

const TOKEN = "8f14e45f-ceea-467f-a8f2-0d4d0c5b9b11";
const SHARD = 1;
const NONE = { offset: null, metadata: "" };

async function scene(options: { hook?: (point: string) => void } = {}) {
  const inputs = [
    await freshTopic(client, "in-a", { partitions: 2 }),
    await freshTopic(client, "in-b", { partitions: 2 }),
  ];
  const groupId = freshName("group");
  const publisher = createPublisher({ client, groupId, topics: inputs, ...options });
  opened.push(publisher);
  const commit = (writer: TransactionalWriter, seq: number) =>
    writer.publish({
      records: [],
      positions: { [inputs[0]!]: BigInt(seq), [inputs[1]!]: BigInt(seq + 100) },
      metadata: { instance: "i1", seq, token: TOKEN },
    });
  const at = (seq: number) => ({
    [inputs[0]!]: { offset: BigInt(seq), metadata: `i1/${seq}/${TOKEN}` },
    [inputs[1]!]: { offset: BigInt(seq + 100), metadata: `i1/${seq}/${TOKEN}` },
  });
  const nothing = { [inputs[0]!]: NONE, [inputs[1]!]: NONE };
  return { inputs, groupId, publisher, commit, at, nothing };
}

async function fence(publisher: Publisher, groupId: string, shard = SHARD): Promise<TransactionalWriter> {
  const id = transactionalIdOf(groupId, shard);
  const writer = await until(() => publisher.fence(id), { what: `fence ${id}` });
  opened.push(writer);
  return writer;
}

test("G1: after a fence the log says what the coordinator answers, from nothing to more commits than one step back holds", async () => {
  const { publisher, groupId, commit, at, nothing, inputs } = await scene();
  const other = await fence(publisher, groupId, 0);
  const first = await fence(publisher, groupId);
  // Asking the coordinator is also what makes the log of a new cluster.
  expect(await publisher.committed(SHARD)).toEqual(nothing);
  expect(await publisher.committedInLog(SHARD)).toEqual(nothing);
  await commit(first, 1);
  await fence(publisher, groupId);
  expect(await publisher.committedInLog(SHARD)).toEqual(at(1));

  // Of another shard of the group, so that ours lies further back than what is read at first.
  for (let seq = 1; seq <= 30; seq += 1) await commit(other, seq);
  const from = { client, groupId, topics: inputs, partition: SHARD, deadlineMs: 10_000 };
  expect(await readOffsetsLog({ ...from, backFirst: 1n })).toEqual(at(1));
  expect(await publisher.committedInLog(SHARD)).toEqual(await publisher.committed(SHARD));
});

test("G1: offsets of a transaction that was broken off do not count", async () => {
  const { publisher, groupId, commit, at, inputs } = await scene();
  await commit(await fence(publisher, groupId), 1);
  const killed = createPublisher({
    client,
    groupId,
    topics: inputs,
    hook: (point) => {
      if (point === "kafka.before-end") throw new Error("killed here");
    },
  });
  opened.push(killed);
  await expect(commit(await fence(killed, groupId), 2)).rejects.toThrow("killed here");
  await fence(publisher, groupId);
  expect(await publisher.committedInLog(SHARD)).toEqual(at(1));
});

test("G3: another shard's transaction that is still open, and began before ours, hides nothing", async () => {
  let reached: () => void = () => {};
  const inside = new Promise<void>((resolve) => {
    reached = resolve;
  });
  let goOn: () => void = () => {};
  const held = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  const { publisher, groupId, commit, at, inputs } = await scene();
  const slow = createPublisher({
    client,
    groupId,
    topics: inputs,
    hook: async (point) => {
      if (point !== "kafka.before-end") return;
      reached();
      await held;
    },
  });
  opened.push(slow);
  const open = commit(await fence(slow, groupId, 0), 1);
  await inside;
  await commit(await fence(publisher, groupId), 7);
  await fence(publisher, groupId);
  expect(await publisher.committedInLog(SHARD)).toEqual(at(7));
  goOn();
  await open;
});

test("offsets that were deleted are none", async () => {
  const { publisher, groupId, commit, inputs, nothing } = await scene();
  const writer = await fence(publisher, groupId);
  await commit(writer, 1);
  await writer.close();
  await fence(publisher, groupId);
  await withKafka(client, async (kafka) => {
    const admin = kafka.admin();
    await admin.connect();
    await admin.deleteGroups([groupId]);
    await admin.disconnect();
  });
  expect(inputs).toHaveLength(2);
  expect(await publisher.committedInLog(SHARD)).toEqual(nothing);
  expect(await publisher.committed(SHARD)).toEqual(nothing);
});
