/**
 * A migrated database with one instance of many shards: each test takes a shard of its own.
 */
import { randomUUID } from "node:crypto";
import type { RowEffect } from "../../../src/actors/effects.ts";
import type { CommitRequest, Ownership, ShardStore } from "../../../src/actors/ports.ts";
import { ensureInstance } from "../../../src/storage/instance.ts";
import { migrate } from "../../../src/storage/migrate.ts";
import { createPool, type Log, type Pool, type PoolLimits } from "../../../src/storage/pool.ts";
import { createShardStore, type ShardStoreOptions } from "../../../src/storage/shard-store.ts";
import { openDatabase, type TestDatabase } from "../../support/database.ts";

export const silent: Log = { info: () => {}, warn: () => {} };

const SHARDS = 64;

const APP_TABLES = `
  CREATE SCHEMA app;
  CREATE TABLE app.orders (
    id uuid PRIMARY KEY, qty numeric(18, 8) CHECK (qty > 0), note text, big bigint, doc jsonb, at timestamptz DEFAULT '2020-01-01Z');
  CREATE TABLE app.late (id integer PRIMARY KEY, parent integer REFERENCES app.late DEFERRABLE INITIALLY DEFERRED);
  CREATE TABLE app."Odd ""name" ("a.b" integer);`;

export interface Fixture {
  readonly database: TestDatabase;
  readonly pool: Pool;
  readonly instance: string;
  readonly store: ShardStore;
  storeOn(pool: Pool, hook?: ShardStoreOptions["hook"]): ShardStore;
  poolOf(options?: { url?: string; limits?: Partial<PoolLimits>; max?: number }): Pool;
  /** A shard that no other test uses, owned, with its start fixed. */
  freshShard(): Promise<Ownership>;
  nextShard(): number;
  /** Everything that a commit could have written of this shard, and the app's orders. */
  written(shard: number): Promise<{ seq: number; journal: number[]; redo: number[]; orders: number }>;
  close(): Promise<void>;
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
    async close() {
      await Promise.all(pools.map((made) => made.end()));
      await database.close();
    },
  };
}

export async function take(store: ShardStore, shard: number, owner = "host/1/1"): Promise<Ownership> {
  const token = randomUUID();
  const taken = await store.acquire({
    shard,
    owner,
    token,
    expectedToken: null,
    transactionalId: `trial-main-${shard}`,
  });
  return taken!.ownership;
}

/** A commit of one record of input `a`, with an order of its shard. */
export function commitOf(ownership: Ownership, seq: number, change: Partial<CommitRequest> = {}): CommitRequest {
  return {
    ownership,
    seq,
    positions: { a: BigInt(seq), b: 0n },
    streamTimeMs: 1_000 * seq,
    code: "code-1",
    journal: {
      entries: [{ kind: "run", topic: "a", first: BigInt(seq - 1), next: BigInt(seq), count: 1, crc: 4_294_967_295 }],
      verdicts: [],
    },
    taken: 1,
    digest: `digest-${seq}`,
    redo: Buffer.from([seq, 0, 255]),
    rows: [order(ownership.shard)],
    ids: new Set(),
    confirmed: 0,
    ...change,
  };
}

export function order(shard: number, change: Record<string, unknown> = {}): RowEffect {
  return { table: "app.orders", row: { id: randomUUID(), qty: "1.5", note: `shard ${shard}`, ...change }, origin: 0 };
}
