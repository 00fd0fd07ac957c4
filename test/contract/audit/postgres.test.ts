/**
 * The audit's own statements on the tables as the migrations make them: the correct run of the unit tests, written into a real
 * Postgres, is read back without a finding, and so is what differs.
 */
import { fileURLToPath } from "node:url";

import { afterAll, beforeAll, expect, test } from "vitest";

import type { Database } from "../../../src/audit/sources.ts";
import { migrate } from "../../../src/storage/migrate.ts";
import { createPool, type Pool } from "../../../src/storage/pool.ts";
import { openDatabase, type TestDatabase } from "../../support/database.ts";
import { tradingWorld } from "../../unit/audit/trading-world.ts";
import { auditWorld, INSTANCE, type World } from "../../unit/audit/world.ts";

const TRADING_MIGRATIONS = fileURLToPath(new URL("../../../src/machines/trading/migrations", import.meta.url));
const log = { info: () => {}, warn: () => {} };

let server: TestDatabase;
let pool: Pool;
let database: Database;
const world = tradingWorld();

beforeAll(async () => {
  server = await openDatabase();
  pool = createPool(server.url, { max: 2, applicationName: "audit", log });
  await migrate({ pool, app: { name: "trading", migrations: TRADING_MIGRATIONS }, log });
  await write(world);
  database = { query: async (sql, params) => (await pool.query(sql, [...params])).rows };
});
afterAll(async () => {
  await pool?.end();
  await server?.close();
});

test("a correct run that stands in Postgres has no finding", async () => {
  const report = await auditWorld(world, { database });
  expect(report.findings).toEqual([]);
  expect(report.figures).toMatchObject({ signals: 35, orders: 15, outbox: 15, windowsClosed: 8 });
});

test("what was changed in Postgres is told as it stands there", async () => {
  const [order, event] = [world.orders[0]!, world.outbox[0]!];
  await pool.query(
    "update app.orders set qty = qty + 0.00000001, updated_at = updated_at + interval '1 microsecond' where id = $1",
    [order["id"]],
  );
  await pool.query(`update app.outbox set payload = payload || '{"status": "OLD"}' where event_id = $1`, [
    event["event_id"],
  ]);
  await pool.query("delete from app.orders where id = $1", [world.orders[1]!["id"]]);
  const report = await auditWorld(world, { database });
  const texts = report.findings.map(({ kind, text }) => `${kind}: ${text}`);
  expect(texts).toHaveLength(4);
  expect(texts).toContainEqual(
    expect.stringMatching(
      /^mismatch: .* qty is "3\.80757581", expected "3\.80757580"; updatedMs is "1699999803000\.001"/,
    ),
  );
  expect(texts).toContainEqual(expect.stringMatching(/^mismatch: .* payload\.status is "OLD", expected "NEW"/));
  expect(texts).toContainEqual(expect.stringMatching(/^lost: .* is missing/));
  expect(texts).toContain("mismatch: There are 14 orders, but 15 events of them.");
});

async function write({ shards, commits, orders, outbox }: World): Promise<void> {
  await pool.query(
    `insert into lockstep.instance (id, app, name, kafka_cluster_id, group_id, database_system_identifier)
     values ($1, 'trading', 'main', 'cluster', 'trading-main', '1')`,
    [INSTANCE],
  );
  for (const s of shards) {
    await pool.query(
      `insert into lockstep.shard (instance, shard, epoch, token, seq, confirmed, positions, stream_time_ms, snapshot_seq, snapshot_token, code)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
      [
        INSTANCE,
        s.shard,
        s.epoch,
        s.token,
        s.seq,
        s.confirmed,
        s.positions,
        s.streamTimeMs,
        s.snapshotSeq,
        s.snapshotToken,
        s.code,
      ],
    );
    await pool.query(
      `insert into lockstep.snapshot (instance, shard, seq, token, pieces, bytes, digest, code, app_version, stream_time_ms, positions, counters)
       values ($1, $2, $3, $4, 0, 0, '', $5, 1, $6, $7, $8)`,
      [INSTANCE, s.shard, s.snapshotSeq, s.snapshotToken, s.code, s.streamTimeMs, s.positions, s.counters],
    );
  }
  for (const c of commits) {
    await pool.query(
      `insert into lockstep.journal (instance, shard, seq, token, epoch, code, stream_time_ms, taken, digest, body, positions)
       values ($1, $2, $3, $4, $5, $6, $7, $8, '', $9, $10)`,
      [
        INSTANCE,
        c.shard,
        c.seq,
        c.token,
        c.epoch,
        c.code,
        c.streamTimeMs,
        c.taken,
        JSON.stringify(c.body),
        c.positions,
      ],
    );
  }
  for (const o of orders) {
    await pool.query(
      `insert into app.orders (id, client_order_id, symbol, side, qty, price, status, created_at, updated_at)
       values ($1, $2, $3, $4, $5, $6, $7, to_timestamp($8::numeric / 1000), to_timestamp($9::numeric / 1000))`,
      [
        o["id"],
        o["client_order_id"],
        o["symbol"],
        o["side"],
        o["qty"],
        o["price"],
        o["status"],
        o["created_ms"],
        o["updated_ms"],
      ],
    );
  }
  for (const e of outbox) {
    await pool.query(
      `insert into app.outbox (event_id, aggregate_type, aggregate_id, type, payload, occurred_at)
       values ($1, $2, $3, $4, $5, to_timestamp($6::numeric / 1000))`,
      [e["event_id"], e["aggregate_type"], e["aggregate_id"], e["type"], e["payload"], e["occurred_ms"]],
    );
  }
}
