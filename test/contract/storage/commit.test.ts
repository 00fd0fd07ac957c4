/** The commit point: what one commit writes, and what keeps it from writing anything. */
import { randomUUID } from "node:crypto";

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { RowEffect } from "../../../src/actors/effects.ts";
import { deriveId } from "../../../src/actors/ids.ts";
import type { Journal } from "../../../src/actors/journal.ts";
import { commitOf, type Fixture, openFixture, order, take } from "./fixture.ts";

let fixture: Fixture;
beforeAll(async () => {
  fixture = await openFixture();
});
afterAll(() => fixture.close());

describe("a commit", () => {
  it("I1: raises seq by one, and stores positions, stream time, journal, redo and rows together", async () => {
    const { store, freshShard, written } = fixture;
    const ownership = await freshShard();
    await store.commit(commitOf(ownership, 1));
    await store.commit(commitOf(ownership, 2));

    const row = await store.readShard(ownership.shard);
    expect(row).toMatchObject({
      seq: 2,
      confirmed: 0,
      positions: { a: 2n, b: 0n },
      streamTimeMs: 2_000,
      code: "code-1",
    });
    expect(await written(ownership.shard)).toEqual({ seq: 2, journal: [1, 2], redo: [1, 2], orders: 2 });
    const redo = await store.readRedo(ownership.shard, 1);
    expect(redo).toEqual([{ seq: 2, payload: Buffer.from([2, 0, 255]) }]);
  });

  it("I1: a commit that skips a seq, or comes twice, writes nothing and finds that the store went back", async () => {
    const { store, freshShard, written } = fixture;
    const ownership = await freshShard();
    await store.commit(commitOf(ownership, 1));
    const before = await written(ownership.shard);
    for (const seq of [1, 3]) {
      await expect(store.commit(commitOf(ownership, seq, { streamTimeMs: 9_000 }))).rejects.toMatchObject({
        code: "STORE_WENT_BACK",
      });
    }
    expect(await written(ownership.shard)).toEqual(before);
  });

  it("I4: a commit under an older token writes nothing at all", async () => {
    const { store, freshShard, written } = fixture;
    const older = await freshShard();
    await store.commit(commitOf(older, 1));
    const newer = await take(store, older.shard);
    const before = await written(older.shard);
    await expect(store.commit(commitOf(older, 2))).rejects.toMatchObject({ code: "SHARD_LOST", remedy: "surrender" });
    expect(await written(older.shard)).toEqual(before);
    await store.commit(commitOf(newer, 2));
    expect(await written(older.shard)).toEqual({ seq: 2, journal: [1, 2], redo: [1, 2], orders: 2 });
  });

  it("I12: positions never fall, no input may be missing or new, and stream time never falls", async () => {
    const { store, freshShard, written } = fixture;
    const ownership = await freshShard();
    await store.commit(commitOf(ownership, 1, { positions: { a: 10n, b: 10n } }));
    const before = await written(ownership.shard);
    const refused = [
      { positions: { a: 9n, b: 11n } },
      { positions: { a: 11n } },
      { positions: { a: 11n, b: 10n, c: 0n } },
      { positions: { a: 11n, b: 10n }, streamTimeMs: 999 },
      { positions: { a: 11n, b: 10n }, confirmed: 2 },
    ];
    for (const change of refused) {
      await expect(
        store.commit(commitOf(ownership, 2, change)),
        JSON.stringify(change, (_k, v) => (typeof v === "bigint" ? `${v}` : v)),
      ).rejects.toMatchObject({
        code: "INVARIANT_BROKEN",
      });
    }
    expect(await written(ownership.shard)).toEqual(before);
    await store.commit(
      commitOf(ownership, 2, { positions: { a: 10n, b: 9_007_199_254_740_993n }, streamTimeMs: 1_000 }),
    );
    expect((await store.readShard(ownership.shard)).positions).toEqual({ a: 10n, b: 9_007_199_254_740_993n });
  });

  it("I12: nothing is committed before the start is fixed, and the start is fixed once", async () => {
    const { store, nextShard, written } = fixture;
    const ownership = await take(store, nextShard());
    await expect(store.commit(commitOf(ownership, 1))).rejects.toMatchObject({ code: "INVARIANT_BROKEN" });
    await store.fixStart(ownership, { a: 5n, b: 0n });
    await store.fixStart(ownership, { a: 5n, b: 0n });
    await expect(store.fixStart(ownership, { a: 6n, b: 0n })).rejects.toMatchObject({ code: "INVARIANT_BROKEN" });
    expect((await store.readShard(ownership.shard)).positions).toEqual({ a: 5n, b: 0n });
    await store.commit(commitOf(ownership, 1, { positions: { a: 6n, b: 0n } }));
    await expect(store.fixStart(ownership, { a: 5n, b: 0n })).rejects.toMatchObject({ code: "STORE_WENT_BACK" });
    expect((await written(ownership.shard)).seq).toBe(1);
  });

  it("keeps the journal exactly, whatever its messages hold", async () => {
    const { store, freshShard } = fixture;
    const ownership = await freshShard();
    const journal: Journal = {
      entries: [
        { kind: "run", topic: "b", first: 9_007_199_254_740_993n, next: 9_007_199_254_740_999n, count: 2, crc: 1 },
        { kind: "tick", streamTimeMs: 1_700_000_000_000, timers: 3 },
      ],
      verdicts: [
        {
          kind: "record",
          topic: "a",
          offset: 7n,
          code: "ROW_REFUSED",
          message: 'NUL \u0000, lone \ud800, "quoted", ü',
        },
        {
          kind: "timer",
          actorType: "window",
          key: "BTC-USD/5m",
          timerId: "close",
          dueMs: 5,
          code: "ROW_REFUSED",
          message: "",
        },
      ],
    };
    await store.commit(commitOf(ownership, 1, { journal }));
    await store.commit(commitOf(ownership, 2));
    await store.commit(commitOf(ownership, 3));
    const rows = await store.readJournal(ownership.shard, { after: 0, upTo: 2, limit: 10 });
    expect(rows.map((row) => row.seq)).toEqual([1, 2]);
    expect(rows[0]).toEqual({
      seq: 1,
      token: ownership.token,
      code: "code-1",
      journal,
      digest: "digest-1",
      streamTimeMs: 1_000,
    });
    expect(await store.readJournal(ownership.shard, { after: 1, upTo: 3, limit: 1 })).toHaveLength(1);
  });

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

  it("passes its fail-points in order", async () => {
    const { storeOn, pool, freshShard } = fixture;
    const ownership = await freshShard();
    const points: string[] = [];
    await storeOn(pool, (point, shard) => void points.push(`${point}@${shard}`)).commit(commitOf(ownership, 1));
    expect(points).toEqual(
      ["pg.begun", "pg.updated", "pg.before-commit", "pg.commit-sent", "pg.committed"].map(
        (p) => `${p}@${ownership.shard}`,
      ),
    );
  });
});

describe("redo", () => {
  it("I3: rows up to confirmed vanish with the next commit, and no others", async () => {
    const { store, freshShard, written } = fixture;
    const ownership = await freshShard();
    for (const seq of [1, 2, 3]) await store.commit(commitOf(ownership, seq));
    await store.commit(commitOf(ownership, 4, { confirmed: 2 }));
    expect((await written(ownership.shard)).redo).toEqual([3, 4]);
    await store.commit(commitOf(ownership, 5, { confirmed: 1 })); // confirmed never falls
    expect((await store.readShard(ownership.shard)).confirmed).toBe(2);
    expect((await written(ownership.shard)).redo).toEqual([3, 4, 5]);
  });

  it("I3: confirm leaves exactly the rows above it", async () => {
    const { store, freshShard, written } = fixture;
    const ownership = await freshShard();
    for (const seq of [1, 2, 3]) await store.commit(commitOf(ownership, seq));
    await store.confirm(ownership, 3, 2);
    expect((await written(ownership.shard)).redo).toEqual([3]);
    await store.confirm(ownership, 3, 1);
    expect(await store.readShard(ownership.shard)).toMatchObject({ seq: 3, confirmed: 2 });
  });

  it("I4: confirm with another seq, another token, or beyond the seq changes nothing", async () => {
    const { store, freshShard, written } = fixture;
    const older = await freshShard();
    for (const seq of [1, 2]) await store.commit(commitOf(older, seq));
    await expect(store.confirm(older, 1, 1)).rejects.toMatchObject({ code: "STORE_WENT_BACK", remedy: "halt" });
    await expect(store.confirm(older, 2, 3)).rejects.toMatchObject({ code: "INVARIANT_BROKEN" });
    await take(store, older.shard);
    await expect(store.confirm(older, 2, 2)).rejects.toMatchObject({ code: "SHARD_LOST" });
    expect(await written(older.shard)).toMatchObject({ seq: 2, redo: [1, 2] });
    expect((await store.readShard(older.shard)).confirmed).toBe(0);
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

  it("an id that a producer chose, of whatever version, is data: there already, it is ROW_REFUSED", async () => {
    const { store, freshShard } = fixture;
    const ownership = await freshShard();
    const chosen = order(ownership.shard, { id: deriveId(randomUUID(), "chosen by a producer") });
    await store.commit(commitOf(ownership, 1, { rows: [chosen] }));
    await expect(store.commit(commitOf(ownership, 2, { rows: [chosen] }))).rejects.toMatchObject({
      code: "ROW_REFUSED",
    });
  });

  it("a unique key of the app's own that is there already is ROW_REFUSED: that is data, not the protocol", async () => {
    const { store, freshShard, written } = fixture;
    const ownership = await freshShard();
    const rows: RowEffect[] = [7, 7].map((id) => ({ table: "app.late", row: { id, parent: null }, origin: 0 }));
    await expect(store.commit(commitOf(ownership, 1, { rows }))).rejects.toMatchObject({
      code: "ROW_REFUSED",
      details: { sqlstate: "23505" },
    });
    expect(await written(ownership.shard)).toEqual({ seq: 0, journal: [], redo: [], orders: 0 });
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
