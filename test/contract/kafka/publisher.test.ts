/** PublisherPort and TransactionalWriter on a real broker. T and B: src/kafka/transactional-writer.ts, publisher.ts. */
import { afterEach, describe, expect, test } from "vitest";
import { parseOffsetMetadata } from "../../../src/actors/offset-metadata.ts";
import type { TransactionalWriter } from "../../../src/actors/ports.ts";
import type { OutputRecord } from "../../../src/actors/record.ts";
import { openConnection } from "../../../src/kafka/connection.ts";
import {
  createPublisher,
  type Publisher,
  type PublisherOptions,
  shardOfTransactionalId,
  transactionalIdOf,
} from "../../../src/kafka/publisher.ts";
import type { PublishPoint } from "../../../src/kafka/transactional-writer.ts";
import { committedRecords } from "../../support/console-consumer.ts";
import { until } from "../../support/until.ts";
import { freshName, freshTopic, outputRecord, readAll, readAtLeast, testClient, valuesOf } from "./kafka.ts";

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
async function untilCommitted(publisher: Publisher, topic: string, offset: bigint) {
  return until(
    async () => {
      const committed = await publisher.committed(1);
      return committed[topic]!.offset === offset && committed;
    },
    { what: `${topic} committed at ${offset}` },
  );
}

describe("publish", () => {
  test("records, offsets and metadata of all inputs appear together", async () => {
    const { inputs, output, publisher, positionsAt, id } = await scene();
    const writer = await fence(publisher, id);
    expect(await publisher.committed(1)).toEqual({
      [inputs[0]!]: { offset: null, metadata: "" },
      [inputs[1]!]: { offset: null, metadata: "" },
    });

    await writer.publish({
      records: [outputRecord(output, "one"), outputRecord(output, "two", { partition: 1 })],
      positions: positionsAt(5n, 7n),
      metadata: metadataOf(1),
    });

    const metadata = `i1/1/${TOKEN}`;
    expect(await untilCommitted(publisher, inputs[0]!, 5n)).toEqual({
      [inputs[0]!]: { offset: 5n, metadata },
      [inputs[1]!]: { offset: 7n, metadata },
    });
    expect((await publisher.committed(0))[inputs[0]!]).toEqual({ offset: null, metadata: "" });
    expect(parseOffsetMetadata(metadata)).toEqual(metadataOf(1));
    expect(valuesOf(await readAtLeast(client, output, 2))).toEqual(["one", "two"]);
    expect((await committedRecords(output)).map((record) => record.value?.toString())).toEqual(["one", "two"]);
  });

  test("a record arrives as it was: nulls, repeated headers, any timestamp", async () => {
    const { output, publisher, positionsAt, id } = await scene();
    const writer = await fence(publisher, id);
    const records: OutputRecord[] = [
      outputRecord(output, "a", { timestampMs: 1000n, key: null }),
      outputRecord(output, "b", { timestampMs: 999n, value: null }),
      outputRecord(output, "c", {
        timestampMs: 0n,
        headers: [
          ["toString", Buffer.from("x")],
          ["h", Buffer.from("1")],
          ["h", Buffer.from("2")],
          ["__proto__", Buffer.from("p")],
          ["empty", Buffer.alloc(0)],
        ],
      }),
    ];
    await writer.publish({ records, positions: positionsAt(1n, 1n), metadata: metadataOf(1) });
    const read = await readAtLeast(client, output, records.length);
    expect(read.map(({ offset: _, ...record }) => record)).toEqual(records);
  });

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

  test("T5: fifty transactions of offsets only, one right after the other", async () => {
    const { inputs, publisher, positionsAt, id } = await scene();
    const writer = await fence(publisher, id);
    for (let seq = 1; seq <= 50; seq++) {
      await writer.publish({ records: [], positions: positionsAt(BigInt(seq), 3n), metadata: metadataOf(seq) });
    }
    const committed = await untilCommitted(publisher, inputs[0]!, 50n);
    expect(committed[inputs[0]!]).toEqual({ offset: 50n, metadata: `i1/50/${TOKEN}` });
  });

  test("T6: redo that is published again, after an abort over its partitions, is read once, and the writer goes on", async () => {
    let leave = true;
    const { output, publisher, positionsAt, id } = await scene({
      hook: (point) => {
        if (leave && point === "kafka.produced") throw new Error("gone, with its transaction open");
      },
    });
    const redo = [outputRecord(output, "a"), outputRecord(output, "b", { partition: 1 })];
    const commit = { records: redo, positions: positionsAt(1n, 1n), metadata: metadataOf(1) };
    await expect((await fence(publisher, id)).publish(commit)).rejects.toMatchObject({ code: "PUBLISH_FAILED" });
    leave = false;
    const writer = await fence(publisher, id);
    await writer.publish({ ...commit, again: true });
    await writer.publish({
      records: [outputRecord(output, "c")],
      positions: positionsAt(2n, 2n),
      metadata: metadataOf(2),
    });
    const read = valuesOf(await readAtLeast(client, output, 3));
    expect([...read].sort()).toEqual(["a", "b", "c"]);
  });

  test("fail-points are passed in order, and offsets are pending until the end", async () => {
    const points: [PublishPoint, bigint | null][] = [];
    const { inputs, output, publisher, positionsAt, id } = await scene({
      hook: async (point) => {
        points.push([point, (await publisher.committed(1))[inputs[0]!]!.offset]);
      },
    });
    const writer = await fence(publisher, id);
    await writer.publish({
      records: [outputRecord(output, "x")],
      positions: positionsAt(4n, 4n),
      metadata: metadataOf(1),
    });
    expect(points.map(([point]) => point)).toEqual([
      "kafka.begun",
      "kafka.produced",
      "kafka.offsets-sent",
      "kafka.before-end",
      "kafka.ended",
    ]);
    expect(points.slice(0, 4).map(([, offset]) => offset)).toEqual([null, null, null, null]);
  });
});

describe("failures", () => {
  for (const point of ["kafka.begun", "kafka.produced", "kafka.offsets-sent", "kafka.before-end"] as const) {
    test(`T2: a transaction broken off at ${point} leaves nothing, and the next owner publishes it once`, async () => {
      let broken = false;
      const { inputs, output, publisher, positionsAt, id } = await scene({
        hook: (reached) => {
          if (reached !== point || broken) return;
          broken = true;
          throw new Error("broken off");
        },
      });
      const commit = {
        records: [outputRecord(output, "one")],
        positions: positionsAt(9n, 9n),
        metadata: metadataOf(1),
      };
      const first = await fence(publisher, id);
      await expect(first.publish(commit)).rejects.toMatchObject({ code: "PUBLISH_FAILED", details: { fenced: false } });
      await expect(first.publish(commit)).rejects.toMatchObject({ code: "INVARIANT_BROKEN" });

      const second = await fence(publisher, id);
      expect((await publisher.committed(1))[inputs[0]!]!.offset).toBeNull();
      expect(await readAll(client, output)).toEqual([]);
      await second.publish(commit);
      await untilCommitted(publisher, inputs[0]!, 9n);
      expect(valuesOf(await readAtLeast(client, output, 1))).toEqual(["one"]);
    });
  }

  for (const records of [0, 1]) {
    test(`a fenced writer with ${records} records fails as fenced and leaves nothing`, async () => {
      const { inputs, output, publisher, positionsAt, id } = await scene();
      const zombie = await fence(publisher, id);
      await zombie.publish({
        records: [outputRecord(output, "before")],
        positions: positionsAt(1n, 1n),
        metadata: metadataOf(1),
      });
      const owner = await fence(publisher, id);
      const late = Array.from({ length: records }, () => outputRecord(output, "late"));
      await expect(
        zombie.publish({ records: late, positions: positionsAt(2n, 2n), metadata: metadataOf(2) }),
      ).rejects.toMatchObject({ code: "PUBLISH_FAILED", remedy: "restore", details: { fenced: true } });

      expect((await publisher.committed(1))[inputs[0]!]!.offset).toBe(1n);
      await owner.publish({
        records: [outputRecord(output, "after")],
        positions: positionsAt(3n, 3n),
        metadata: metadataOf(2),
      });
      expect(valuesOf(await readAtLeast(client, output, 2))).toEqual(["before", "after"]);
    });
  }

  test("Z3: a writer fenced between its offsets and its end commits neither", async () => {
    let owner: TransactionalWriter | undefined;
    const { inputs, output, publisher, positionsAt, id } = await scene({
      hook: async (point) => {
        if (point === "kafka.before-end" && owner === undefined) owner = await fence(publisher, id);
      },
    });
    const zombie = await fence(publisher, id);
    await expect(
      zombie.publish({
        records: [outputRecord(output, "late")],
        positions: positionsAt(2n, 2n),
        metadata: metadataOf(1),
      }),
    ).rejects.toMatchObject({ code: "PUBLISH_FAILED", details: { fenced: true, stage: "end" } });
    expect((await publisher.committed(1))[inputs[0]!]!.offset).toBeNull();
    await owner!.publish({
      records: [outputRecord(output, "x")],
      positions: positionsAt(1n, 1n),
      metadata: metadataOf(1),
    });
    expect(valuesOf(await readAtLeast(client, output, 1))).toEqual(["x"]);
  });

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

  test("a partition beyond the topic's is refused", async () => {
    const { output, publisher, positionsAt, id } = await scene();
    const writer = await fence(publisher, id);
    await expect(
      writer.publish({
        records: [outputRecord(output, "x", { partition: 9 })],
        positions: positionsAt(1n, 1n),
        metadata: metadataOf(1),
      }),
    ).rejects.toMatchObject({ code: "PUBLISH_REFUSED", details: { topics: [output] } });
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
  });
});

test("watermarks are the log's begin and its last stable offset", async () => {
  const { inputs, publisher, positionsAt, id, output } = await scene();
  expect(await publisher.watermarks(1)).toEqual({
    [inputs[0]!]: { low: 0n, high: 0n },
    [inputs[1]!]: { low: 0n, high: 0n },
  });
  const writer = await fence(publisher, id);
  // Two records and the marker of their transaction.
  await writer.publish({
    records: [
      outputRecord(inputs[0]!, "a", { partition: 1 }),
      outputRecord(inputs[0]!, "b", { partition: 1 }),
      outputRecord(output, "c"),
    ],
    positions: positionsAt(0n, 0n),
    metadata: metadataOf(1),
  });
  await until(async () => (await publisher.watermarks(1))[inputs[0]!]!.high === 3n, { what: "the marker" });
  expect((await publisher.watermarks(1))[inputs[0]!]).toEqual({ low: 0n, high: 3n });
});

test("a transactional id names its shard", () => {
  expect(shardOfTransactionalId(transactionalIdOf("trading-a1", 12))).toBe(12);
  expect(() => shardOfTransactionalId("trading-a1-relay")).toThrow(/<group>-<shard>/);
});
