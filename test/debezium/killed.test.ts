/**
 * Debezium's worker killed by SIGKILL, or cut off from Postgres: for readers of committed records nothing is lost, doubled or out of order.
 *
 * Rows are inserted here. Those that come by COPY can be lost by a kill, by a defect of Debezium: stopped.test.ts.
 */
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { ORDERS_TOPIC } from "../../src/machines/trading/topics.ts";
import { committedRecords } from "../support/console-consumer.ts";
import { CONNECTOR, type DebeziumBed, ORDERS_PARTITIONS, openBed, SLOT } from "../support/debezium/bed.ts";
import { expectedRecords, insertRows, type OutboxRow, plainRows, someKeys } from "../support/debezium/outbox-rows.ts";
import { judge } from "../support/debezium/verdict.ts";
import { noteFigures } from "../support/figures.ts";
import { until } from "../support/until.ts";

const NOTHING_WRONG = { lost: 0, doubled: 0, foreign: 0, outOfOrder: 0, differing: [] };
const ROWS_A_COMMIT = 1_000;

let bed: DebeziumBed;
let order: string[] = [];
beforeEach(async () => {
  order = [];
  bed = await openBed();
  await bed.worker.start();
  await bed.worker.put(CONNECTOR, await bed.config());
});
afterEach(() => bed.close());

async function insert(rows: readonly OutboxRow[], rowsACommit = rows.length): Promise<void> {
  for (let from = 0; from < rows.length; from += rowsACommit) {
    const part = rows.slice(from, from + rowsACommit);
    await insertRows(bed.pool, part);
    order.push(...part.map(({ eventId }) => eventId));
  }
}

/**
 * Kills the worker when so many committed records are there, and says how many there are then.
 * @throws {Error} all were: the kill was too late to prove anything
 */
async function killAt(count: number): Promise<number> {
  await until(async () => (await bed.ends()) >= BigInt(count), { what: `${count} records`, timeoutMs: 180_000 });
  await bed.worker.kill();
  const published = (await bed.records()).length;
  if (published >= order.length) throw new Error(`all ${published} records were there when the worker was killed`);
  return published;
}

/** Held against the table by our own reader, and counted by Kafka's. */
async function settle(name: string, options: { beganMs: number; kills: number }) {
  const records = await bed.untilPublished(order.at(-1)!);
  const verdict = judge(records, await expectedRecords(bed.pool), { order, partitions: ORDERS_PARTITIONS });
  noteFigures({
    test: name,
    rows: order.length,
    seconds: Math.round((performance.now() - options.beganMs) / 100) / 10,
    kills: options.kills,
    ...verdict,
    differing: verdict.differing.length,
  });
  expect(verdict).toMatchObject(NOTHING_WRONG);
  const seen = await committedRecords(ORDERS_TOPIC);
  expect(seen.map(({ headers }) => headers["event_id"]!).sort()).toEqual([...order].sort());
}

describe("killed, nothing is lost and nothing doubled:", () => {
  test("50,000 rows, twice in the middle", async () => {
    const beganMs = performance.now();
    const keys = someKeys(40);
    const running = insert(plainRows(20_000, keys), ROWS_A_COMMIT);
    await killAt(7_000);
    await running;
    await insert(plainRows(5_000, keys), 1); // the shape of an app: a row a transaction
    await insert(plainRows(10_000, keys));
    await insert(plainRows(15_000, keys), ROWS_A_COMMIT);
    await bed.worker.start();
    await killAt(30_000);
    await bed.worker.start();
    await settle("50,000 rows, killed twice", { beganMs, kills: 2 });
  });

  test("one database transaction of 20,000 rows, twice in its middle", async () => {
    const beganMs = performance.now();
    await insert(plainRows(20_000, someKeys(40)));
    await killAt(3_000);
    await bed.worker.start();
    await killAt(10_000);
    await bed.worker.start();
    await settle("one transaction, killed twice", { beganMs, kills: 2 });
  });

  test("its connection to Postgres cut", async () => {
    const beganMs = performance.now();
    await insert(plainRows(10_000, someKeys(20)), ROWS_A_COMMIT);
    await until(async () => (await bed.ends()) >= 1_000n, { what: "the first records", timeoutMs: 180_000 });
    const { rows } = await bed.pool.query(
      "SELECT pg_terminate_backend(active_pid) AS cut FROM pg_replication_slots WHERE slot_name = $1 AND active",
      [SLOT],
    );
    expect(rows).toEqual([{ cut: true }]);
    await insert(plainRows(2_000, someKeys(20)), 1);
    await settle("connection cut", { beganMs, kills: 0 });
  });
});
