/**
 * Rows of app.outbox for tests of whoever publishes them, and the record that each of them must become (docs/trading.md,
 * "Orders"): computed from the table itself, by the casts to text of Postgres.
 */
import { randomUUID } from "node:crypto";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type pg from "pg";

export interface OutboxRow {
  readonly eventId: string;
  readonly aggregateType: string;
  readonly aggregateId: string;
  readonly type: string;
  /** JSON text as the writer has it; the table keeps it as jsonb. */
  readonly payload: string;
  /** As Postgres reads it. */
  readonly occurredAt: string;
}

/** What is compared of a record. Its timestamp is not: ops/debezium/README.md, "What differs". */
export interface OrderRecord {
  readonly key: string;
  readonly value: string;
  /** By name, ascending; a name that is there twice is there twice. */
  readonly headers: readonly (readonly [name: string, value: string])[];
}

/** Rows that carry nothing special: `count` orders of `keys` aggregates in turn. */
export function plainRows(count: number, keys: readonly string[]): OutboxRow[] {
  return Array.from({ length: count }, (_, index) => ({
    ...rowOf(keys[index % keys.length]!),
    payload: JSON.stringify({ number: index, symbol: "BTC-USD", qty: "1.20000000", price: "64210.50000000" }),
  }));
}

export function someKeys(count: number): string[] {
  return Array.from({ length: count }, () => randomUUID());
}

/** One row for each thing that a publisher can get wrong, each of a name. */
export function peculiarRows(): Record<string, OutboxRow> {
  const [one, two] = someKeys(2) as [string, string];
  const payload = (text: string): OutboxRow => ({ ...rowOf(one), payload: text });
  const at = (text: string): OutboxRow => ({ ...rowOf(two), occurredAt: text });
  return {
    "text of many scripts": payload(JSON.stringify({ ñ: "Ünïcödé 日本語 עברית 🙂👩‍👩‍👧 e\u0301 \u2028\u00a0\ufeff" })),
    "characters that JSON escapes": payload(
      JSON.stringify({ 'a"b\\c': 'tab\t line\n return\r quote" \\ \u0001 \u001f \u007f' }),
    ),
    "nested JSON": payload(
      JSON.stringify({ a: [{ b: [[], {}, [null, [{ c: { d: [1, "2", false] } }]]] }], z: { y: { x: {} } } }),
    ),
    "deeply nested JSON": payload("[".repeat(200) + "]".repeat(200)),
    "numbers beyond a double": payload(
      '{"big":123456789012345678901234567890.12,"tiny":1e-30,"int":9223372036854775808,"scale":64210.50}',
    ),
    "decimals as strings": payload('{"qty":"1.20000000","price":"12345678901234567890.12345678"}'),
    "keys out of order, and one twice": payload('{"zz":1,"a":2,"mmm":3,"a":4}'),
    "a string": payload('"only text"'),
    "an empty string": payload('""'),
    "a number": payload("12.500"),
    "JSON's null": payload("null"),
    "an array": payload("[ ]"),
    "no microseconds": at("2026-11-21 00:22:06+00"),
    microseconds: at("2026-11-21 00:22:06.034266+00"),
    "one microsecond": at("2026-11-21 00:22:06.000001+00"),
    milliseconds: at("2026-11-21 00:22:06.120+00"),
    "a time in another zone": at("2026-03-29 02:59:59.999999+05:45"),
    "midnight of 1970": at("1970-01-01 00:00:00+00"),
    "before 1970": at("1969-12-31 23:59:59.5+00"),
    "far ahead": at("9999-12-31 23:59:59.999999+00"),
    "long ago": at("0001-01-01 00:00:00+00"),
    "other types": { ...rowOf(two), aggregateType: "Ordre spécial\n2", type: "ordre/passé 🙂" },
    "empty types": { ...rowOf(two), aggregateType: "", type: "" },
    "a large payload": payload(JSON.stringify({ text: "Ünï🙂x".repeat(80_000) })),
  };
}

function rowOf(aggregateId: string): OutboxRow {
  return {
    eventId: randomUUID(),
    aggregateType: "order",
    aggregateId,
    type: "OrderPlaced",
    payload: "{}",
    occurredAt: "2026-11-21 00:22:06.123+00",
  };
}

/** One statement, so one database transaction unless the client is in one. */
export async function insertRows(client: pg.ClientBase | pg.Pool, rows: readonly OutboxRow[]): Promise<void> {
  await client.query(
    `INSERT INTO app.outbox (event_id, aggregate_type, aggregate_id, type, payload, occurred_at)
     SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::jsonb[], $6::timestamptz[])`,
    [
      rows.map(({ eventId }) => eventId),
      rows.map(({ aggregateType }) => aggregateType),
      rows.map(({ aggregateId }) => aggregateId),
      rows.map(({ type }) => type),
      rows.map(({ payload }) => payload),
      rows.map(({ occurredAt }) => occurredAt),
    ],
  );
}

/** By COPY, in one database transaction. Rows whose texts have no backslash and no control character. */
export async function copyRows(pool: pg.Pool, rows: readonly OutboxRow[]): Promise<void> {
  const lines = rows.map((row) =>
    [row.eventId, row.aggregateType, row.aggregateId, row.type, row.payload, row.occurredAt].join("\t"),
  );
  const folder = await mkdtemp(join(tmpdir(), "lockstep-copy-"));
  try {
    await chmod(folder, 0o755); // the server reads it
    await writeFile(join(folder, "rows"), `${lines.join("\n")}\n`);
    await pool.query(
      `COPY app.outbox (event_id, aggregate_type, aggregate_id, type, payload, occurred_at) FROM '${join(folder, "rows")}'`,
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** By event id, the record that each row of the table must become. */
export async function expectedRecords(pool: pg.Pool): Promise<Map<string, OrderRecord>> {
  const { rows } = await pool.query<
    Record<"event_id" | "aggregate_type" | "aggregate_id" | "type" | "payload" | "occurred_at", string>
  >(
    `SELECT event_id::text, aggregate_type, aggregate_id::text, type, payload::text,
            to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS occurred_at
       FROM app.outbox`,
  );
  return new Map(
    rows.map((row) => [
      row.event_id,
      {
        key: row.aggregate_id,
        value: row.payload,
        headers: [
          ["aggregate_id", row.aggregate_id],
          ["aggregate_type", row.aggregate_type],
          ["event_id", row.event_id],
          ["event_type", row.type],
          ["occurred_at", row.occurred_at],
        ],
      },
    ]),
  );
}
