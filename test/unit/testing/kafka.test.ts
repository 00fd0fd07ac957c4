/** Kafka in memory: what its transactions show, to whom, and when. */
import { expect, test } from "vitest";

import type { OutputRecord } from "../../../src/actors/record.ts";
import { createFaults, NO_FAULTS } from "../../../src/testing/faults.ts";
import { MemoryKafka } from "../../../src/testing/kafka.ts";
import { PartitionLog } from "../../../src/testing/kafka-log.ts";
import { createRandom } from "../../../src/testing/random.ts";
import { createSchedule } from "../../../src/testing/schedule.ts";

const TIMEOUT_MS = 3_000;
const OUT = { topic: "out", partition: 0 };

function record(value: string): OutputRecord {
  return { ...OUT, key: null, value: Buffer.from(value), headers: [], timestampMs: 0n };
}

function broker() {
  const schedule = createSchedule();
  const random = createRandom(1);
  const faults = createFaults(NO_FAULTS, random);
  const kafka = new MemoryKafka({ schedule, faults, random, topics: { out: 1 } });
  const values = () => kafka.readTopic("out").map(({ value }) => String(value));
  return { schedule, kafka, values };
}

test("KL1, KL2: a reader sees what was committed below the first open transaction, and markers take offsets", () => {
  const log = new PartitionLog("out", 0);
  const [open, aborted, committed] = [1, 2, 3].map(() => ({ state: "open" as "open" | "committed" | "aborted" }));
  log.append([record("plain")], null); // 0
  log.append([record("a0")], aborted!); // 1
  log.append([record("c0")], committed!); // 2
  log.append([record("o0")], open!); // 3
  log.endTransaction(aborted!, "aborted"); // 4
  log.append([record("behind")], null); // 5
  const seen = (from: bigint, max = 99) => {
    const { records, nextOffset } = log.read(from, max);
    return [records.map(({ value, offset }) => `${offset}:${value}`).join(" "), nextOffset];
  };
  expect(log.stable).toBe(2n);
  expect(seen(0n)).toEqual(["0:plain", 2n]);
  log.endTransaction(committed!, "committed"); // 6
  expect(seen(0n)).toEqual(["0:plain 2:c0", 3n]);
  expect(seen(0n, 1)).toEqual(["0:plain", 1n]);
  log.endTransaction(open!, "committed"); // 7
  expect([log.stable, log.end]).toEqual([8n, 8n]);
  expect(seen(3n)).toEqual(["3:o0 5:behind", 8n]);
});

test("K1: a new epoch, by a fence or a time-out, ends what the old one may do", async () => {
  const { kafka, schedule, values } = broker();
  const old = kafka.initProducerId("id-0", TIMEOUT_MS);
  kafka.addPartitions(old, [OUT], TIMEOUT_MS);
  kafka.produce(old, { ...OUT, sequence: 0, records: [record("old")] });
  expect(() => kafka.initProducerId("id-0", TIMEOUT_MS)).toThrow("CONCURRENT_TRANSACTIONS");
  for (const act of [
    () => kafka.produce(old, { ...OUT, sequence: 1, records: [record("late")] }),
    () => kafka.endTransaction(old, "committed"),
    () => kafka.addOffsets(old, TIMEOUT_MS),
  ])
    expect(act).toThrow("INVALID_PRODUCER_EPOCH");
  await schedule.runFor(100);
  const next = kafka.initProducerId("id-0", TIMEOUT_MS);
  kafka.addPartitions(next, [OUT], TIMEOUT_MS);
  await schedule.runFor(TIMEOUT_MS + 100);
  expect(() => kafka.endTransaction(next, "committed")).toThrow("INVALID_PRODUCER_EPOCH");
  expect(values()).toEqual([]);
});

test("K2, K3, K4: an outcome is decided at once and shows later; until then offsets are the ones before", async () => {
  const { kafka, schedule, values } = broker();
  const who = kafka.initProducerId("id-0", TIMEOUT_MS);
  const publish = (value: string, sequence: number, offset: bigint) => {
    kafka.addPartitions(who, [OUT], TIMEOUT_MS);
    kafka.produce(who, { ...OUT, sequence, records: [record(value)] });
    kafka.produce(who, { ...OUT, sequence, records: [record(value)] }); // its answer was lost
    kafka.addOffsets(who, TIMEOUT_MS);
    kafka.commitOffsets(who, [{ topic: "in", partition: 0, offset, metadata: `${offset}` }]);
    kafka.endTransaction(who, "committed");
  };
  publish("one", 0, 5n);
  expect(kafka.offsetsOf(0, ["in"])).toEqual({ in: { offset: null, metadata: "" } });
  expect(() => kafka.addPartitions(who, [OUT], TIMEOUT_MS)).toThrow("CONCURRENT_TRANSACTIONS");
  kafka.endTransaction(who, "committed");
  expect(() => kafka.endTransaction(who, "aborted")).toThrow("INVALID_TXN_STATE");
  await schedule.runFor(100);
  expect(kafka.offsetsOf(0, ["in"])).toEqual({ in: { offset: 5n, metadata: "5" } });
  publish("two", 1, 7n);
  expect(kafka.offsetsOf(0, ["in"])).toEqual({ in: { offset: 5n, metadata: "5" } });
  await schedule.runFor(100);
  expect(values()).toEqual(["one", "two"]);
});
