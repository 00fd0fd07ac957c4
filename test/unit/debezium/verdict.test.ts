/**
 * The judge of the tests of Debezium finds what it is there to find.
 */
import { describe, expect, test } from "vitest";

import { partitionFor } from "../../../src/actors/partition.ts";
import type { InputRecord } from "../../../src/actors/record.ts";
import type { OrderRecord } from "../../support/debezium/outbox-rows.ts";
import { judge } from "../../support/debezium/verdict.ts";

const PARTITIONS = 6;
const ORDER = ["e1", "e2", "e3"];

function wanted(eventId: string): OrderRecord {
  return { key: "k", value: `{"of": "${eventId}"}`, headers: [["event_id", eventId]] };
}

function record(eventId: string, changes: Partial<InputRecord> = {}): InputRecord {
  const { key, value } = wanted(eventId);
  return {
    topic: "t",
    partition: partitionFor(Buffer.from(key), PARTITIONS),
    offset: 0n,
    key: Buffer.from(key),
    value: Buffer.from(value),
    headers: [["event_id", Buffer.from(eventId)]],
    timestampMs: 0n,
    ...changes,
  };
}

function verdictOf(records: readonly InputRecord[]) {
  return judge(records, new Map(ORDER.map((eventId) => [eventId, wanted(eventId)])), {
    order: ORDER,
    partitions: PARTITIONS,
  });
}

const GOOD = { lost: 0, doubled: 0, foreign: 0, outOfOrder: 0, differing: [] };
const [one, two, three] = ORDER.map((eventId) => record(eventId)) as [InputRecord, InputRecord, InputRecord];

describe("the judge", () => {
  test("has nothing to say of records as they must be", () => {
    expect(verdictOf([one, two, three])).toEqual({ ...GOOD, records: 3 });
  });

  test("counts what is lost, doubled, foreign and out of order", () => {
    expect(verdictOf([one, three])).toMatchObject({ ...GOOD, lost: 1 });
    expect(verdictOf([one, two, two, three])).toMatchObject({ ...GOOD, doubled: 1 });
    expect(verdictOf([one, two, record("e9"), three])).toMatchObject({ ...GOOD, foreign: 1 });
    expect(verdictOf([one, three, two])).toMatchObject({ ...GOOD, outOfOrder: 1 });
  });

  test.each([
    ["another key", { key: Buffer.from("l") }],
    ["another value", { value: Buffer.from('{"of":"e2"}') }],
    ["no value", { value: null }],
    ["bytes that are no text", { value: Buffer.from([0xff, 0xfe]) }],
    ["another partition", { partition: (one.partition + 1) % PARTITIONS }],
    ["a header more", { headers: [...two.headers, ["id", Buffer.from("e2")] as const] }],
    ["a header twice", { headers: [...two.headers, ...two.headers] }],
  ])("names a record that has %s", (_what, changes) => {
    expect(verdictOf([one, record("e2", changes), three]).differing).toHaveLength(1);
  });
});
