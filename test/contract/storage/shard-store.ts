/**
 * What every ShardStore does, whatever it stands on: run over Postgres by shard-store.test.ts, and over memory by the unit tests
 * of src/testing. What only a real server shows is in the other files of this folder.
 */
import { createHash, randomUUID } from "node:crypto";

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import type { RowEffect } from "../../../src/actors/effects.ts";
import { deriveId } from "../../../src/actors/ids.ts";
import type { Journal } from "../../../src/actors/journal.ts";
import type { Ownership, ShardStore, SnapshotManifest } from "../../../src/actors/ports.ts";
import { commitOf, order, type StoreFixture, take } from "./store-fixture.ts";

const DAY_MS = 24 * 60 * 60 * 1000;

export function shardStoreContract(open: () => Promise<StoreFixture>): void {
  let fixture: StoreFixture;
  beforeAll(async () => {
    fixture = await open();
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
      expect(outcomes.find((outcome) => outcome.status === "rejected")).toMatchObject({
        reason: { code: "SHARD_LOST" },
      });
      expect(await written(shard)).toEqual({ seq: 1, journal: [1], redo: [1], orders: 1 });
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
    it("passes its fail-points in order", async () => {
      const { storeWith, freshShard } = fixture;
      const ownership = await freshShard();
      const points: string[] = [];
      await storeWith((point) => void points.push(point)).commit(commitOf(ownership, 1));
      expect(points).toEqual(["pg.begun", "pg.updated", "pg.before-commit", "pg.commit-sent", "pg.committed"]);
    });
    it("T-unknown: what a fail-point throws counts as a break of the connection there", async () => {
      const ownership = await fixture.freshShard();
      const throwAt = (where: string) =>
        fixture.storeWith((point) => {
          if (point === where) throw new Error(`fail-point ${where}`);
        });
      await expect(throwAt("pg.updated").commit(commitOf(ownership, 1))).rejects.toMatchObject({
        code: "STORE_UNAVAILABLE",
      });
      expect(await fixture.written(ownership.shard)).toEqual({ seq: 0, journal: [], redo: [], orders: 0 });
      await expect(throwAt("pg.committed").commit(commitOf(ownership, 1))).rejects.toMatchObject({
        code: "COMMIT_UNKNOWN",
      });
      expect(await fixture.written(ownership.shard)).toEqual({ seq: 1, journal: [1], redo: [1], orders: 1 });
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
  });

  describe("snapshots", () => {
    it("S2: is invisible until it is published, and then comes back whole", async () => {
      const { store, freshShard } = fixture;
      const ownership = await freshShard();
      await commitUpTo(store, ownership, 1, 2);
      await writePieces(store, ownership, 2);
      await writePieces(store, ownership, 2); // written again after a failure
      expect(await store.loadSnapshot(ownership.shard)).toBeNull();
      await store.publishSnapshot(ownership, { ...manifestOf(ownership, 2), currentSeq: 2, journalKeepMs: DAY_MS });
      expect(await store.loadSnapshot(ownership.shard)).toEqual({
        manifest: manifestOf(ownership, 2),
        pieces: piecesOf(2),
      });
      expect(await store.readShard(ownership.shard)).toMatchObject({
        seq: 2,
        snapshotSeq: 2,
        snapshotToken: ownership.token,
      });
    });

    it("S3: may be older than the seq at which the pointer is flipped, never without the row's seq", async () => {
      const { store, freshShard } = fixture;
      const ownership = await freshShard();
      await commitUpTo(store, ownership, 1, 3);
      await writePieces(store, ownership, 2);
      const publish = (currentSeq: number) =>
        store.publishSnapshot(ownership, { ...manifestOf(ownership, 2), currentSeq, journalKeepMs: DAY_MS });
      await expect(publish(2)).rejects.toMatchObject({ code: "STORE_WENT_BACK" });
      expect(await store.loadSnapshot(ownership.shard)).toBeNull();
      await publish(3);
      expect((await store.readShard(ownership.shard)).snapshotSeq).toBe(2);
    });

    it("S1: the pointer never moves to a lower seq", async () => {
      const { store, freshShard } = fixture;
      const ownership = await freshShard();
      await commitUpTo(store, ownership, 1, 3);
      await snapshot(store, ownership, 3);
      await expect(snapshot(store, ownership, 2, { currentSeq: 3 })).rejects.toMatchObject({
        code: "INVARIANT_BROKEN",
      });
      expect((await store.loadSnapshot(ownership.shard))!.manifest.seq).toBe(3);
      await expect(writePieces(store, ownership, 3)).rejects.toMatchObject({ code: "INVARIANT_BROKEN" }); // published: never written again
      await expect(writePieces(store, ownership, 4)).rejects.toMatchObject({ code: "STORE_WENT_BACK" }); // of commits that are not there
    });

    it("I4: a lost owner can neither write a piece nor publish", async () => {
      const { store, freshShard } = fixture;
      const old = await freshShard();
      await commitUpTo(store, old, 1, 2);
      await writePieces(store, old, 1);
      const next = await take(store, old.shard);
      await snapshot(store, next, 2);
      await expect(writePieces(store, old, 2)).rejects.toMatchObject({ code: "SHARD_LOST" });
      await expect(
        store.publishSnapshot(old, { ...manifestOf(old, 1), currentSeq: 2, journalKeepMs: DAY_MS }),
      ).rejects.toMatchObject({ code: "SHARD_LOST" });
      expect((await store.loadSnapshot(old.shard))!.manifest.token).toBe(next.token);
    });

    it("S-whole: is not published when a piece is missing", async () => {
      const { store, freshShard } = fixture;
      const ownership = await freshShard();
      await commitUpTo(store, ownership, 1, 1);
      await store.writeSnapshotPiece(ownership, 1, 0, piecesOf(1)[0]!);
      await expect(
        store.publishSnapshot(ownership, { ...manifestOf(ownership, 1), currentSeq: 1, journalKeepMs: DAY_MS }),
      ).rejects.toMatchObject({ code: "SNAPSHOT_BROKEN" });
      expect(await store.loadSnapshot(ownership.shard)).toBeNull();
    });

    it("the last two are kept, and pieces that nobody can publish any more go", async () => {
      const { store, freshShard, kept } = fixture;
      const ownership = await freshShard();
      await commitUpTo(store, ownership, 1, 5);
      await snapshot(store, ownership, 1, { currentSeq: 5 });
      await writePieces(store, ownership, 2); // given up
      await writePieces(store, ownership, 5); // under way
      await snapshot(store, ownership, 3, { currentSeq: 5 });
      expect(await kept(ownership.shard)).toEqual({ snapshots: [1, 3], pieces: [1, 3, 5] });
      await snapshot(store, ownership, 4, { currentSeq: 5 });
      expect(await kept(ownership.shard)).toEqual({ snapshots: [3, 4], pieces: [3, 4, 5] });
    });

    it("journal rows go only when older than the kept period, covered by the older snapshot kept, and below confirmed", async () => {
      const { store, freshShard, written, ageJournal } = fixture;
      const ownership = await freshShard();
      const journal = async () => (await written(ownership.shard)).journal;
      await commitUpTo(store, ownership, 1, 6); // confirmed 5
      await snapshot(store, ownership, 2, { currentSeq: 6, journalKeepMs: DAY_MS });
      expect(await journal()).toEqual([1, 2, 3, 4, 5, 6]);
      await ageJournal(ownership.shard, 2 * DAY_MS);
      await snapshot(store, ownership, 4, { currentSeq: 6, journalKeepMs: DAY_MS });
      expect(await journal()).toEqual([3, 4, 5, 6]);
      await snapshot(store, ownership, 5, { currentSeq: 6, journalKeepMs: DAY_MS });
      expect(await journal()).toEqual([5, 6]);
      await snapshot(store, ownership, 6, { journalKeepMs: DAY_MS }); // 5 is covered, but not below confirmed
      expect(await journal()).toEqual([5, 6]);
    });
  });
}

const piecesOf = (seq: number) => [Buffer.from(`first of ${seq}`), Buffer.from([0, 255, seq])];

function manifestOf(ownership: Ownership, seq: number): SnapshotManifest {
  const pieces = piecesOf(seq);
  return {
    seq,
    token: ownership.token,
    pieces: pieces.length,
    bytes: pieces.reduce((sum, piece) => sum + piece.length, 0),
    digest: createHash("sha256").update(Buffer.concat(pieces)).digest("hex"),
    code: "code-1",
    appVersion: 3,
    streamTimeMs: 1_000 * seq,
    positions: { a: BigInt(seq), b: 9_007_199_254_740_993n },
    counters: { orders: 12 },
  };
}

async function writePieces(store: ShardStore, ownership: Ownership, seq: number): Promise<void> {
  for (const [piece, data] of piecesOf(seq).entries()) await store.writeSnapshotPiece(ownership, seq, piece, data);
}

export async function snapshot(
  store: ShardStore,
  ownership: Ownership,
  seq: number,
  { currentSeq = seq, journalKeepMs = DAY_MS } = {},
): Promise<void> {
  await writePieces(store, ownership, seq);
  await store.publishSnapshot(ownership, { ...manifestOf(ownership, seq), currentSeq, journalKeepMs });
}

export async function commitUpTo(store: ShardStore, ownership: Ownership, from: number, to: number): Promise<void> {
  for (let seq = from; seq <= to; seq += 1) await store.commit(commitOf(ownership, seq, { confirmed: seq - 1 }));
}
