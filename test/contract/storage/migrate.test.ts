/** Migrations, the instance and its identity, and whether a database is fit at all. */
import { readdirSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { databaseFaults } from "../../../src/storage/database-faults.ts";
import { ensureInstance, type InstanceIdentity, readInstance } from "../../../src/storage/instance.ts";
import { migrate, pendingMigrations } from "../../../src/storage/migrate.ts";
import { createPool, type Pool } from "../../../src/storage/pool.ts";
import { createShardStore } from "../../../src/storage/shard-store.ts";
import { openDatabase, type TestDatabase } from "../../support/database.ts";
import { silent } from "./fixture.ts";

let database: TestDatabase;
let pool: Pool;
let folder: string;
beforeEach(async () => {
  database = await openDatabase();
  pool = createPool(database.url, { max: 4, applicationName: "contract", log: silent });
  folder = await mkdtemp(join(tmpdir(), "migrations-"));
  await file("0001-orders.sql", "CREATE SCHEMA app; CREATE TABLE app.orders (id integer);");
  await file("0002-note.sql", "ALTER TABLE app.orders ADD note text;");
});
afterEach(async () => {
  await pool.end();
  await database.close();
  await rm(folder, { recursive: true });
});

/** Lockstep's own, in order: `relay` of 0002-relay.sql. */
const OWN = readdirSync(new URL("../../../src/storage/migrations/", import.meta.url))
  .sort()
  .map((name) => name.slice(5, -".sql".length));
const ALL = OWN.length + 2;

const file = (name: string, sql: string) => writeFile(join(folder, name), sql);
const app = () => ({ name: "trial", migrations: folder });
const run = () => migrate({ pool, app: app(), log: silent });

describe("migrate", () => {
  it("M1: applies Lockstep's files, then the app's, each once", async () => {
    expect((await pendingMigrations({ pool, app: app() })).map(({ owner, number }) => `${owner} ${number}`)).toEqual([
      ...OWN.map((_, index) => `lockstep ${index + 1}`),
      "trial 1",
      "trial 2",
    ]);
    const first = await run();
    expect(first.applied.map(({ owner, name }) => `${owner} ${name}`)).toEqual([
      ...OWN.map((name) => `lockstep ${name}`),
      "trial orders",
      "trial note",
    ]);
    expect(await run()).toEqual({ applied: [], unchanged: ALL });
    expect(await pendingMigrations({ pool, app: app() })).toEqual([]);
    await file("0010-more.sql", "ALTER TABLE app.orders ADD more text;");
    expect(await run()).toMatchObject({ applied: [{ owner: "trial", number: 10, name: "more" }], unchanged: ALL });
  });

  it("M3: two at once do the work once", async () => {
    const reports = await Promise.all([run(), run()]);
    expect(reports.map((report) => report.applied.length).sort()).toEqual([0, ALL]);
  });

  it("M2: a changed file, a missing file and a late number are refused, with every fault, and nothing is applied", async () => {
    await file("0005-fifth.sql", "SELECT 1;");
    await run();
    await file("0001-orders.sql", "CREATE SCHEMA app; CREATE TABLE app.orders (id bigint);");
    await rm(join(folder, "0002-note.sql"));
    await file("0003-late.sql", "CREATE TABLE app.late ();");
    await file("0006-next.sql", "CREATE TABLE app.next ();");
    const error = await run().catch((e: unknown) => e);
    expect(error).toMatchObject({ code: "MIGRATION_CHANGED", remedy: "stop" });
    const { faults } = (error as { details: { faults: string[] } }).details;
    expect(faults.map((fault) => fault.slice(0, 15))).toEqual([
      "trial 0001-orde",
      "trial 0002-note",
      "trial 0003-late",
    ]);
    expect((await pool.query("SELECT to_regclass('app.next') AS t")).rows).toEqual([{ t: null }]);
  });

  it("line ends of another system are no change", async () => {
    await file("0001-orders.sql", "CREATE SCHEMA app;\nCREATE TABLE app.orders (id integer);\n");
    await run();
    await file("0001-orders.sql", "CREATE SCHEMA app;\r\nCREATE TABLE app.orders (id integer);\r\n");
    expect(await run()).toMatchObject({ applied: [] });
  });

  it("M1: a file that fails leaves nothing of itself, and what came before it stays", async () => {
    await file("0003-broken.sql", "CREATE TABLE app.half (); SELECT 1/0;");
    await expect(run()).rejects.toMatchObject({
      code: "DATABASE_UNSUITABLE",
      details: { owner: "trial", number: 3, sqlstate: "22012" },
    });
    expect((await pool.query("SELECT to_regclass('app.half') AS t")).rows).toEqual([{ t: null }]);
    await file("0003-broken.sql", "CREATE TABLE app.half ();");
    expect((await run()).applied).toEqual([{ owner: "trial", number: 3, name: "broken" }]);
  });

  it("M1: a file that ends its transaction is refused", async () => {
    await file("0003-commits.sql", "CREATE TABLE app.kept (); COMMIT; BEGIN;");
    await expect(run()).rejects.toMatchObject({ code: "DATABASE_UNSUITABLE" });
  });

  it.each(["1-short.sql", "0001-again.sql"])("a file named %s beside 0001-orders.sql is refused", async (name) => {
    await file(name, "SELECT 1;");
    await expect(run()).rejects.toMatchObject({ code: "CONFIG_INVALID" });
  });
});

describe("the instance", () => {
  const identity: InstanceIdentity = {
    kafkaClusterId: "cluster-1",
    groupId: "trial-main",
    inputs: [
      { topic: "a", partitions: 3 },
      { topic: "b", partitions: 3 },
    ],
  };
  const ensure = (change: Partial<InstanceIdentity> = {}, name = "main") =>
    ensureInstance({ pool, app: "trial", name, identity: { ...identity, ...change } });

  it("D1: is made once, with a row for each shard, also by two at once", async () => {
    await run();
    const [one, other] = await Promise.all([ensure(), ensure()]);
    expect([one.created, other.created].sort()).toEqual([false, true]);
    expect(one.id).toBe(other.id);
    expect(await ensure()).toMatchObject({ ...identity, id: one.id, created: false, shards: 3 });
    expect(await readInstance({ pool, app: "trial", name: "main" })).toMatchObject({ ...identity, id: one.id });
    const rows = await createShardStore({ pool, instance: one.id, appVersion: 1 }).readShards();
    expect(rows.map(({ shard, seq, positions, token }) => ({ shard, seq, positions, token }))).toEqual(
      [0, 1, 2].map((shard) => ({ shard, seq: 0, positions: null, token: null })),
    );
  });

  it("D1: every difference is named at once", async () => {
    await run();
    await ensure();
    await pool.query("UPDATE lockstep.instance SET database_system_identifier = '1'");
    const inputs = [
      { topic: "b", partitions: 4 },
      { topic: "c", partitions: 4 },
    ];
    const error = await ensure({ kafkaClusterId: "cluster-2", groupId: "other", inputs }).catch((e: unknown) => e);
    expect(error).toMatchObject({ code: "IDENTITY_CHANGED", remedy: "stop" });
    const { differences } = (error as { details: { differences: string[] } }).details;
    expect(differences).toEqual([
      "the Kafka cluster was cluster-1, now it is cluster-2",
      "the group was trial-main, now it is other",
      expect.stringMatching(/^the Postgres cluster \(system identifier\) was 1, now it is \d+$/),
      "the input a is gone from the app",
      "the number of partitions of b was 3, now it is 4",
      "the input c is new in the app",
    ]);
  });

  it("D1: another order of inputs is a difference, and a group belongs to one instance", async () => {
    await run();
    await ensure();
    await expect(ensure({ inputs: identity.inputs.toReversed() })).rejects.toMatchObject({
      details: { differences: ["the order of the inputs was a, b, now it is b, a"] },
    });
    await expect(ensure({}, "second")).rejects.toMatchObject({ code: "IDENTITY_CHANGED" });
    expect((await ensure({ groupId: "trial-second" }, "second")).created).toBe(true);
  });

  it("is not there before migrate, and is said so", async () => {
    await expect(readInstance({ pool, app: "trial", name: "main" })).rejects.toMatchObject({ code: "NOT_MIGRATED" });
    await expect(ensure()).rejects.toMatchObject({ code: "NOT_MIGRATED" });
    await run();
    await expect(readInstance({ pool, app: "trial", name: "main" })).rejects.toMatchObject({ code: "NOT_MIGRATED" });
  });
});

describe("a database", () => {
  /** A setting of this database alone, for connections made from now on. */
  async function withSetting(setting: string, work: (changed: Pool) => Promise<void>): Promise<void> {
    await pool.query(`ALTER DATABASE ${database.name} SET ${setting}`);
    const changed = createPool(database.url, { max: 1, applicationName: "contract", log: silent });
    try {
      await work(changed);
    } finally {
      await changed.end();
    }
  }

  it("that is fit has no faults, before and after migrate", async () => {
    expect(await databaseFaults(pool, { unsafe: false })).toEqual([]);
    await run();
    expect(await databaseFaults(pool, { unsafe: false })).toEqual([]);
  });

  it.each(["off", "local", "remote_write"])(
    "with synchronous_commit %s is unfit, unless unsafe is asked for",
    async (value) => {
      await withSetting(`synchronous_commit = '${value}'`, async (changed) => {
        expect(await databaseFaults(changed, { unsafe: false })).toEqual([
          expect.stringContaining(`synchronous_commit is ${value}`),
        ]);
        expect(await databaseFaults(changed, { unsafe: true })).toEqual([]);
      });
    },
  );

  it("that takes no writes is unfit, also when unsafe", async () => {
    await withSetting("default_transaction_read_only = on", async (changed) => {
      expect(await databaseFaults(changed, { unsafe: true })).toEqual([
        expect.stringContaining("default_transaction_read_only"),
      ]);
    });
  });

  it("whose role lacks privileges says which", async () => {
    await run();
    const role = `role_${database.name}`;
    await pool.query(`CREATE ROLE ${role} LOGIN PASSWORD 'p'`);
    const url = new URL(database.url);
    url.username = role;
    url.password = "p";
    const poor = createPool(url.href, { max: 1, applicationName: "contract", log: silent });
    try {
      const faults = await databaseFaults(poor, { unsafe: false });
      expect(faults).toContain(`Role ${role} may not USE schema lockstep.`);
      expect(faults).toContain(`Role ${role} may not UPDATE on table lockstep.shard.`);
    } finally {
      await poor.end();
      await pool.query(`DROP ROLE ${role}`);
    }
  });
});
