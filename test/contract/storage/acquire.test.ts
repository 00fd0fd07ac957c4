/** Ownership: who may write a shard. */
import { randomUUID } from "node:crypto";

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { until } from "../../support/until.ts";
import { commitOf, type Fixture, openFixture, take } from "./fixture.ts";

let fixture: Fixture;
beforeAll(async () => {
  fixture = await openFixture();
});
afterAll(() => fixture.close());

describe("acquire", () => {
  it("waits for a commit of the old owner that is under way, and sees its result", async () => {
    const { store, storeOn, pool, freshShard } = fixture;
    const old = await freshShard();
    const taken: Array<ReturnType<typeof store.acquire>> = [];
    const slow = storeOn(pool, async (point) => {
      if (point !== "pg.before-commit") return;
      taken.push(
        store.acquire({
          shard: old.shard,
          owner: "two",
          token: randomUUID(),
          expectedToken: null,
          transactionalId: "id",
        }),
      );
      await until(async () => (await waiting()) === 1, { what: "the acquire to wait for the row" });
    });
    await slow.commit(commitOf(old, 1));
    const { before, ownership } = (await taken[0])!;
    expect(before).toMatchObject({ seq: 1, token: old.token, positions: { a: 1n, b: 0n } });
    await store.commit(commitOf(ownership, 2));
  });

  it("a commit that waited for an acquire finds the shard lost", async () => {
    const { store, pool, freshShard, written } = fixture;
    const old = await freshShard();
    const holder = await pool.connect();
    await holder.query("BEGIN");
    await holder.query("UPDATE lockstep.shard SET epoch = epoch + 1, token = $2 WHERE shard = $1", [
      old.shard,
      randomUUID(),
    ]);
    const late = store.commit(commitOf(old, 1)).catch((error: unknown) => error);
    await until(async () => (await waiting()) === 1, { what: "the commit to wait for the row" });
    await holder.query("COMMIT");
    holder.release();
    expect(await late).toMatchObject({ code: "SHARD_LOST" });
    expect(await written(old.shard)).toEqual({ seq: 0, journal: [], redo: [], orders: 0 });
  });

  it("Z4: a row that stays locked is STORE_UNAVAILABLE, to be tried again", async () => {
    const { store, storeOn, poolOf, pool, freshShard } = fixture;
    const { shard } = await freshShard();
    const before = await store.readShard(shard);
    const holder = await pool.connect();
    await holder.query("BEGIN");
    await holder.query("SELECT FROM lockstep.shard WHERE shard = $1 FOR UPDATE", [shard]);
    const impatient = storeOn(poolOf({ limits: { lockTimeoutMs: 50 } }));
    await expect(take(impatient, shard)).rejects.toMatchObject({
      code: "STORE_UNAVAILABLE",
      details: { sqlstate: "55P03" },
    });
    await holder.query("ROLLBACK");
    holder.release();
    expect(await store.readShard(shard)).toEqual(before);
  });
});

/** Sessions of this database that wait for a lock. */
async function waiting(): Promise<number> {
  const { rows } = await fixture.pool.query(
    "SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
  );
  return rows[0].n;
}
