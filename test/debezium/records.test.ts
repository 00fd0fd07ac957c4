/**
 * What Debezium makes of app.outbox with the shipped configuration, read by a user who may replicate and read that table, and
 * nothing else.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { ORDERS_TOPIC } from "../../src/machines/trading/topics.ts";
import { committedRecords } from "../support/console-consumer.ts";
import { CONNECTOR, type DebeziumBed, ORDERS_PARTITIONS, openBed, ROLE, SLOT } from "../support/debezium/bed.ts";
import {
  expectedRecords,
  insertRows,
  type OutboxRow,
  peculiarRows,
  plainRows,
  someKeys,
} from "../support/debezium/outbox-rows.ts";
import { judge } from "../support/debezium/verdict.ts";
import { noteFigures } from "../support/figures.ts";
import { until } from "../support/until.ts";

let bed: DebeziumBed;
/** Event ids in the order in which they were committed. */
const order: string[] = [];
const startedMs = Date.now();

async function insert(rows: readonly OutboxRow[]): Promise<void> {
  await insertRows(bed.pool, rows);
  order.push(...rows.map(({ eventId }) => eventId));
}

/** Everything the table has, when its last row is on the topic. */
async function verdict() {
  const records = await bed.untilPublished(order.at(-1)!);
  return judge(records, await expectedRecords(bed.pool), { order, partitions: ORDERS_PARTITIONS });
}

const NOTHING_WRONG = { lost: 0, doubled: 0, foreign: 0, outOfOrder: 0, differing: [] };
const EARLY = Object.values(peculiarRows());

beforeAll(async () => {
  bed = await openBed();
  await insert(EARLY); // after the slot was made, before there is a connector
  await bed.worker.start();
  await bed.worker.put(CONNECTOR, await bed.config());
});
afterAll(() => bed.close());

describe("Debezium's records", () => {
  test("begin with what was committed after the slot was made, before the connector was", async () => {
    expect(await verdict()).toMatchObject({ ...NOTHING_WRONG, records: EARLY.length });
  });

  test.each(Object.keys(peculiarRows()))("are what the table has: %s", async (name) => {
    await insert([peculiarRows()[name]!]);
    expect(await verdict()).toMatchObject(NOTHING_WRONG);
  });

  test("are those of one database transaction of 8,000 rows of 50 aggregates, in their order", async () => {
    const beganMs = performance.now();
    const rows = plainRows(8_000, someKeys(50));
    await insert(rows);
    const found = await verdict();
    noteFigures({
      test: "one transaction",
      rows: rows.length,
      seconds: seconds(beganMs),
      kills: 0,
      ...found,
      differing: found.differing.length,
    });
    expect(found).toMatchObject({ ...NOTHING_WRONG, records: order.length });
  });

  test("are there for Kafka's own consumer too", async () => {
    const records = await committedRecords(ORDERS_TOPIC);
    expect(records.map(({ headers }) => headers["event_id"]!).sort()).toEqual([...order].sort());
    expect(new Set(records.flatMap(({ headers }) => Object.keys(headers)))).toEqual(
      new Set(["aggregate_id", "aggregate_type", "event_id", "event_type", "occurred_at"]),
    );
  });

  test("have the time at which Debezium took the row as their timestamp, not the time of the event", async () => {
    // The relay gives the time of the event (README.md, "What differs"): this holds the sentence true.
    for (const { timestampMs } of await bed.records()) expect(Number(timestampMs)).toBeGreaterThanOrEqual(startedMs);
  });

  test("are none for rows that are deleted: only inserts are in the publication", async () => {
    await bed.pool.query("DELETE FROM app.outbox WHERE event_id = $1", [order[0]]);
    const [row] = plainRows(1, someKeys(1));
    await insert([row!]);
    const records = await bed.untilPublished(row!.eventId);
    expect(records).toHaveLength(order.length);
  });
});

describe("the shipped configuration", () => {
  test("runs as a user who may replicate, and read the outbox and nothing else", async () => {
    const { rows } = await bed.pool.query(
      `SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication,
              has_table_privilege(rolname, 'app.outbox', 'INSERT, UPDATE, DELETE, TRUNCATE') AS writes,
              has_table_privilege(rolname, 'app.orders', 'SELECT') AS reads_more
         FROM pg_roles WHERE rolname = $1`,
      [ROLE],
    );
    expect(rows).toEqual([
      {
        rolsuper: false,
        rolcreaterole: false,
        rolcreatedb: false,
        rolreplication: true,
        writes: false,
        reads_more: false,
      },
    ]);
    const { rows: users } = await bed.pool.query(
      "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name ILIKE '%debezium%'",
    );
    expect(users).toEqual([{ usename: ROLE }]);
  });

  test("shows the password neither over REST nor in Connect's topics", async () => {
    const password = await bed.password();
    const shown = JSON.stringify(await bed.worker.get(`/connectors/${CONNECTOR}/config`));
    expect(shown).toContain(":password}");
    const stored = (await committedRecords("_lockstep-connect-config")).map(({ value }) => value).join("\n");
    expect(stored).toContain(":password}");
    for (const text of [shown, stored]) expect(text).not.toContain(password);
  });

  test("lets the slot go on while the outbox is quiet and other tables are not", async () => {
    const lsn = async () => (await bed.pool.query<{ lsn: string }>("SELECT pg_current_wal_lsn() AS lsn")).rows[0]!.lsn;
    await bed.pool.query("CREATE TABLE noise AS SELECT repeat('x', 1000) AS text FROM generate_series(1, 20000)");
    const noisy = await lsn();
    await until(
      async () => {
        const { rows } = await bed.pool.query(
          "SELECT confirmed_flush_lsn > $2::pg_lsn AS passed FROM pg_replication_slots WHERE slot_name = $1",
          [SLOT, noisy],
        );
        return rows[0].passed as boolean;
      },
      { what: "the slot to pass what other tables wrote", timeoutMs: 120_000 },
    );
    // Where the connector begins again must not be behind the slot: Debezium would refuse to start.
    await bed.worker.kill();
    await bed.worker.start();
    await bed.worker.untilRunning(CONNECTOR);
    await insert(plainRows(10, someKeys(3)));
    const records = await bed.untilPublished(order.at(-1)!);
    expect(records).toHaveLength(order.length);
  });
});

function seconds(sinceMs: number): number {
  return Math.round((performance.now() - sinceMs) / 100) / 10;
}
