/**
 * What rows become, as a table.
 */
import { describe, expect, test } from "vitest";

import { partitionFor } from "../../../src/actors/partition.ts";
import { outputBytes } from "../../../src/actors/routes.ts";
import { type OutboxTargets, toOutboxRecord } from "../../../src/relay/outbox-record.ts";

const targets: OutboxTargets = {
  table: "app.outbox",
  events: {
    topic: "orders",
    partitions: 6,
    bytesMax: 2_000,
    aheadMsMax: 3_600_000,
    behindMsMax: Number.MAX_SAFE_INTEGER,
  },
  deadLetters: {
    topic: "orders.dlq",
    partitions: 3,
    bytesMax: 2_000,
    aheadMsMax: 3_600_000,
    behindMsMax: Number.MAX_SAFE_INTEGER,
  },
};
const COMMITTED_MS = Date.parse("2026-11-21T00:30:00Z");
const KEY = "2b0e8f14-7f0f-4c55-9d0b-0a2f6f1f9c11";

function made(change: Record<string, string | null> = {}, to = targets) {
  const row = {
    event_id: "11111111-1111-4111-8111-111111111111",
    aggregate_type: "order",
    aggregate_id: KEY,
    type: "OrderPlaced",
    payload: '{"qty": 1.20000000, "big": 12345678901234567890.12}',
    occurred_at: "2026-11-21 00:22:06.034266+00",
    ...change,
  };
  const values = new Map(Object.entries(row).map(([name, text]) => [name, text === null ? null : Buffer.from(text)]));
  const { record, dead } = toOutboxRecord(values, COMMITTED_MS, to);
  const headers = Object.fromEntries(record.headers.map(([name, value]) => [name, String(value)]));
  return { record, dead, headers, row };
}

test("RI7: key, value and headers are the row's, the value byte for byte", () => {
  const { record, dead, headers, row } = made();
  expect(dead).toBe(false);
  expect(record).toMatchObject({
    topic: "orders",
    partition: partitionFor(Buffer.from(KEY), 6),
    key: Buffer.from(KEY),
    value: Buffer.from(row.payload),
  });
  expect(headers).toEqual({
    event_id: row.event_id,
    event_type: "OrderPlaced",
    aggregate_type: "order",
    aggregate_id: KEY,
    occurred_at: "2026-11-21T00:22:06.034266Z",
  });
  expect(record.timestampMs).toBe(BigInt(Date.parse("2026-11-21T00:22:06.034Z")));
});

describe("times", () => {
  test.each<[printed: string, iso: string, ms: number]>([
    ["2026-11-21 00:22:06+00", "2026-11-21T00:22:06.000000Z", Date.parse("2026-11-21T00:22:06Z")],
    ["2026-11-21 00:22:06.5+00", "2026-11-21T00:22:06.500000Z", Date.parse("2026-11-21T00:22:06.5Z")],
    ["2026-11-21 00:22:06.0345+00", "2026-11-21T00:22:06.034500Z", Date.parse("2026-11-21T00:22:06.035Z")],
    ["2026-11-21 00:22:06.999999+00", "2026-11-21T00:22:06.999999Z", Date.parse("2026-11-21T00:22:07Z")],
    // A time that the broker would refuse, or that is none: the commit's.
    ["2026-11-21 09:00:00+00", "2026-11-21T09:00:00.000000Z", COMMITTED_MS],
    ["1969-12-31 23:59:59+00", "1969-12-31T23:59:59.000000Z", COMMITTED_MS],
    ["0044-03-15 12:00:00+00 BC", "0044-03-15 12:00:00+00 BC", COMMITTED_MS],
    ["infinity", "infinity", COMMITTED_MS],
    ["-infinity", "-infinity", COMMITTED_MS],
  ])("%s", (printed, iso, ms) => {
    const { record, headers } = made({ occurred_at: printed });
    expect(headers["occurred_at"]).toBe(iso);
    expect(record.timestampMs).toBe(BigInt(ms));
  });
});

describe("NULL", () => {
  test("payload: a record without a value", () => {
    expect(made({ payload: null })).toMatchObject({ dead: false, record: { value: null } });
  });
  test("type, aggregate type, time: no such header", () => {
    const { dead, headers, record } = made({ type: null, aggregate_type: null, occurred_at: null });
    expect(dead).toBe(false);
    expect(Object.keys(headers)).toEqual(["event_id", "aggregate_id"]);
    expect(record.timestampMs).toBe(BigInt(COMMITTED_MS));
  });
  test.each([
    ["event_id", "RECORD_REFUSED"],
    ["aggregate_id", "RECORD_WITHOUT_KEY"],
  ])("RI8: %s: a dead letter", (column, code) => {
    const { dead, record, headers, row } = made({ [column]: null });
    expect(dead).toBe(true);
    expect(record).toMatchObject({ topic: "orders.dlq", value: Buffer.from(row.payload) });
    expect(headers).toMatchObject({
      "__streams.errors.exception": code,
      "__streams.errors.topic": "orders",
      "__lockstep.outbox.table": "app.outbox",
    });
  });
});

test("RI8: a row larger than its topic takes is a dead letter that fits: without its value, which it tells the size of", () => {
  const { dead, record, headers } = made({ payload: `"${"x".repeat(5_000)}"` });
  expect(dead).toBe(true);
  expect(record).toMatchObject({ topic: "orders.dlq", value: null });
  expect(headers).toMatchObject({
    "__streams.errors.exception": "OUTPUT_TOO_LARGE",
    "__lockstep.omitted.bytes": "5002",
    event_id: "11111111-1111-4111-8111-111111111111",
  });
  expect(record.partition).toBeLessThan(3);
  expect(outputBytes(record)).toBeLessThanOrEqual(2_000);
});

test.each(["2026-11-21 00:22:06", "2026-11-21", "1732148526000", ""])(
  "RI6: a time without a zone halts: %s",
  (printed) => {
    expect(() => made({ occurred_at: printed })).toThrow(expect.objectContaining({ code: "RELAY_SET_UP_CHANGED" }));
  },
);

test("RI8, RI10: a dead letter that fits only without its headers keeps its event_id, by which a resync knows it", () => {
  const { dead, record, headers, row } = made({ type: "x".repeat(5_000) });
  expect(dead).toBe(true);
  expect(headers).toMatchObject({ event_id: row.event_id, "__streams.errors.exception": "OUTPUT_TOO_LARGE" });
  expect(headers).not.toHaveProperty("event_type");
  expect(outputBytes(record)).toBeLessThanOrEqual(2_000);
});

test("RI8: one whose event_id alone is too large fits without it", () => {
  const { dead, record, headers } = made({ event_id: "x".repeat(5_000) });
  expect(dead).toBe(true);
  expect(headers).not.toHaveProperty("event_id");
  expect(outputBytes(record)).toBeLessThanOrEqual(2_000);
});

test("RI6: a table that has lost a column halts", () => {
  expect(() => toOutboxRecord(new Map(), COMMITTED_MS, targets)).toThrow(
    expect.objectContaining({ code: "RELAY_SET_UP_CHANGED" }),
  );
});

test.each<[name: string, event: string | null, occurred: string, ms: number]>([
  ["an event within the limits: its own", "1", "2026-11-21 00:10:00+00", Date.parse("2026-11-21T00:10:00Z")],
  ["an event too far behind: the commit's", "1", "2026-11-20 23:30:00+00", COMMITTED_MS],
  [
    "a dead letter that its own topic takes: its own",
    null,
    "2026-11-20 23:30:00+00",
    Date.parse("2026-11-20T23:30:00Z"),
  ],
  ["a dead letter too far behind: the commit's", null, "2026-11-20 12:00:00+00", COMMITTED_MS],
])("a time that the topic would refuse as too old, %s", (_, event_id, occurred_at, ms) => {
  const { record, dead } = made(
    { event_id, occurred_at },
    {
      ...targets,
      events: { ...targets.events, behindMsMax: 3_600_000 },
      deadLetters: { ...targets.deadLetters, behindMsMax: 10 * 3_600_000 },
    },
  );
  expect(dead).toBe(event_id === null);
  expect(record.timestampMs).toBe(BigInt(ms));
});
