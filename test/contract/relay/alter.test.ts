/**
 * The outbox table is altered while the relay reads its log: rows of before and after come as they were, or the relay halts and says
 * what to do. The log is decoded with the table as it was when each row was written, whenever it is read.
 */
import { afterEach, describe, expect, test } from "vitest";

import { faultsOf, RelayBed, type RunningRelay, resyncOf } from "../../support/relay-bed.ts";
import { until } from "../../support/until.ts";

const NONE = { lost: 0, doubled: 0, outOfOrder: 0 };

let bed: RelayBed | null = null;
afterEach(async () => {
  await bed?.close();
  bed = null;
});

/** In one database transaction: a row, the statements, a row. Columns by name: their number changes. */
async function alterBetween(it: RelayBed, sql: string, from: number): Promise<void> {
  await it.query(`BEGIN; ${rowSql(from)}; ${sql}; ${rowSql(from + 1)}; COMMIT`);
}
function rowSql(n: number): string {
  return `INSERT INTO app.outbox (event_id, aggregate_type, aggregate_id, type, payload, occurred_at)
    VALUES (gen_random_uuid(), 'order', '00000000-0000-4000-8000-000000000001', 'Placed', '{"n": ${n}}', '2026-01-01Z')`;
}

describe("goes on", () => {
  test.each<[name: string, sql: string]>([
    ["a column was added", "ALTER TABLE app.outbox ADD COLUMN note text DEFAULT 'x'"],
    [
      "a column was added in front of ours, by making ours anew",
      `
      ALTER TABLE app.outbox ADD COLUMN trace text;
      ALTER TABLE app.outbox RENAME COLUMN payload TO was;
      ALTER TABLE app.outbox ADD COLUMN payload jsonb;
      UPDATE app.outbox SET payload = was;
      ALTER TABLE app.outbox DROP COLUMN was`,
    ],
    [
      "a column has another type that prints the same",
      `
      ALTER TABLE app.outbox ALTER COLUMN aggregate_id TYPE text;
      ALTER TABLE app.outbox ALTER COLUMN payload TYPE json`,
    ],
    [
      "the whole table was written anew",
      `
      ALTER TABLE app.outbox ADD COLUMN seen timestamptz DEFAULT clock_timestamp();
      ALTER TABLE app.outbox SET LOGGED; ALTER TABLE app.outbox REPLICA IDENTITY FULL`,
    ],
  ])("%s: every row comes once, in order, read at once and read later", async (_, sql) => {
    bed = await RelayBed.open();
    const it = bed;
    let relay: RunningRelay = it.start({ env: { LOCKSTEP_RELAY_BATCH_RECORDS_MAX: "2" } });
    await relay.said("relay-running");
    await it.query(rowSql(0));
    await alterBetween(it, sql, 1);
    await it.query(rowSql(3));
    expect(faultsOf(await it.untilPublished(4), 4)).toEqual(NONE);
    await relay.stop();

    // Altered back and forth while nobody reads.
    await it.query(rowSql(4));
    await alterBetween(it, "ALTER TABLE app.outbox ADD COLUMN later int DEFAULT 7", 5);
    await it.query("ALTER TABLE app.outbox DROP COLUMN later");
    await it.query(rowSql(7));
    relay = it.start();
    const records = await it.untilPublished(8);
    expect(faultsOf(records, 8)).toEqual(NONE);
    for (const { key, headers } of records) {
      expect(String(key)).toBe("00000000-0000-4000-8000-000000000001");
      expect(headers.map(([name]) => name)).toEqual([
        "event_id",
        "event_type",
        "aggregate_type",
        "aggregate_id",
        "occurred_at",
      ]);
    }
    expect(relay.lines.filter(({ event }) => event === "relay-halted")).toEqual([]);
  });
});

describe("RI6: it halts, says what to do, and that is the way on", () => {
  test.each<[name: string, sql: string, insertSql: string, says: RegExp, backSql: string]>([
    [
      "a column of ours has another name",
      "ALTER TABLE app.outbox RENAME COLUMN payload TO body",
      rowSql(1).replace("payload", "body"),
      /no column "payload".*lockstep relay resync/,
      "ALTER TABLE app.outbox RENAME COLUMN body TO payload",
    ],
    [
      "a column of ours was dropped",
      "ALTER TABLE app.outbox DROP COLUMN aggregate_type",
      rowSql(1).replace("aggregate_type, ", "").replace("'order', ", ""),
      /no column "aggregate_type".*lockstep relay resync/,
      "ALTER TABLE app.outbox ADD COLUMN aggregate_type text",
    ],
    [
      "the time has no zone any more, so that nobody can tell which moment it means",
      "ALTER TABLE app.outbox ALTER COLUMN occurred_at TYPE timestamp",
      rowSql(1).replace("01Z'", "01'"),
      /occurred_at.*timestamptz.*lockstep relay resync/,
      "ALTER TABLE app.outbox ALTER COLUMN occurred_at TYPE timestamptz USING occurred_at AT TIME ZONE 'UTC'",
    ],
    [
      "the table has another name",
      "ALTER TABLE app.outbox RENAME TO outbox_old",
      rowSql(1).replace("app.outbox", "app.outbox_old"),
      /lockstep relay resync/,
      "ALTER TABLE app.outbox_old RENAME TO outbox",
    ],
    [
      "the table was made anew",
      "CREATE TABLE app.outbox_new (LIKE app.outbox INCLUDING ALL); INSERT INTO app.outbox_new SELECT * FROM app.outbox; DROP TABLE app.outbox; ALTER TABLE app.outbox_new RENAME TO outbox",
      rowSql(1),
      /lockstep relay resync/,
      "SELECT 1",
    ],
  ])("%s", async (_, sql, insertSql, says, backSql) => {
    bed = await RelayBed.open();
    const it = bed;
    const relay = it.start();
    await relay.said("relay-running");
    await it.query(rowSql(0));
    await it.untilPublished(1);
    await it.query(sql);
    await it.query(insertSql);
    const halted = await relay.said("relay-halted");
    expect(halted).toMatchObject({ err: { code: "RELAY_SET_UP_CHANGED", message: expect.stringMatching(says) } });
    expect(await it.records()).toHaveLength(1);
    await it.query(backSql);
    await it.query(rowSql(2));
    await resyncOf(it);
    await until(
      () => relay.lines.findLast(({ event }) => String(event).startsWith("relay-"))?.event === "relay-running",
      {
        what: "the relay to run again",
      },
    );
    await it.query(rowSql(3));
    expect(faultsOf(await it.untilPublished(4), 4)).toEqual(NONE);
  });
});
