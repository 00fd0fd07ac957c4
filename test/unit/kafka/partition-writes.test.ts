/** What is sent to which broker, in what order and under which sequence number, while leaders move and answers are lost. */
import { expect, test } from "vitest";

import type { Connection } from "../../../src/kafka/connection.ts";
import { createPartitionWrites, repeatAnswered } from "../../../src/kafka/partition-writes.ts";
import type { PartitionBatch } from "../../../src/kafka/produce-batches.ts";
import type { ProduceRequest } from "../../../src/kafka/produce-request.ts";

const TOPIC = "t";

interface Sent {
  readonly node: number;
  readonly partition: number;
  readonly firstSequence: number;
  readonly values: string[];
}

/** A cluster by script: who leads a partition now, and what a broker does with a request. */
function cluster(options: {
  leaders: Record<number, number>;
  /** As metadata names them; none: it could not be read. */
  partitions?: number[];
  onRefresh?: (leaders: Record<number, number>) => void;
  answer?: (node: number, nth: number) => void;
}) {
  const sent: Sent[] = [];
  const calls = new Map<number, number>();
  const connection = {
    destroyed: false,
    watch: async () => {},
    partitions: () => options.partitions ?? [],
    refresh: async () => options.onRefresh?.(options.leaders),
    leader: (_topic: string, partition: number) => options.leaders[partition] ?? null,
    forgetCoordinators: () => {},
    broker: async (node: number) => node,
  } as unknown as Connection;
  const send = async (broker: unknown, { topics }: ProduceRequest) => {
    const node = broker as number;
    const nth = (calls.get(node) ?? 0) + 1;
    calls.set(node, nth);
    for (const { partition, firstSequence, records } of topics.flatMap((topic) => topic.partitions)) {
      sent.push({ node, partition, firstSequence, values: records.map(({ value }) => String(value)) });
    }
    options.answer?.(node, nth);
  };
  return { connection, sent, writes: createPartitionWrites(connection, { producerId: "1", producerEpoch: 0 }, send) };
}

function batch(partition: number, ...values: string[]): PartitionBatch {
  const common = { topic: TOPIC, partition, key: null, headers: [], timestampMs: 0n };
  return { topic: TOPIC, partition, records: values.map((value) => ({ ...common, value: Buffer.from(value) })) };
}

function connectionLost(): never {
  throw Object.assign(new Error("connection closed"), { name: "KafkaJSConnectionClosedError" });
}

const soon = () => performance.now() + 5_000;

test("W1: a batch whose answer was lost is sent again under the same sequence number, the next one under the next", async () => {
  const { writes, sent } = cluster({
    leaders: { 0: 1 },
    answer: (_, nth) => (nth === 1 ? connectionLost() : undefined),
  });
  await writes.produce([batch(0, "a", "b")], soon());
  await writes.produce([batch(0, "c")], soon());
  expect(sent.map(({ firstSequence, values }) => [firstSequence, values.join("")])).toEqual([
    [0, "ab"],
    [0, "ab"],
    [2, "c"],
  ]);
});

test("W2: a batch whose leader moves to a broker that has answered for others is sent there", async () => {
  const { writes, sent } = cluster({
    leaders: { 0: 1, 1: 2 },
    onRefresh: (leaders) => {
      leaders[1] = 1;
    },
    answer: (node) => (node === 2 ? connectionLost() : undefined),
  });
  await writes.produce([batch(0, "a"), batch(1, "b")], soon());
  expect(sent.map(({ node, partition, values }) => [node, partition, values.join("")])).toEqual([
    [1, 0, "a"],
    [2, 1, "b"],
    [1, 1, "b"],
  ]);
});

test("W3: the next round of a partition waits for the one before", async () => {
  const { writes, sent } = cluster({ leaders: { 0: 1 }, answer: (_, nth) => (nth < 3 ? connectionLost() : undefined) });
  for (const round of [[batch(0, "a")], [batch(0, "b")]]) await writes.produce(round, soon());
  expect(sent.map(({ values }) => values.join(""))).toEqual(["a", "a", "a", "b"]);
});

test("what cannot pass is thrown as it came, and what does not pass until the deadline too", async () => {
  const refused = Object.assign(new Error("too large"), { type: "MESSAGE_TOO_LARGE" });
  const first = cluster({
    leaders: { 0: 1 },
    answer: () => {
      throw refused;
    },
  });
  await expect(first.writes.produce([batch(0, "a")], soon())).rejects.toBe(refused);
  expect(first.sent).toHaveLength(1);

  const leaderless = cluster({ leaders: {} });
  await expect(leaderless.writes.locate([batch(7, "a")], performance.now() + 20)).rejects.toThrow(
    "t/7: no leader is known",
  );
});

test.each([
  ["that has no leader", [0, 1]],
  ["of which no metadata could be read", []],
])("W4: a partition %s is waited for beyond the grace of a topic that is unknown", async (_, partitions) => {
  const leaders: Record<number, number> = {};
  const beganMs = performance.now();
  const { writes } = cluster({
    leaders,
    partitions,
    onRefresh: () => {
      if (performance.now() - beganMs > 2_500) leaders[0] = 1;
    },
  });
  await writes.locate([batch(0, "a")], beganMs + 20_000);
  expect(leaders).toEqual({ 0: 1 });
});

test("W4: a partition that metadata does not have is unknown, long before the deadline", async () => {
  const { writes } = cluster({ leaders: { 0: 1 }, partitions: [0] });
  const outcome = writes.locate([batch(7, "a")], performance.now() + 600_000);
  await expect(outcome).rejects.toMatchObject({ type: "UNKNOWN_TOPIC_OR_PARTITION", topic: "t" });
});

test("W4: what failed before a topic was said to be unknown does not use up its grace", async () => {
  const beganMs = performance.now();
  let unknown = 0;
  const { writes, sent } = cluster({
    leaders: { 0: 1 },
    answer: () => {
      if (performance.now() - beganMs < 2_200) connectionLost();
      unknown += 1;
      if (unknown <= 2) throw Object.assign(new Error("not here"), { type: "UNKNOWN_TOPIC_OR_PARTITION" });
    },
  });
  await writes.produce([batch(0, "a")], beganMs + 20_000);
  expect(unknown).toBe(3);
  expect(new Set(sent.map(({ firstSequence }) => firstSequence))).toEqual(new Set([0]));
});

test("T7: what has no sequence number is sent again after an answer, not when the answer was lost", async () => {
  const { connection } = cluster({ leaders: {} });
  const refusals = ["GROUP_LOAD_IN_PROGRESS", "NOT_COORDINATOR_FOR_GROUP"];
  let sends = 0;
  const send = async () => {
    sends += 1;
    const type = refusals.shift();
    if (type !== undefined) throw Object.assign(new Error(type), { type });
    connectionLost();
  };
  await expect(repeatAnswered(connection, soon(), async () => 1, send)).rejects.toThrow("connection closed");
  expect(sends).toBe(3);
});

test("T7: a broker that is not found yet has been sent nothing, and is looked for again", async () => {
  const { connection } = cluster({ leaders: {} });
  let looks = 0;
  const find = async () => {
    looks += 1;
    if (looks < 3) connectionLost();
    return looks;
  };
  expect(await repeatAnswered(connection, soon(), find, async (broker) => broker)).toBe(3);
});
