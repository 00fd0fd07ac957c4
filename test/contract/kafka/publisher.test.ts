/** PublisherPort and TransactionalWriter on a real broker. T and B: src/kafka/transactional-writer.ts, publisher.ts. */

import { afterEach, describe, expect, test } from "vitest";
import type { TransactionalWriter } from "../../../src/actors/ports.ts";
import { openConnection } from "../../../src/kafka/connection.ts";
import {
  createPublisher,
  type Publisher,
  type PublisherOptions,
  shardOfTransactionalId,
  transactionalIdOf,
} from "../../../src/kafka/publisher.ts";
import { clusterIdentity } from "../../../src/kafka/topics.ts";
import { until } from "../../support/until.ts";
import { freshName, freshTopic, outputRecord, readAll, readAtLeast, testClient, valuesOf } from "./kafka.ts";
import { publisherContract } from "./publisher-port.ts";

const client = testClient();
const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((each) => each.close()));
});

const TOKEN = "8f14e45f-ceea-467f-a8f2-0d4d0c5b9b11";
const metadataOf = (seq: number) => ({ instance: "i1", seq, token: TOKEN });

async function scene(options: Partial<PublisherOptions> & { outputs?: number } = {}) {
  const inputs = [
    await freshTopic(client, "in-a", { partitions: 2 }),
    await freshTopic(client, "in-b", { partitions: 2 }),
  ];
  const output = await freshTopic(client, "out", { partitions: 2 });
  const groupId = freshName("group");
  const publisher = createPublisher({ client, groupId, topics: inputs, ...options });
  opened.push(publisher);
  const positionsAt = (a: bigint, b: bigint) => ({ [inputs[0]!]: a, [inputs[1]!]: b });
  return { inputs, output, groupId, publisher, positionsAt, id: transactionalIdOf(groupId, 1) };
}

/** F2 as the runtime does it: try again while the predecessor's transaction is being completed. */
async function fence(publisher: Publisher, transactionalId: string): Promise<TransactionalWriter> {
  const writer = await until(() => publisher.fence(transactionalId), { what: `fence ${transactionalId}` });
  opened.push(writer);
  return writer;
}

/** A commit is answered before its markers are written: offsets show a moment later, unless a fence came between. */
async function _untilCommitted(publisher: Publisher, topic: string, offset: bigint) {
  return until(
    async () => {
      const committed = await publisher.committed(1);
      return committed[topic]!.offset === offset && committed;
    },
    { what: `${topic} committed at ${offset}` },
  );
}

publisherContract(async () => ({
  scene,
  read: (topic) => readAll(client, topic),
  close: async () => {},
}));

describe("publish", () => {
  test("T4: what does not fit one batch is split, and the order of a partition is kept", async () => {
    const { output, publisher, positionsAt, id } = await scene({ maxBatchBytes: 10_000 });
    const writer = await fence(publisher, id);
    const big = "x".repeat(3_000);
    const records = Array.from({ length: 40 }, (_, i) => outputRecord(output, `${i}:${big}`, { partition: i % 2 }));
    await writer.publish({ records, positions: positionsAt(1n, 1n), metadata: metadataOf(1) });
    await writer.publish({ records, positions: positionsAt(2n, 2n), metadata: metadataOf(2) });
    const read = valuesOf((await readAtLeast(client, output, 80)).filter(({ partition }) => partition === 1));
    const odd = valuesOf(records.filter(({ partition }) => partition === 1));
    expect(read).toEqual([...odd, ...odd]);
  });
});

describe("failures", () => {
  test("T3: beyond its deadline a publish fails and EndTxn is not sent any more", async () => {
    let held = false;
    const { inputs, output, publisher, positionsAt, id } = await scene({
      publishTimeoutMs: 500,
      hook: async (point) => {
        if (point !== "kafka.before-end" || held) return;
        held = true;
        const fromMs = performance.now();
        await until(() => performance.now() > fromMs + 800, { what: "the deadline to pass" });
      },
    });
    const writer = await fence(publisher, id);
    const commit = { records: [outputRecord(output, "one")], positions: positionsAt(2n, 2n), metadata: metadataOf(1) };
    await expect(writer.publish(commit)).rejects.toMatchObject({ code: "PUBLISH_FAILED", details: { stage: "end" } });
    const next = await fence(publisher, id);
    expect((await publisher.committed(1))[inputs[0]!]!.offset).toBeNull();
    await next.publish(commit);
    expect(valuesOf(await readAtLeast(client, output, 1))).toEqual(["one"]);
  });

  test("T7: Kafka takes a late TxnOffsetCommit into the next transaction of its epoch, over that one's own offsets", async () => {
    const { inputs, publisher, groupId, id } = await scene();
    const connection = openConnection(client);
    opened.push({ close: async () => connection.destroy() });
    const coordinator = await connection.coordinator("transaction", id);
    const identity = {
      transactionalId: id,
      ...(await coordinator.initProducerId({ transactionalId: id, transactionTimeout: 15_000 })),
    };
    const group = await connection.coordinator("group", groupId);
    const sendOffset = (offset: string) => {
      const partitions = [{ partition: 1, offset, metadata: "" }];
      return group.txnOffsetCommit({ ...identity, groupId, topics: [{ topic: inputs[0]!, partitions }] });
    };
    const begin = () =>
      until(
        () =>
          coordinator.addOffsetsToTxn({ ...identity, groupId }).then(
            () => true,
            (error: { type?: string }) => {
              if (error.type !== "CONCURRENT_TRANSACTIONS") throw error;
              return false;
            },
          ),
        { what: "the transaction before to be completed" },
      );
    await begin();
    await sendOffset("1");
    await coordinator.endTxn({ ...identity, transactionResult: true });
    await begin();
    await sendOffset("2");
    await sendOffset("1"); // a copy of the first one that was long on its way
    await coordinator.endTxn({ ...identity, transactionResult: true });
    await fence(publisher, id);
    // Were this 2, repeating it would be harmless, and the rule could go.
    expect((await publisher.committed(1))[inputs[0]!]!.offset).toBe(1n);
  });

  test("a topic that does not exist is refused, and named among those that do", async () => {
    const { output, publisher, positionsAt, id } = await scene();
    const writer = await fence(publisher, id);
    await expect(
      writer.publish({
        records: [outputRecord(output, "x"), outputRecord("no-such-topic", "x")],
        positions: positionsAt(1n, 1n),
        metadata: metadataOf(1),
      }),
    ).rejects.toMatchObject({ code: "PUBLISH_REFUSED", details: { topics: ["no-such-topic"] } });
  });

  test("a record above the topic's limit is refused", async () => {
    const small = await freshTopic(client, "small", { config: { "max.message.bytes": "1000" } });
    const { inputs, publisher, positionsAt, id } = await scene();
    const writer = await fence(publisher, id);
    await expect(
      writer.publish({
        records: [outputRecord(small, "x".repeat(2_000))],
        positions: positionsAt(1n, 1n),
        metadata: metadataOf(1),
      }),
    ).rejects.toMatchObject({ code: "PUBLISH_REFUSED", details: { topics: [small], stage: "produce" } });
    await fence(publisher, id);
    expect((await publisher.committed(1))[inputs[0]!]!.offset).toBeNull();
  });

  test("the cluster says who it is, as the admin client has it", async () => {
    const { publisher } = await scene();
    expect(await publisher.clusterId()).toBe((await clusterIdentity(client)).clusterId);
  });

  test("no broker: KAFKA_UNAVAILABLE, which can be tried again", async () => {
    const { createKafkaClient } = await import("../../../src/kafka/client.ts");
    // Port 1 of the loopback interface refuses at once.
    const nowhere = createKafkaClient({ brokers: ["127.0.0.1:1"], clientId: "contract" });
    const publisher = createPublisher({ client: nowhere, groupId: "g", topics: ["t"], readDeadlineMs: 300 });
    opened.push(publisher);
    const refused = { code: "KAFKA_UNAVAILABLE", remedy: "retry" };
    await expect(publisher.fence("g-0")).rejects.toMatchObject(refused);
    await expect(publisher.committed(0)).rejects.toMatchObject(refused);
    await expect(publisher.watermarks(0)).rejects.toMatchObject(refused);
    await expect(publisher.clusterId()).rejects.toMatchObject(refused);
  });
});

test("a transactional id names its shard", () => {
  expect(shardOfTransactionalId(transactionalIdOf("trading-a1", 12))).toBe(12);
  expect(() => shardOfTransactionalId("trading-a1-relay")).toThrow(/<group>-<shard>/);
});
