/** The commit point: what one commit writes, and what keeps it from writing anything. */
import { randomUUID } from "node:crypto";

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { RowEffect } from "../../../src/actors/effects.ts";
import { deriveId } from "../../../src/actors/ids.ts";
import { commitOf, type Fixture, openFixture, order } from "./fixture.ts";

let fixture: Fixture;
beforeAll(async () => {
  fixture = await openFixture();
});
afterAll(() => fixture.close());

describe("a commit", () => {
  it("a journal row that cannot be read is named", async () => {
    const { store, pool, freshShard } = fixture;
    const ownership = await freshShard();
    await store.commit(commitOf(ownership, 1));
    await pool.query(`UPDATE lockstep.journal SET body = '{"v":99}' WHERE shard = $1`, [ownership.shard]);
    await expect(store.readJournal(ownership.shard, { after: 0, upTo: 1, limit: 1 })).rejects.toMatchObject({
      code: "JOURNAL_BROKEN",
      details: { shard: ownership.shard, seq: 1 },
    });
  });
});

describe("rows of the app", () => {
  it("take exact decimals and 64-bit integers from text, JSON documents, and defaults of columns not named", async () => {
    const { store, pool, freshShard } = fixture;
    const ownership = await freshShard();
    const id = randomUUID();
    const note = `exact ${id}`;
    await store.commit(
      commitOf(ownership, 1, {
        rows: [
          order(ownership.shard, {
            id,
            note,
            qty: "9999999999.12345678",
            big: "9223372036854775807",
            doc: { a: [1, "x"] },
          }),
        ],
      }),
    );
    const { rows } = await pool.query(
      "SELECT qty::text, big::text, doc::text, extract(epoch FROM at)::int AS at FROM app.orders WHERE id = $1",
      [id],
    );
    expect(rows).toEqual([
      { qty: "9999999999.12345678", big: "9223372036854775807", doc: '{"a": [1, "x"]}', at: 1_577_836_800 },
    ]);
  });

  it("a time without a zone is UTC, whatever the database's own zone is", async () => {
    const { storeOn, poolOf, pool, database, freshShard } = fixture;
    await pool.query(`ALTER DATABASE ${database.name} SET timezone = 'Asia/Tokyo'`);
    const ownership = await freshShard();
    const row = order(ownership.shard, { note: "zone", at: "2026-01-02T03:04:05" });
    await storeOn(poolOf()).commit(commitOf(ownership, 1, { rows: [row] }));
    const { rows } = await pool.query("SELECT at FROM app.orders WHERE note = 'zone'");
    expect(rows[0].at.toISOString()).toBe("2026-01-02T03:04:05.000Z");
    await pool.query(`ALTER DATABASE ${database.name} RESET timezone`);
  });

  it("names of tables and columns are quoted", async () => {
    const { store, pool, freshShard } = fixture;
    const ownership = await freshShard();
    await store.commit(commitOf(ownership, 1, { rows: [{ table: 'app.Odd "name', row: { "a.b": 7 }, origin: 0 }] }));
    expect((await pool.query(`SELECT * FROM app."Odd ""name"`)).rows).toEqual([{ "a.b": 7 }]);
  });

  const refused: ReadonlyArray<readonly [why: string, row: Record<string, unknown>, sqlstate: string]> = [
    ["numeric overflow", { qty: "99999999999" }, "22003"],
    ["no number", { qty: "many" }, "22P02"],
    ["NUL in text", { doc: null, note: "a\u0000b" }, "22P05"],
    ["a lone surrogate", { note: "\ud800" }, "22P02"],
    ["a CHECK", { qty: "-1" }, "23514"],
    ["NOT NULL", { id: null }, "23502"],
  ];
  it.each(refused)(
    "a row refused for %s is ROW_REFUSED with the SQLSTATE, and nothing was written",
    async (_why, change, sqlstate) => {
      const { store, freshShard, written } = fixture;
      const ownership = await freshShard();
      const rows = [order(ownership.shard), order(ownership.shard, change)];
      await expect(store.commit(commitOf(ownership, 1, { rows }))).rejects.toMatchObject({
        code: "ROW_REFUSED",
        remedy: "quarantine",
        details: { sqlstate },
      });
      expect(await written(ownership.shard)).toEqual({ seq: 0, journal: [], redo: [], orders: 0 });
      await store.commit(commitOf(ownership, 1)); // the connection and the shard are as before
    },
  );

  it("a deferred constraint that fails at COMMIT is ROW_REFUSED, not an unknown outcome", async () => {
    const { store, freshShard, written } = fixture;
    const ownership = await freshShard();
    const rows: RowEffect[] = [{ table: "app.late", row: { id: 1, parent: 999 }, origin: 0 }];
    await expect(store.commit(commitOf(ownership, 1, { rows }))).rejects.toMatchObject({
      code: "ROW_REFUSED",
      details: { sqlstate: "23503" },
    });
    expect(await written(ownership.shard)).toEqual({ seq: 0, journal: [], redo: [], orders: 0 });
  });

  it("I11: an id that is there already is ID_COLLISION with the constraint and the key, and nothing was written", async () => {
    const { store, freshShard, written } = fixture;
    const ownership = await freshShard();
    const id = deriveId(randomUUID(), "order");
    const twice = order(ownership.shard, { id });
    await store.commit(commitOf(ownership, 1, { rows: [twice] }));
    const before = await written(ownership.shard);
    await expect(
      store.commit(commitOf(ownership, 2, { rows: [order(ownership.shard), twice], ids: new Set([id]) })),
    ).rejects.toMatchObject({
      code: "ID_COLLISION",
      remedy: "halt",
      details: { constraint: "orders_pkey", detail: expect.stringContaining(String(twice.row["id"])) },
    });
    expect(await written(ownership.shard)).toEqual(before);
  });

  const noSchema: ReadonlyArray<readonly [what: string, row: Omit<RowEffect, "origin">]> = [
    ["an unknown column", { table: "app.orders", row: { id: 1, nope: 1 } }],
    ["an unknown table", { table: "app.nope", row: { id: 1 } }],
    ["an unknown schema", { table: "nope.orders", row: { id: 1 } }],
    ["a name of three parts", { table: "a.b.c", row: { id: 1 } }],
    ["a row without columns", { table: "app.orders", row: {} }],
  ];
  it.each(noSchema)("%s is SCHEMA_REFUSED, and nothing was written", async (_what, row) => {
    const { store, freshShard, written } = fixture;
    const ownership = await freshShard();
    const rows = [order(ownership.shard), { ...row, origin: 0 }];
    await expect(store.commit(commitOf(ownership, 1, { rows }))).rejects.toMatchObject({
      code: "SCHEMA_REFUSED",
      remedy: "halt",
    });
    expect(await written(ownership.shard)).toEqual({ seq: 0, journal: [], redo: [], orders: 0 });
  });
});
