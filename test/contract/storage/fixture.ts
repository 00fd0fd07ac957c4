/**
 * A migrated database with one instance of many shards: each test takes a shard of its own.
 */
import type { ShardStore } from "../../../src/actors/ports.ts";
import { ensureInstance } from "../../../src/storage/instance.ts";
import { migrate } from "../../../src/storage/migrate.ts";
import { createPool, type Log, type Pool, type PoolLimits } from "../../../src/storage/pool.ts";
import { createShardStore, type ShardStoreOptions } from "../../../src/storage/shard-store.ts";
import { openDatabase, type TestDatabase } from "../../support/database.ts";
import { type StoreFixture, take } from "./store-fixture.ts";

export { commitOf, order, take } from "./store-fixture.ts";

export const silent: Log = { info: () => {}, warn: () => {} };

const SHARDS = 64;

const APP_TABLES = `
  CREATE SCHEMA app;
  CREATE TABLE app.orders (
    id uuid PRIMARY KEY, qty numeric(18, 8) CHECK (qty > 0), note text, big bigint, doc jsonb, at timestamptz DEFAULT '2020-01-01Z');
  CREATE TABLE app.late (id integer PRIMARY KEY, parent integer REFERENCES app.late DEFERRABLE INITIALLY DEFERRED);
  CREATE TABLE app."Odd ""name" ("a.b" integer);`;

export interface Fixture extends StoreFixture {
  readonly database: TestDatabase;
  readonly pool: Pool;
  readonly instance: string;
  storeOn(pool: Pool, hook?: ShardStoreOptions["hook"]): ShardStore;
  poolOf(options?: { url?: string; limits?: Partial<PoolLimits>; max?: number }): Pool;
}

export async function openFixture(): Promise<Fixture> {
  const database = await openDatabase();
  const pools: Pool[] = [];
  const poolOf: Fixture["poolOf"] = ({ url = database.url, limits = {}, max = 4 } = {}) => {
    const made = createPool(url, { max, applicationName: "contract", log: silent, limits });
    pools.push(made);
    return made;
  };
  const pool = poolOf({ max: 8 });
  await migrate({ pool, app: { name: "trial", migrations: null }, log: silent });
  await pool.query(APP_TABLES);
  const { id: instance } = await ensureInstance({
    pool,
    app: "trial",
    name: "main",
    identity: {
      kafkaClusterId: "cluster",
      groupId: "trial-main",
      inputs: [
        { topic: "a", partitions: SHARDS },
        { topic: "b", partitions: SHARDS },
      ],
    },
  });
  const storeOn: Fixture["storeOn"] = (on, hook) =>
    createShardStore({ pool: on, instance, appVersion: 1, ...(hook ? { hook } : {}) });
  const store = storeOn(pool);
  let shards = 0;
  const nextShard = () => shards++;
  return {
    database,
    pool,
    instance,
    store,
    storeOn,
    poolOf,
    nextShard,
    storeWith: (hook) => storeOn(poolOf(), hook),
    async freshShard() {
      const ownership = await take(store, nextShard());
      await store.fixStart(ownership, { a: 0n, b: 0n });
      return ownership;
    },
    async written(shard) {
      const { seq } = await store.readShard(shard);
      const of = async (table: string) =>
        (await pool.query(`SELECT seq FROM lockstep.${table} WHERE shard = $1 ORDER BY seq`, [shard])).rows.map((row) =>
          Number(row.seq),
        );
      const { rows } = await pool.query("SELECT count(*)::int AS n FROM app.orders WHERE note = $1", [
        `shard ${shard}`,
      ]);
      return { seq, journal: await of("journal"), redo: await of("redo"), orders: rows[0].n };
    },
    async kept(shard) {
      const of = async (table: string) =>
        (
          await pool.query(`SELECT DISTINCT seq FROM lockstep.${table} WHERE shard = $1 ORDER BY seq`, [shard])
        ).rows.map((row) => Number(row.seq));
      return { snapshots: await of("snapshot"), pieces: await of("snapshot_piece") };
    },
    async ageJournal(shard, ms) {
      await pool.query(
        "UPDATE lockstep.journal SET written_at = written_at - $2 * interval '1 millisecond' WHERE shard = $1",
        [shard, ms],
      );
    },
    async close() {
      await Promise.all(pools.map((made) => made.end()));
      await database.close();
    },
  };
}
