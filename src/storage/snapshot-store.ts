/**
 * Snapshots of a shard, written in pieces and published by one pointer in the shard row.
 *
 * Invariants
 *   S1      The pointer never moves to a lower seq.
 *   S2      Pieces of an unpublished snapshot are invisible to restore.
 *   S-whole What is published, and what is loaded, has the count, bytes and digest of its manifest.
 *   S-keep  The last two published snapshots are kept, and the journal beyond the older of them; journal rows >= c always.
 *
 * Tables: migrations/0001-lockstep.sql.
 */
import { createHash } from "node:crypto";

import type { ShardStore, SnapshotManifest } from "../actors/ports.ts";
import { assert, LockstepError } from "../errors.ts";
import { type Pool, query } from "./pool.ts";
import { guard, positionsJson, toNumber, toPositions } from "./shard-row.ts";
import { inTransaction, type Transaction, together } from "./transaction.ts";

const SNAPSHOTS_KEPT = 2;

/** Journal rows pruned with one snapshot: well within a statement's time, and more than an interval makes. */
const JOURNAL_ROWS_PRUNED_MAX = 20_000;

export function createSnapshotStore({
  pool,
  instance,
}: {
  pool: Pool;
  instance: string;
}): Pick<ShardStore, "writeSnapshotPiece" | "publishSnapshot" | "loadSnapshot"> {
  return {
    // A statement of its own: when its outcome is unknown it may simply be run again, so that is STORE_UNAVAILABLE.
    async writeSnapshotPiece({ shard, token, epoch }, seq, piece, data) {
      await query(pool, "SELECT lockstep.write_snapshot_piece($1, $2, $3, $4, $5, $6, $7)", [
        instance,
        shard,
        token,
        epoch,
        seq,
        piece,
        data,
      ]);
    },

    publishSnapshot: (ownership, { currentSeq, journalKeepMs, ...manifest }) =>
      inTransaction(pool, async (transaction) => {
        const { shard } = ownership;
        assert(
          manifest.token === ownership.token,
          `snapshot ${manifest.seq} of shard ${shard} was written under another token`,
        );
        // One round trip: the loop of the shard waits for it. What is found wrong below undoes all of it.
        const [, , , flipped] = await together(
          guard(transaction, instance, ownership, currentSeq),
          checkPieces(transaction, instance, shard, manifest),
          insertManifest(transaction, instance, shard, manifest),
          transaction.query(
            `UPDATE lockstep.shard SET snapshot_seq = $3, snapshot_token = $4, updated_at = now()
             WHERE instance = $1 AND shard = $2 AND snapshot_seq <= $3`,
            [instance, shard, manifest.seq, manifest.token],
          ),
          prune(transaction, instance, shard, { seq: manifest.seq, journalKeepMs }),
        );
        assert(flipped.rowCount === 1, `shard ${shard}: snapshot ${manifest.seq} is older than the published one`); // S1
      }),

    loadSnapshot: (shard) =>
      inTransaction(
        pool,
        async (transaction) => {
          const manifest = await readManifest(transaction, instance, shard);
          if (!manifest) return null;
          const pieces: Buffer[] = [];
          const digest = createHash("sha256");
          let bytes = 0;
          // One by one: the text form of bytea is twice its size.
          for (let piece = 0; piece < manifest.pieces; piece += 1) {
            const { rows } = await transaction.query<{ data: Buffer }>(
              "SELECT data FROM lockstep.snapshot_piece WHERE instance = $1 AND shard = $2 AND seq = $3 AND token = $4 AND piece = $5",
              [instance, shard, manifest.seq, manifest.token, piece],
            );
            if (!rows[0]) throw broken(shard, manifest, `piece ${piece} of ${manifest.pieces} is missing`);
            pieces.push(rows[0].data);
            digest.update(rows[0].data);
            bytes += rows[0].data.length;
          }
          if (bytes !== manifest.bytes)
            throw broken(shard, manifest, `it has ${bytes} bytes, ${manifest.bytes} were published`);
          if (digest.digest("hex") !== manifest.digest)
            throw broken(shard, manifest, "its digest is not the one that was published");
          return { manifest, pieces };
        },
        { readOnly: true },
      ),
  };
}

/** S-whole, before anybody can see it. Sizes only: reading the bytes again would hold the shard row for too long. */
async function checkPieces(
  transaction: Transaction,
  instance: string,
  shard: number,
  manifest: SnapshotManifest,
): Promise<void> {
  const { rows } = await transaction.query<{ pieces: string; bytes: string; last: number }>(
    `SELECT count(*) AS pieces, coalesce(sum(octet_length(data)), 0)::bigint AS bytes, coalesce(max(piece), -1) AS last
     FROM lockstep.snapshot_piece WHERE instance = $1 AND shard = $2 AND seq = $3 AND token = $4`,
    [instance, shard, manifest.seq, manifest.token],
  );
  const { pieces, bytes, last } = rows[0]!;
  if (toNumber(pieces) === manifest.pieces && toNumber(bytes) === manifest.bytes && last === manifest.pieces - 1)
    return;
  throw broken(
    shard,
    manifest,
    `${pieces} pieces with ${bytes} bytes were written, ${manifest.pieces} with ${manifest.bytes} are to be published`,
  );
}

async function insertManifest(
  transaction: Transaction,
  instance: string,
  shard: number,
  manifest: SnapshotManifest,
): Promise<void> {
  await transaction.query(
    `INSERT INTO lockstep.snapshot
       (instance, shard, seq, token, pieces, bytes, digest, code, app_version, stream_time_ms, positions, counters)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
    [
      instance,
      shard,
      manifest.seq,
      manifest.token,
      manifest.pieces,
      manifest.bytes,
      manifest.digest,
      manifest.code,
      manifest.appVersion,
      manifest.streamTimeMs,
      positionsJson(manifest.positions),
      JSON.stringify(manifest.counters),
    ],
  );
}

/** S-keep. Pieces without a manifest go when they are older: nobody can publish them any more. */
async function prune(
  transaction: Transaction,
  instance: string,
  shard: number,
  { seq, journalKeepMs }: { seq: number; journalKeepMs: number },
): Promise<void> {
  const older = transaction.query(
    `DELETE FROM lockstep.snapshot WHERE instance = $1 AND shard = $2 AND (seq, token) NOT IN (
       SELECT seq, token FROM lockstep.snapshot WHERE instance = $1 AND shard = $2
       ORDER BY seq DESC, published_at DESC LIMIT ${SNAPSHOTS_KEPT})`,
    [instance, shard],
  );
  const orphaned = transaction.query(
    `DELETE FROM lockstep.snapshot_piece p WHERE instance = $1 AND shard = $2 AND seq <= $3 AND NOT EXISTS (
       SELECT FROM lockstep.snapshot m WHERE m.instance = $1 AND m.shard = $2 AND m.seq = p.seq AND m.token = p.token)`,
    [instance, shard, seq],
  );
  const journal = transaction.query(
    `DELETE FROM lockstep.journal WHERE instance = $1 AND shard = $2 AND seq IN (
       SELECT seq FROM lockstep.journal WHERE instance = $1 AND shard = $2
         AND seq <= (SELECT min(seq) FROM lockstep.snapshot WHERE instance = $1 AND shard = $2)
         AND seq < (SELECT confirmed FROM lockstep.shard WHERE instance = $1 AND shard = $2)
         AND written_at < now() - $3 * interval '1 millisecond'
       ORDER BY seq LIMIT ${JOURNAL_ROWS_PRUNED_MAX})`,
    [instance, shard, journalKeepMs],
  );
  await together(older, orphaned, journal);
}

type ManifestColumns = {
  seq: string;
  token: string;
  pieces: number | null;
  bytes: string;
  digest: string;
  code: string;
  app_version: number;
  stream_time_ms: string;
  positions: Record<string, string>;
  counters: Record<string, number>;
};

async function readManifest(
  transaction: Transaction,
  instance: string,
  shard: number,
): Promise<SnapshotManifest | null> {
  const { rows } = await transaction.query<ManifestColumns>(
    `SELECT s.snapshot_seq AS seq, s.snapshot_token::text AS token, m.pieces, m.bytes, m.digest, m.code, m.app_version,
            m.stream_time_ms, m.positions, m.counters
     FROM lockstep.shard s LEFT JOIN lockstep.snapshot m
       ON m.instance = s.instance AND m.shard = s.shard AND m.seq = s.snapshot_seq AND m.token = s.snapshot_token
     WHERE s.instance = $1 AND s.shard = $2 AND s.snapshot_token IS NOT NULL`,
    [instance, shard],
  );
  const row = rows[0];
  if (!row) return null;
  if (row.pieces === null) throw broken(shard, { seq: toNumber(row.seq), token: row.token }, "its manifest is missing");
  return {
    seq: toNumber(row.seq),
    token: row.token,
    pieces: row.pieces,
    bytes: toNumber(row.bytes),
    digest: row.digest,
    code: row.code,
    appVersion: row.app_version,
    streamTimeMs: toNumber(row.stream_time_ms),
    positions: toPositions(row.positions),
    counters: row.counters,
  };
}

function broken(shard: number, { seq, token }: { seq: number; token: string }, why: string): LockstepError {
  return new LockstepError("SNAPSHOT_BROKEN", `Shard ${shard}: snapshot ${seq} is damaged: ${why}.`, {
    details: { shard, seq, token, why },
  });
}
