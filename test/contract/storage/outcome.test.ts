/** What a commit reports when the connection breaks: nothing happened, or nobody can know; never the one for the other. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Pool } from "../../../src/storage/pool.ts";
import { inTransaction } from "../../../src/storage/transaction.ts";
import { TcpProxy } from "../../support/tcp-proxy.ts";
import { until } from "../../support/until.ts";
import { commitOf, type Fixture, openFixture, take } from "./fixture.ts";

const NOTHING = { seq: 0, journal: [], redo: [], orders: 0 };
const ALL = { seq: 1, journal: [1], redo: [1], orders: 1 };

let fixture: Fixture;
let proxy: TcpProxy;
beforeAll(async () => {
  fixture = await openFixture();
  const { hostname, port } = new URL(fixture.database.url);
  proxy = await TcpProxy.open({ host: hostname, port: Number(port) });
});
afterAll(async () => {
  await proxy.close();
  await fixture.close();
});

function spoiledUrl(): string {
  proxy.heal();
  const url = new URL(fixture.database.url);
  url.host = `127.0.0.1:${proxy.port}`;
  return url.href;
}

/** A pool through the proxy, whose queries give up soon. */
function spoiledPool(limits = { queryTimeoutMs: 500 }): Pool {
  return fixture.poolOf({ url: spoiledUrl(), limits });
}

async function openTransactions(): Promise<number> {
  const { rowCount } = await fixture.pool.query(
    "SELECT FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'",
  );
  return rowCount ?? 0;
}

/** Ends the sessions of a pool that are inside a transaction, as an administrator does. */
async function terminate(): Promise<void> {
  await fixture.pool.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND xact_start IS NOT NULL`,
  );
}

async function seqReaches(shard: number, seq: number): Promise<void> {
  await until(async () => (await fixture.store.readShard(shard)).seq === seq, { what: `seq ${seq}` });
}

/** What a pool's only connection does when it has noticed that the other end is gone. */
function noticed(pool: Pool): () => Promise<unknown> {
  const ends: Promise<void>[] = [];
  pool.on("connect", (client) => ends.push(new Promise<void>((resolve) => client.once("end", resolve))));
  return () => Promise.all(ends);
}

const POINTS = ["pg.begun", "pg.updated", "pg.before-commit"];

describe("on a distant server", () => {
  it("T-flight: P-flight: a commit is two round trips: all that is written, then COMMIT", async () => {
    const ownership = await fixture.freshShard();
    const store = fixture.storeOn(spoiledPool({ queryTimeoutMs: 10_000 }));
    await store.commit(commitOf(ownership, 1)); // opens the connection
    proxy.toxics.latencyMs = 100; // what is sent together passes before the first answer comes
    const before = proxy.roundTrips;
    await store.commit(commitOf(ownership, 2));
    expect(proxy.roundTrips - before).toBe(2);
    await store.confirm(ownership, 2, 1);
    expect(proxy.roundTrips - before).toBe(4);
    proxy.heal();
  });

  it("T-flight: of statements that were sent together the first that failed is the one that tells", async () => {
    const ownership = await fixture.freshShard();
    const stranger = { ...ownership, token: fixture.instance };
    await expect(fixture.store.commit(commitOf(stranger, 1))).rejects.toMatchObject({ code: "SHARD_LOST" });
    await expect(fixture.store.confirm(stranger, 1, 1)).rejects.toMatchObject({ code: "SHARD_LOST" });
    await expect(fixture.store.release(stranger, 0)).rejects.toMatchObject({ code: "SHARD_LOST" });
    expect(await fixture.written(ownership.shard)).toEqual(NOTHING);
  });
});

describe("before COMMIT was sent, nothing happened", () => {
  it.each(POINTS)("T-unknown: the session is terminated at %s", async (where) => {
    const ownership = await fixture.freshShard();
    const pool = fixture.poolOf();
    const end = noticed(pool);
    const store = fixture.storeOn(pool, async (point) => {
      if (point !== where) return;
      await terminate();
      await end();
    });
    await expect(store.commit(commitOf(ownership, 1))).rejects.toMatchObject({
      code: "STORE_UNAVAILABLE",
      remedy: "retry",
    });
    expect(await fixture.written(ownership.shard)).toEqual(NOTHING);
  });

  it.each(POINTS)("T-unknown: the connection is cut at %s", async (where) => {
    const ownership = await fixture.freshShard();
    const pool = spoiledPool();
    const end = noticed(pool);
    const store = fixture.storeOn(pool, async (point) => {
      if (point !== where) return;
      proxy.cut();
      await end();
    });
    await expect(store.commit(commitOf(ownership, 1))).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
    expect(await fixture.written(ownership.shard)).toEqual(NOTHING);
  });

  it("P-half: the other end falls silent; the commit fails by its deadline and leaves no connection behind", async () => {
    const ownership = await fixture.freshShard();
    const pool = spoiledPool();
    const store = fixture.storeOn(pool, (point) => {
      if (point === "pg.begun") proxy.toxics.dropReplies = true;
    });
    await expect(store.commit(commitOf(ownership, 1))).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
    expect(pool.totalCount).toBe(0);
    proxy.heal();
    await fixture.store.commit(commitOf(ownership, 1)); // waits for the row until the server has noticed
    expect(await fixture.written(ownership.shard)).toEqual(ALL);
  });

  it("no server at all is STORE_UNAVAILABLE", async () => {
    const pool = fixture.poolOf({ url: "postgresql://nobody:x@127.0.0.1:1/none" });
    const store = fixture.storeOn(pool);
    await expect(store.readShard(0)).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
    await expect(store.readShards()).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
    await expect(store.commit(commitOf({ shard: 0, epoch: 1, token: fixture.instance }, 1))).rejects.toMatchObject({
      code: "STORE_UNAVAILABLE",
    });
  });
});

describe("COMMIT sent, its answer never came", () => {
  it("C4: the connection is cut after the server committed: COMMIT_UNKNOWN, and it is there", async () => {
    const ownership = await fixture.freshShard();
    const store = fixture.storeOn(spoiledPool(), async (point) => {
      if (point === "pg.before-commit") proxy.toxics.dropReplies = true;
      if (point !== "pg.commit-sent") return;
      await seqReaches(ownership.shard, 1);
      proxy.cut();
    });
    await expect(store.commit(commitOf(ownership, 1))).rejects.toMatchObject({
      code: "COMMIT_UNKNOWN",
      remedy: "restore",
    });
    expect(await fixture.written(ownership.shard)).toEqual(ALL);
  });

  it("C4: the connection is cut before COMMIT reached the server: COMMIT_UNKNOWN, and nothing is there", async () => {
    const ownership = await fixture.freshShard();
    const store = fixture.storeOn(spoiledPool(), (point) => {
      if (point === "pg.before-commit") proxy.toxics.dropRequests = true;
      if (point === "pg.commit-sent") proxy.cut();
    });
    await expect(store.commit(commitOf(ownership, 1))).rejects.toMatchObject({ code: "COMMIT_UNKNOWN" });
    expect(await fixture.written(ownership.shard)).toEqual(NOTHING);
  });

  it("C4: no answer by the deadline: COMMIT_UNKNOWN, and no connection is left behind", async () => {
    const ownership = await fixture.freshShard();
    const pool = spoiledPool();
    const store = fixture.storeOn(pool, (point) => {
      if (point === "pg.before-commit") proxy.toxics.dropReplies = true;
    });
    await expect(store.commit(commitOf(ownership, 1))).rejects.toMatchObject({ code: "COMMIT_UNKNOWN" });
    expect(pool.totalCount).toBe(0);
    expect(await fixture.written(ownership.shard)).toEqual(ALL);
  });

  it("a slow line changes nothing", async () => {
    const ownership = await fixture.freshShard();
    const store = fixture.storeOn(spoiledPool({ queryTimeoutMs: 5_000 }));
    proxy.toxics.latencyMs = 10;
    await store.commit(commitOf(ownership, 1));
    expect(await fixture.written(ownership.shard)).toEqual(ALL);
  });

  it("Z4: a session ended for sitting idle inside the transaction has written nothing, and holds nothing", async () => {
    const ownership = await fixture.freshShard();
    const pool = fixture.poolOf({ limits: { idleInTransactionMs: 100 } });
    const end = noticed(pool);
    const store = fixture.storeOn(pool, async (point) => {
      if (point === "pg.before-commit") await end();
    });
    await expect(store.commit(commitOf(ownership, 1))).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
    expect(await fixture.written(ownership.shard)).toEqual(NOTHING);
    await take(fixture.store, ownership.shard);
  });

  it("Z4: the same, when the client learns of it only after it has sent COMMIT, as a process does that was stopped", async () => {
    const ownership = await fixture.freshShard();
    const url = spoiledUrl();
    const store = fixture.storeOn(fixture.poolOf({ url, limits: { idleInTransactionMs: 100 } }), async (point) => {
      if (point !== "pg.before-commit") return;
      proxy.toxics.latencyMs = 1_000; // The server's last words are under way while COMMIT is sent.
      await until(async () => (await openTransactions()) === 0, { what: "the end of the idle session" });
    });
    await expect(store.commit(commitOf(ownership, 1))).rejects.toMatchObject({
      code: "STORE_UNAVAILABLE",
      details: { sqlstate: "25P03" },
    });
    expect(await fixture.written(ownership.shard)).toEqual(NOTHING);
  });

  it("T-tag: COMMIT answered by ROLLBACK is an error", async () => {
    const swallowing = inTransaction(fixture.pool, async (transaction) => {
      await transaction.query("SELECT 1/0").catch(() => {});
    });
    await expect(swallowing).rejects.toMatchObject({ code: "INVARIANT_BROKEN" });
  });
});
