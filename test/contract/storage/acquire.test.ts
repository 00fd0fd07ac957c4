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
  it("makes a new epoch and token, and returns the row as it was before", async () => {
    const { store, nextShard } = fixture;
    const shard = nextShard();
    const first = await store.acquire({
      shard,
      owner: "one",
      token: randomUUID(),
      expectedToken: null,
      transactionalId: "id-1",
    });
    expect(first).toMatchObject({
      before: { epoch: 0, token: null, owner: null, transactionalIds: [] },
      ownership: { shard, epoch: 1 },
    });
    const second = await store.acquire({
      shard,
      owner: "two",
      token: randomUUID(),
      expectedToken: null,
      transactionalId: "id-1",
    });
    expect(second!.before).toMatchObject({
      epoch: 1,
      token: first!.ownership.token,
      owner: "one",
      transactionalIds: ["id-1"],
    });
    expect(await store.readShard(shard)).toMatchObject({
      epoch: 2,
      token: second!.ownership.token,
      owner: "two",
      transactionalIds: ["id-1"],
    });
    await store.acquire({ shard, owner: "two", token: randomUUID(), expectedToken: null, transactionalId: "id-2" });
    expect((await store.readShard(shard)).transactionalIds).toEqual(["id-1", "id-2"]);
  });

  it("I4: only while the expected token stands there; a stale one returns null and changes nothing", async () => {
    const { store, nextShard } = fixture;
    const shard = nextShard();
    const again = (expectedToken: string) =>
      store.acquire({
        shard,
        owner: "one",
        token: randomUUID(),
        expectedToken,
        transactionalId: `trial-main-${shard}`,
      });
    const first = await take(store, shard);
    const second = await again(first.token);
    expect(second!.ownership.epoch).toBe(2);
    const before = await store.readShard(shard);
    expect(await again(first.token)).toBeNull();
    expect(await store.readShard(shard)).toEqual(before);
  });

  it("I4: of two that race, exactly one can commit", async () => {
    const { store, nextShard, written } = fixture;
    const shard = nextShard();
    await store.fixStart(await take(store, shard), { a: 0n, b: 0n });
    const racers = await Promise.all([take(store, shard, "one"), take(store, shard, "two")]);
    const outcomes = await Promise.allSettled(racers.map((ownership) => store.commit(commitOf(ownership, 1))));
    expect(outcomes.map((outcome) => outcome.status).sort()).toEqual(["fulfilled", "rejected"]);
    expect(outcomes.find((outcome) => outcome.status === "rejected")).toMatchObject({ reason: { code: "SHARD_LOST" } });
    expect(await written(shard)).toEqual({ seq: 1, journal: [1], redo: [1], orders: 1 });
  });

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

  it("a shard that the instance does not have is named", async () => {
    await expect(take(fixture.store, 10_000)).rejects.toMatchObject({ code: "NOT_MIGRATED" });
    await expect(fixture.store.readShard(10_000)).rejects.toMatchObject({ code: "NOT_MIGRATED" });
  });
});

describe("release", () => {
  it("leaves token and seq, takes the owner out; under another token or seq it changes nothing", async () => {
    const { store, freshShard } = fixture;
    const ownership = await freshShard();
    await store.commit(commitOf(ownership, 1));
    await expect(store.release(ownership, 0)).rejects.toMatchObject({ code: "STORE_WENT_BACK" });
    expect((await store.readShard(ownership.shard)).owner).toBe("host/1/1");
    await store.release(ownership, 1);
    expect(await store.readShard(ownership.shard)).toMatchObject({ owner: null, token: ownership.token, seq: 1 });
    await take(store, ownership.shard, "next");
    await expect(store.release(ownership, 1)).rejects.toMatchObject({ code: "SHARD_LOST" });
    expect((await store.readShard(ownership.shard)).owner).toBe("next");
  });
});

/** Sessions of this database that wait for a lock. */
async function waiting(): Promise<number> {
  const { rows } = await fixture.pool.query(
    "SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
  );
  return rows[0].n;
}
