/** Snapshots: pieces, one pointer, and what is pruned with them. */
import { createHash } from "node:crypto";

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import type { Ownership, SnapshotManifest } from "../../../src/actors/ports.ts";
import { commitOf, type Fixture, openFixture, take } from "./fixture.ts";

const DAY_MS = 24 * 60 * 60 * 1000;

let fixture: Fixture;
beforeAll(async () => {
  fixture = await openFixture();
});
afterAll(() => fixture.close());

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

async function writePieces(ownership: Ownership, seq: number): Promise<void> {
  for (const [piece, data] of piecesOf(seq).entries())
    await fixture.store.writeSnapshotPiece(ownership, seq, piece, data);
}

async function snapshot(
  ownership: Ownership,
  seq: number,
  { currentSeq = seq, journalKeepMs = DAY_MS } = {},
): Promise<void> {
  await writePieces(ownership, seq);
  await fixture.store.publishSnapshot(ownership, { ...manifestOf(ownership, seq), currentSeq, journalKeepMs });
}

async function commitUpTo(ownership: Ownership, from: number, to: number): Promise<void> {
  for (let seq = from; seq <= to; seq += 1)
    await fixture.store.commit(commitOf(ownership, seq, { confirmed: seq - 1 }));
}

async function stored(shard: number): Promise<{ snapshots: number[]; pieces: number[] }> {
  const of = async (table: string) =>
    (
      await fixture.pool.query(`SELECT DISTINCT seq FROM lockstep.${table} WHERE shard = $1 ORDER BY seq`, [shard])
    ).rows.map((r) => Number(r.seq));
  return { snapshots: await of("snapshot"), pieces: await of("snapshot_piece") };
}

describe("a snapshot", () => {
  it("S2: is invisible until it is published, and then comes back whole", async () => {
    const { store, freshShard } = fixture;
    const ownership = await freshShard();
    await commitUpTo(ownership, 1, 2);
    await writePieces(ownership, 2);
    await writePieces(ownership, 2); // written again after a failure
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
    await commitUpTo(ownership, 1, 3);
    await writePieces(ownership, 2);
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
    await commitUpTo(ownership, 1, 3);
    await snapshot(ownership, 3);
    await expect(snapshot(ownership, 2, { currentSeq: 3 })).rejects.toMatchObject({ code: "INVARIANT_BROKEN" });
    expect((await store.loadSnapshot(ownership.shard))!.manifest.seq).toBe(3);
    await expect(writePieces(ownership, 3)).rejects.toMatchObject({ code: "INVARIANT_BROKEN" }); // published: never written again
    await expect(writePieces(ownership, 4)).rejects.toMatchObject({ code: "STORE_WENT_BACK" }); // of commits that are not there
  });

  it("I4: a lost owner can neither write a piece nor publish", async () => {
    const { store, freshShard } = fixture;
    const old = await freshShard();
    await commitUpTo(old, 1, 2);
    await writePieces(old, 1);
    const next = await take(store, old.shard);
    await snapshot(next, 2);
    await expect(writePieces(old, 2)).rejects.toMatchObject({ code: "SHARD_LOST" });
    await expect(
      store.publishSnapshot(old, { ...manifestOf(old, 1), currentSeq: 2, journalKeepMs: DAY_MS }),
    ).rejects.toMatchObject({ code: "SHARD_LOST" });
    expect((await store.loadSnapshot(old.shard))!.manifest.token).toBe(next.token);
  });

  it("S-whole: is not published when a piece is missing", async () => {
    const { store, freshShard } = fixture;
    const ownership = await freshShard();
    await commitUpTo(ownership, 1, 1);
    await store.writeSnapshotPiece(ownership, 1, 0, piecesOf(1)[0]!);
    await expect(
      store.publishSnapshot(ownership, { ...manifestOf(ownership, 1), currentSeq: 1, journalKeepMs: DAY_MS }),
    ).rejects.toMatchObject({ code: "SNAPSHOT_BROKEN" });
    expect(await store.loadSnapshot(ownership.shard)).toBeNull();
  });

  const damages: ReadonlyArray<readonly [what: string, statement: string]> = [
    ["a changed byte", "UPDATE lockstep.snapshot_piece SET data = set_byte(data, 0, 1) WHERE shard = $1 AND piece = 1"],
    ["a shorter piece", "UPDATE lockstep.snapshot_piece SET data = substr(data, 2) WHERE shard = $1 AND piece = 0"],
    ["a missing piece", "DELETE FROM lockstep.snapshot_piece WHERE shard = $1 AND piece = 1"],
    ["a missing manifest", "DELETE FROM lockstep.snapshot WHERE shard = $1"],
  ];
  it.each(damages)("S-whole: %s is SNAPSHOT_BROKEN", async (_what, statement) => {
    const { store, pool, freshShard } = fixture;
    const ownership = await freshShard();
    await commitUpTo(ownership, 1, 1);
    await snapshot(ownership, 1);
    expect((await pool.query(statement, [ownership.shard])).rowCount).toBe(1);
    await expect(store.loadSnapshot(ownership.shard)).rejects.toMatchObject({
      code: "SNAPSHOT_BROKEN",
      remedy: "halt",
    });
  });
});

describe("S-keep", () => {
  it("the last two are kept, and pieces that nobody can publish any more go", async () => {
    const { freshShard } = fixture;
    const ownership = await freshShard();
    await commitUpTo(ownership, 1, 5);
    await snapshot(ownership, 1, { currentSeq: 5 });
    await writePieces(ownership, 2); // given up
    await writePieces(ownership, 5); // under way
    await snapshot(ownership, 3, { currentSeq: 5 });
    expect(await stored(ownership.shard)).toEqual({ snapshots: [1, 3], pieces: [1, 3, 5] });
    await snapshot(ownership, 4, { currentSeq: 5 });
    expect(await stored(ownership.shard)).toEqual({ snapshots: [3, 4], pieces: [3, 4, 5] });
  });

  it("journal rows go only when older than the kept period, covered by the older snapshot kept, and below confirmed", async () => {
    const { freshShard, pool, written } = fixture;
    const ownership = await freshShard();
    const journal = async () => (await written(ownership.shard)).journal;
    await commitUpTo(ownership, 1, 6); // confirmed 5
    await snapshot(ownership, 2, { currentSeq: 6, journalKeepMs: DAY_MS });
    expect(await journal()).toEqual([1, 2, 3, 4, 5, 6]);
    await pool.query("UPDATE lockstep.journal SET written_at = now() - interval '2 days' WHERE shard = $1", [
      ownership.shard,
    ]);
    await snapshot(ownership, 4, { currentSeq: 6, journalKeepMs: DAY_MS });
    expect(await journal()).toEqual([3, 4, 5, 6]);
    await snapshot(ownership, 5, { currentSeq: 6, journalKeepMs: DAY_MS });
    expect(await journal()).toEqual([5, 6]);
    await snapshot(ownership, 6, { journalKeepMs: DAY_MS }); // 5 is covered, but not below confirmed
    expect(await journal()).toEqual([5, 6]);
  });
});
