/** RangeReader and readTopic on a real broker. R: src/kafka/range-reader.ts. */
import { afterEach, expect, test } from "vitest";

import type { RangeReader } from "../../../src/actors/ports.ts";
import { createRangeReader } from "../../../src/kafka/range-reader.ts";
import { readTopic } from "../../../src/kafka/read-topic.ts";
import { freshTopic, readAll, testClient, trim, valuesOf, withTransactions, writePlain } from "./kafka.ts";

const client = testClient();
const readers: RangeReader[] = [];
afterEach(async () => {
  await Promise.all(readers.splice(0).map((reader) => reader.close()));
});

function readerOf(options: { maxBytes?: number } = {}): RangeReader {
  const reader = createRangeReader({ client, shard: 0, endWaitMs: 200, ...options });
  readers.push(reader);
  return reader;
}

test("R1: ranges come in order, in whatever cut, over several answers", async () => {
  const topic = await freshTopic(client, "in");
  const values = Array.from({ length: 60 }, (_, i) => `v${i}`.padEnd(300, "."));
  for (let i = 0; i < 60; i += 6) await writePlain(client, topic, values.slice(i, i + 6));
  const reader = readerOf({ maxBytes: 2_500 });
  expect(valuesOf(await reader.read(topic, 2n, 5n, 3))).toEqual(values.slice(2, 5));
  expect(valuesOf(await reader.read(topic, 5n, 41n, 36))).toEqual(values.slice(5, 41));
  expect(valuesOf(await reader.read(topic, 41n, 42n, 1))).toEqual(values.slice(41, 42));
  expect(valuesOf(await reader.read(topic, 55n, 60n, 5))).toEqual(values.slice(55, 60));
});

test("R1: control and aborted records between are not counted", async () => {
  const topic = await freshTopic(client, "in");
  await withTransactions(client, topic, async (transactions) => {
    await transactions.send("A", "a"); // offset 0
    await transactions.commit("A"); // 1
    await transactions.send("B", "b"); // 2
    await transactions.abort("B"); // 3
    await transactions.send("C", "c"); // 4
    await transactions.commit("C"); // 5
  });
  const reader = readerOf();
  expect(valuesOf(await reader.read(topic, 0n, 5n, 2))).toEqual(["a", "c"]);
  expect(valuesOf(await readAll(client, topic))).toEqual(["a", "c"]);
});

test("R2: a range below the log's beginning is INPUT_TRIMMED", async () => {
  const topic = await freshTopic(client, "in");
  await writePlain(client, topic, ["a", "b", "c", "d"]);
  await trim(client, topic, 2n);
  await expect(readerOf().read(topic, 1n, 3n, 2)).rejects.toMatchObject({
    code: "INPUT_TRIMMED",
    remedy: "halt",
    details: { low: 2n },
  });
  expect(valuesOf(await readerOf().read(topic, 2n, 4n, 2))).toEqual(["c", "d"]);
});

test("R2: another number of records, another end, or a log that ends before is INPUT_CHANGED", async () => {
  const topic = await freshTopic(client, "in");
  await writePlain(client, topic, ["a", "b", "c", "d"]);
  const changed = { code: "INPUT_CHANGED", remedy: "halt" };
  await expect(readerOf().read(topic, 0n, 3n, 2)).rejects.toMatchObject(changed);
  await expect(readerOf().read(topic, 0n, 3n, 4)).rejects.toMatchObject(changed);
  await expect(readerOf().read(topic, 2n, 9n, 7)).rejects.toMatchObject(changed);
  await expect(readerOf().read(topic, 7n, 9n, 2)).rejects.toMatchObject(changed);
});

test("readTopic reads every partition up to what was committed at its start", async () => {
  const topic = await freshTopic(client, "in", { partitions: 3 });
  await writePlain(client, topic, ["a0", "a1"], 0);
  await writePlain(client, topic, ["c0"], 2);
  const read: string[] = [];
  for await (const record of readTopic({ client, topic })) {
    read.push(`${record.partition}:${record.offset}:${record.value}`);
    if (read.length === 1) await writePlain(client, topic, ["late"], 2);
  }
  expect(read).toEqual(["0:0:a0", "0:1:a1", "2:0:c0"]);
  const later: (string | null)[] = [];
  for await (const record of readTopic({ client, topic, partitions: [0], from: new Map([[0, 1n]]) })) {
    later.push(record.value?.toString() ?? null);
  }
  expect(later).toEqual(["a1"]);
});
