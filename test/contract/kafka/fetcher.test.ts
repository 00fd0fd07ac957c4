/** The fetch loop and its read_committed filter on a real broker. P: src/kafka/fetcher.ts, F: src/kafka/committed-filter.ts. */
import { afterEach, describe, expect, test } from "vitest";

import type { Fetcher, FetchSink } from "../../../src/actors/ports.ts";
import type { LockstepError } from "../../../src/errors.ts";
import { openConnection } from "../../../src/kafka/connection.ts";
import { createFetcher } from "../../../src/kafka/fetcher.ts";
import { until } from "../../support/until.ts";
import { freshName, freshTopic, testClient, trim, valuesOf, withKafka, withTransactions, writePlain } from "./kafka.ts";

const client = testClient();
const fetchers: Fetcher[] = [];
afterEach(async () => {
  await Promise.all(fetchers.splice(0).map((fetcher) => fetcher.stop()));
});

type Batch = Parameters<FetchSink["onFetched"]>[0];

class CollectingSink implements FetchSink {
  readonly batches: Batch[] = [];
  readonly outOfRange: { topic: string; position: bigint }[] = [];
  onFetched(batch: Batch): void {
    this.batches.push(batch);
  }
  onOutOfRange(topic: string, position: bigint): void {
    this.outOfRange.push({ topic, position });
  }
  values(): (string | null)[] {
    return this.batches.flatMap(({ records }) => valuesOf(records));
  }
  get last(): Batch | undefined {
    return this.batches.at(-1);
  }
  async caughtUp(nextOffset: bigint): Promise<void> {
    await until(() => this.last?.caughtUp && this.last.nextOffset >= nextOffset, {
      what: `caught up at ${nextOffset}`,
    });
  }
}

function fetcherOf(
  topics: string[],
  options: { maxBytesPerPartition?: number; maxBytesPerRequest?: number; maxWaitMs?: number } = {},
): { fetcher: Fetcher; errors: LockstepError[] } {
  const errors: LockstepError[] = [];
  const fetcher = createFetcher({
    connection: openConnection(client),
    topics,
    onError: (error) => errors.push(error),
    ...options,
  });
  fetchers.push(fetcher);
  return { fetcher, errors };
}

describe("positions", () => {
  test("P3, P4, Q1: batches tile the log from the position on, and an empty answer says again that all is read", async () => {
    const topic = await freshTopic(client, "in");
    const values = Array.from({ length: 50 }, (_, i) => `v${i}`.padEnd(200, "."));
    for (let i = 0; i < 50; i += 10) await writePlain(client, topic, values.slice(i, i + 10));
    const sink = new CollectingSink();
    const { fetcher, errors } = fetcherOf([topic], { maxBytesPerPartition: 3_000 });
    fetcher.open(0, { [topic]: 3n }, sink);
    await sink.caughtUp(50n);

    expect(sink.values()).toEqual(values.slice(3));
    const tiles = sink.batches.filter(({ records }) => records.length > 0);
    expect(tiles.length).toBeGreaterThan(1);
    expect(tiles.slice(0, -1).every(({ caughtUp }) => !caughtUp)).toBe(true);
    for (const [i, batch] of tiles.entries()) {
      expect(batch.records[0]!.offset).toBe(i === 0 ? 3n : tiles[i - 1]!.nextOffset);
    }
    const answered = sink.last!.answeredAtMs;
    const again = await until(() => sink.last!.answeredAtMs > answered && sink.last, { what: "a further answer" });
    expect(again).toMatchObject({ records: [], caughtUp: true, nextOffset: 50n, lastStableOffset: 50n });

    await writePlain(client, topic, ["new"]);
    await until(() => sink.values().at(-1) === "new", { what: "the new record" });
    expect(errors).toEqual([]);
  });

  test("P9: after records came it is said at once that the other input is empty, not after a long poll", async () => {
    const topics = [await freshTopic(client, "a"), await freshTopic(client, "b")] as const;
    const sink = new CollectingSink();
    const maxWaitMs = 5_000;
    const { fetcher } = fetcherOf([...topics], { maxWaitMs });
    fetcher.open(0, { [topics[0]]: 0n, [topics[1]]: 0n }, sink);
    for (let offset = 1n; offset <= 3n; offset += 1n) {
      await writePlain(client, topics[0], [`v${offset}`]);
      const arrived = await until(
        () => sink.batches.find(({ topic, nextOffset }) => topic === topics[0] && nextOffset === offset),
        { what: "the record" },
      );
      const empty = await until(
        () => sink.batches.find(({ topic, askedAtMs }) => topic === topics[1] && askedAtMs >= arrived.answeredAtMs),
        { what: "an answer of the other input that was asked for afterwards" },
      );
      expect(empty.caughtUp).toBe(true);
      expect(empty.answeredAtMs - arrived.answeredAtMs).toBeLessThan(maxWaitMs);
    }
  });

  test("all inputs of several shards are fetched, each batch with its topic", async () => {
    const topics = [await freshTopic(client, "a", { partitions: 3 }), await freshTopic(client, "b", { partitions: 3 })];
    for (const topic of topics) {
      for (const partition of [0, 1, 2]) await writePlain(client, topic, [`${topic}/${partition}`], partition);
    }
    const { fetcher } = fetcherOf(topics);
    const sinks = [0, 1, 2].map(() => new CollectingSink());
    for (const shard of [0, 2]) fetcher.open(shard, Object.fromEntries(topics.map((t) => [t, 0n])), sinks[shard]!);
    for (const shard of [0, 2]) {
      await until(() => sinks[shard]!.values().length === 2, { what: `shard ${shard}` });
      expect(sinks[shard]!.values().sort()).toEqual(topics.map((topic) => `${topic}/${shard}`).sort());
    }
    const together = new Set(sinks[0]!.batches.slice(-2).map(({ answeredAtMs }) => answeredAtMs));
    expect(together.size).toBe(1);
    expect(sinks[1]!.batches).toEqual([]);
  });

  test("P8: an answer has room for some partitions only, and all of them come all the same, side by side", async () => {
    const topic = await freshTopic(client, "in", { partitions: 4 });
    const values = Array.from({ length: 20 }, (_, i) => `v${i}`.padEnd(500, "."));
    for (let partition = 0; partition < 4; partition += 1) {
      for (const value of values) await writePlain(client, topic, [value], partition);
    }
    const { fetcher, errors } = fetcherOf([topic], { maxBytesPerPartition: 1_500, maxBytesPerRequest: 3_000 });
    const sinks = Array.from({ length: 4 }, () => new CollectingSink());
    for (const [shard, sink] of sinks.entries()) fetcher.open(shard, { [topic]: 0n }, sink);
    for (const sink of sinks) await sink.caughtUp(20n);

    for (const sink of sinks) expect(sink.values()).toEqual(values);
    const answers = new Map<number, number>();
    for (const { answeredAtMs, records } of sinks.flatMap(({ batches }) => batches)) {
      const bytes = records.reduce((sum, { value }) => sum + (value?.length ?? 0), 0);
      answers.set(answeredAtMs, (answers.get(answeredAtMs) ?? 0) + bytes);
    }
    expect(Math.max(...answers.values())).toBeLessThanOrEqual(3_000);
    for (const { caughtUp, nextOffset } of sinks.flatMap(({ batches }) => batches))
      expect(caughtUp).toBe(nextOffset === 20n);
    const firsts = sinks.map(({ batches }) => batches.find(({ records }) => records.length > 0)!.answeredAtMs);
    const ends = sinks.map(({ batches }) => batches.findLast(({ records }) => records.length > 0)!.answeredAtMs);
    expect(Math.max(...firsts)).toBeLessThan(Math.min(...ends)); // none waited until another was done
    expect(errors).toEqual([]);
  });

  test("Q3: a record keeps no more memory alive than its own partition's records", async () => {
    const topic = await freshTopic(client, "in", { partitions: 2 });
    await writePlain(client, topic, ["small"], 0);
    await writePlain(client, topic, ["large".padEnd(50_000, ".")], 1);
    const { fetcher } = fetcherOf([topic]);
    const sinks = [new CollectingSink(), new CollectingSink()];
    for (const [shard, sink] of sinks.entries()) fetcher.open(shard, { [topic]: 0n }, sink);
    for (const sink of sinks) await sink.caughtUp(1n);
    const [small] = sinks[0]!.batches.flatMap(({ records }) => records);
    expect(small!.value!.toString()).toBe("small");
    expect(small!.value!.buffer.byteLength).toBe((small!.key?.length ?? 0) + 5);
  });

  test("P2: nothing comes of a paused partition, and resuming goes on where the sink stopped", async () => {
    const topic = await freshTopic(client, "in");
    const other = await freshTopic(client, "other");
    const { fetcher } = fetcherOf([topic, other]);
    const sink = new CollectingSink();
    fetcher.open(0, { [topic]: 0n, [other]: 0n }, sink);
    await until(() => sink.batches.length > 2, { what: "answers" });

    // A request for `topic` is under way at almost every moment: its answer has to be dropped.
    fetcher.pause(0, topic);
    const paused = sink.batches.length;
    await writePlain(client, topic, ["a", "b"]);
    await writePlain(client, other, ["o"]);
    await until(() => sink.values().includes("o"), { what: "the other input" });
    expect(sink.batches.slice(paused).filter((batch) => batch.topic === topic)).toEqual([]);

    fetcher.resume(0, topic);
    await until(() => sink.values().includes("b"), { what: "the paused input" });
    expect(sink.values().sort()).toEqual(["a", "b", "o"]);
  });

  test("P2: pausing inside onFetched drops nothing and doubles nothing", async () => {
    const topic = await freshTopic(client, "in");
    const values = Array.from({ length: 40 }, (_, i) => `v${i}`.padEnd(300, "."));
    for (let i = 0; i < 40; i += 4) await writePlain(client, topic, values.slice(i, i + 4));
    const { fetcher } = fetcherOf([topic], { maxBytesPerPartition: 2_000 });
    let pauses = 0;
    const sink = new (class extends CollectingSink {
      override onFetched(batch: Batch): void {
        super.onFetched(batch);
        if (batch.records.length === 0) return;
        pauses += 1;
        fetcher.pause(0, topic);
        setImmediate(() => fetcher.resume(0, topic));
      }
    })();
    fetcher.open(0, { [topic]: 0n }, sink);
    await sink.caughtUp(40n);
    expect(sink.values()).toEqual(values);
    expect(pauses).toBeGreaterThan(3);
  });

  test("P2: after close nothing comes, and a shard opened again begins at its new position", async () => {
    const topic = await freshTopic(client, "in");
    await writePlain(client, topic, ["a", "b", "c"]);
    const { fetcher } = fetcherOf([topic]);
    const before = new CollectingSink();
    fetcher.open(0, { [topic]: 0n }, before);
    await before.caughtUp(3n);
    fetcher.close(0);
    const closed = before.batches.length;

    const after = new CollectingSink();
    fetcher.open(0, { [topic]: 1n }, after);
    await after.caughtUp(3n);
    expect(after.values()).toEqual(["b", "c"]);
    expect(before.batches.length).toBe(closed);
  });

  test("P1: a position beyond the end or below the beginning is reported, and nothing is reset", async () => {
    const topic = await freshTopic(client, "in", { partitions: 2 });
    await writePlain(client, topic, ["a", "b", "c", "d"]);
    await writePlain(client, topic, ["x"], 1);
    await trim(client, topic, 2n);
    const { fetcher, errors } = fetcherOf([topic]);
    const healthy = new CollectingSink();
    fetcher.open(1, { [topic]: 0n }, healthy);
    for (const position of [1n, 99n]) {
      const sink = new CollectingSink();
      fetcher.open(0, { [topic]: position }, sink);
      await until(() => sink.outOfRange.length > 0, { what: `out of range at ${position}` });
      const seen = healthy.batches.length;
      await until(() => healthy.batches.length > seen + 2, { what: "the other shard to go on" });
      expect(sink.outOfRange).toEqual([{ topic, position }]);
      expect(sink.batches).toEqual([]);
    }
    const sink = new CollectingSink();
    fetcher.open(0, { [topic]: 2n }, sink);
    await sink.caughtUp(4n);
    expect(sink.values()).toEqual(["c", "d"]);
    expect(healthy.values()).toEqual(["x"]);
    expect(errors).toEqual([]);
  });

  test("a topic that is made later is waited for, and the failures are reported", async () => {
    const topic = `${freshName("later")}`;
    const { fetcher, errors } = fetcherOf([topic]);
    const sink = new CollectingSink();
    fetcher.open(0, { [topic]: 0n }, sink);
    await until(() => errors.length > 0, { what: "an error" });
    expect(errors[0]).toMatchObject({ code: "KAFKA_UNAVAILABLE", details: { type: "UNKNOWN_TOPIC_OR_PARTITION" } });
    await withKafka(client, async (kafka) => {
      const admin = kafka.admin();
      await admin.connect();
      await admin.createTopics({ topics: [{ topic, numPartitions: 1 }] });
      await admin.disconnect();
    });
    await writePlain(client, topic, ["a"]);
    await until(() => sink.values().length === 1, { what: "its record" });
  });

  test("gzip is read; a codec that is missing halts its partition alone, in words", async () => {
    const topic = await freshTopic(client, "in", { partitions: 2, config: { "compression.type": "gzip" } });
    const lz4 = await freshTopic(client, "lz4", { partitions: 2, config: { "compression.type": "lz4" } });
    await writePlain(client, topic, ["a", "b"]);
    await writePlain(client, lz4, ["x"]);
    const { fetcher, errors } = fetcherOf([topic, lz4]);
    const sink = new CollectingSink();
    fetcher.open(0, { [topic]: 0n, [lz4]: 0n }, sink);
    await until(() => errors.length > 0, { what: "an error" });
    expect(errors[0]).toMatchObject({ code: "KAFKA_UNSUITABLE", details: { topic: lz4, partition: 0, codec: "lz4" } });
    await until(() => sink.values().length === 2, { what: "the other input" });
    await writePlain(client, topic, ["c"]);
    await until(() => sink.values().length === 3, { what: "the other input to go on" });
    expect(errors.length).toBe(1);
  });
});

/**
 * EndTxn is answered before its marker stands in the log: until it does, what is sent next may come before it. The last stable
 * offset, below which no transaction is open, says that it does.
 */
async function stableUpTo(topic: string, end: bigint): Promise<void> {
  const connection = openConnection(client);
  try {
    await connection.watch([topic]);
    await until(async () => (await connection.offsets(topic, [0])).get(0)?.high === end, {
      what: `all below ${end} to be stable`,
    });
  } finally {
    connection.destroy();
  }
}

describe("read_committed", () => {
  test("F1: overlapping aborted transactions never pass, from whatever offset; kafkajs lets one through", async () => {
    const topic = await freshTopic(client, "in");
    await withTransactions(client, topic, async (transactions) => {
      await transactions.send("A", "a0"); // offset 0
      await transactions.send("B", "b0"); // 1
      await transactions.send("B", "b1"); // 2: a reader who begins here meets B's record first
      await transactions.send("A", "a1"); // 3
      await transactions.send("C", "c0"); // 4
      await transactions.abort("A"); // 5
      await stableUpTo(topic, 1n);
      await transactions.abort("B"); // 6
      await stableUpTo(topic, 4n);
      await transactions.send("D", "d0"); // 7
      await transactions.commit("C"); // 8
      await stableUpTo(topic, 7n);
      await transactions.abort("D"); // 9
      await stableUpTo(topic, 10n);
    });
    await writePlain(client, topic, ["end"]); // 10

    for (let from = 0n; from <= 10n; from++) {
      const { fetcher } = fetcherOf([topic]);
      const sink = new CollectingSink();
      fetcher.open(0, { [topic]: from }, sink);
      await sink.caughtUp(11n);
      expect(sink.values(), `from ${from}`).toEqual(from <= 4n ? ["c0", "end"] : ["end"]);
    }
    expect(await readWithKafkajs(topic, 2n, "end")).toEqual(["b1", "c0", "end"]);
  });

  test("F2: a key of four zero bytes is data; kafkajs takes it for an abort marker", async () => {
    const topic = await freshTopic(client, "in");
    await withTransactions(client, topic, async (transactions) => {
      await transactions.send("A", "a0");
      await transactions.send("A", "a1", Buffer.alloc(4));
      await transactions.send("A", "a2");
      await transactions.abort("A");
    });
    await writePlain(client, topic, ["end"]);
    const { fetcher } = fetcherOf([topic]);
    const sink = new CollectingSink();
    fetcher.open(0, { [topic]: 0n }, sink);
    await until(() => sink.values().length > 0, { what: "a record" });
    expect(sink.values()).toEqual(["end"]);
    expect(await readWithKafkajs(topic, 0n, "end")).toEqual(["a1", "a2", "end"]);
  });

  test("P4, Q2: caught up means all that is committed, also behind an open transaction and past markers", async () => {
    const topic = await freshTopic(client, "in");
    await writePlain(client, topic, ["a"]);
    const { fetcher } = fetcherOf([topic]);
    const sink = new CollectingSink();
    fetcher.open(0, { [topic]: 0n }, sink);
    await withTransactions(client, topic, async (transactions) => {
      await transactions.send("T", "t0"); // offset 1, open
      await writePlain(client, topic, ["b"]); // 2, behind it
      await until(() => sink.last?.caughtUp && sink.last.lastStableOffset === 1n, { what: "the stable end" });
      expect(sink.values()).toEqual(["a"]);
      expect(sink.last!.nextOffset).toBe(1n);
      await transactions.abort("T"); // 3: marker
    });
    await sink.caughtUp(4n);
    expect(sink.values()).toEqual(["a", "b"]);
    expect(sink.last).toMatchObject({ nextOffset: 4n, lastStableOffset: 4n });
  });
});

/** What kafkajs' own consumer delivers from an offset on, until a value comes. */
async function readWithKafkajs(topic: string, from: bigint, lastValue: string): Promise<string[]> {
  return withKafka(client, async (kafka) => {
    const groupId = freshName("kafkajs");
    const admin = kafka.admin();
    await admin.connect();
    await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: from.toString() }] });
    await admin.disconnect();
    const consumer = kafka.consumer({ groupId, maxWaitTimeInMs: 50 });
    await consumer.connect();
    await consumer.subscribe({ topic, fromBeginning: true });
    const values: string[] = [];
    await consumer.run({ eachMessage: async ({ message }) => void values.push(message.value!.toString()) });
    await until(() => values.includes(lastValue), { what: `kafkajs to read "${lastValue}"` });
    await consumer.disconnect();
    return values;
  });
}
