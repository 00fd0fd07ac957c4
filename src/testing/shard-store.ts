/**
 * The ShardStore port on Postgres in memory: every statement is a request that can be lost, late or without answer, and the
 * outcome of a COMMIT is unknown exactly where it is on the real one (src/storage/transaction.ts).
 */
import { createHash } from "node:crypto";

import type { Ownership, ShardStore, SnapshotManifest } from "../actors/ports.ts";
import { assert, hasCode, isLockstepError, LockstepError } from "../errors.ts";
import type { Hook } from "../runtime/failpoints.ts";
import type { Network } from "./network.ts";
import {
  commitShard,
  type Draft,
  guard,
  insertRows,
  type MemoryPostgres,
  type Session,
  type ShardTables,
} from "./postgres.ts";
import type { SimulatedProcess } from "./process.ts";
import type { Random } from "./random.ts";

const QUERY_TIMEOUT_MS = 4_000;
/** Until the server notices that a client is gone, at most; what is still open then is ended for sitting idle. */
const NOTICED_MS_MAX = 3_000;
const SNAPSHOTS_KEPT = 2;

export interface MemoryStoreOptions {
  readonly postgres: MemoryPostgres;
  readonly network: Network;
  readonly process: SimulatedProcess;
  readonly random: Random;
  readonly appVersion: number;
  readonly hook: Hook;
}

interface Transaction {
  execute<T>(what: string, statement: (draft: Draft) => T): Promise<T>;
}

export function createMemoryStore(options: MemoryStoreOptions): ShardStore {
  const { postgres, network, process, random, appVersion, hook } = options;

  const send = <T>(what: string, act: () => T | Promise<T>) =>
    network.call(process, { to: "postgres", what, deadlineMs: QUERY_TIMEOUT_MS }, act);

  /** A statement of its own: nothing happened, or it may be run again. */
  async function read<T>(what: string, act: () => T): Promise<T> {
    try {
      return await send(what, act);
    } catch (error) {
      throw unavailable(error);
    }
  }

  /** @throws {LockstepError} COMMIT_UNKNOWN the outcome is unknown; any other error: nothing happened */
  async function inTransaction<T>(
    shard: number,
    work: (transaction: Transaction) => Promise<T>,
    at: (point: string) => void | Promise<void> = () => {},
  ): Promise<T> {
    const session = postgres.open();
    process.onKill(() => leave(session));
    let isSent = false;
    try {
      await at("pg.begun");
      const result = await work({ execute: (what, statement) => send(what, () => session.execute(shard, statement)) });
      await at("pg.before-commit");
      isSent = true;
      const answer = send("commit", () => session.commit());
      answer.catch(() => {}); // awaited below; a rejection during the hook must not count as unhandled
      await at("pg.commit-sent");
      await answer;
      await at("pg.committed");
      return result;
    } catch (error) {
      leave(session);
      const answered = isLockstepError(error);
      if (!isSent || (answered && hasCode(error, "STORE_UNAVAILABLE"))) throw unavailable(error);
      if (answered) throw error;
      throw new LockstepError("COMMIT_UNKNOWN", "COMMIT was sent to Postgres and its answer never came.", {
        cause: error,
      });
    }
  }

  /** The client's end of the connection is gone. A COMMIT that is under way may come first, or after. */
  function leave(session: Session): void {
    if (!session.ended) postgres.schedule.after(random.next() * NOTICED_MS_MAX, () => session.end());
  }

  return {
    readShard: (shard) => read("readShard", () => postgres.of(shard).row),
    readShards: () => read("readShards", () => [...postgres.shards.values()].map(({ row }) => row)),

    acquire: ({ shard, owner, token, expectedToken, transactionalId }) =>
      inTransaction(shard, (transaction) =>
        transaction.execute("acquire", (draft) => {
          const before = draft.row;
          if (expectedToken !== null && expectedToken !== before.token) return null;
          const epoch = before.epoch + 1;
          const transactionalIds = [...new Set([...before.transactionalIds, transactionalId])];
          draft.row = { ...before, epoch, token, owner, transactionalIds };
          return { before, ownership: { shard, token, epoch } };
        }),
      ),

    fixStart: (ownership, positions) =>
      inTransaction(ownership.shard, (transaction) =>
        transaction.execute("fixStart", (draft) => {
          guard(draft, ownership, 0);
          const fixed = draft.row.positions;
          assert(
            fixed === null || Object.entries(positions).every(([topic, offset]) => fixed[topic] === offset),
            `shard ${ownership.shard}: the start positions are fixed already, and are others`,
          );
          draft.row = { ...draft.row, positions };
        }),
      ),

    readRedo: (shard, after) => read("readRedo", () => postgres.of(shard).redo.filter(({ seq }) => seq > after)),

    readJournal: (shard, { after, upTo, limit }) =>
      read("readJournal", () =>
        postgres
          .of(shard)
          .journal.filter(({ seq }) => seq > after && seq <= upTo)
          .slice(0, limit)
          .map(({ writtenAtMs: _, ...row }) => row),
      ),

    commit: (request) =>
      inTransaction(
        request.ownership.shard,
        async (transaction) => {
          await transaction.execute("commitShard", (draft) =>
            commitShard(draft, request, { appVersion, nowMs: postgres.schedule.nowMs }),
          );
          await hook("pg.updated");
          if (request.rows.length > 0)
            await transaction.execute("insertRows", (draft) => insertRows(postgres, draft, request));
        },
        hook,
      ),

    confirm: (ownership, seq, confirmed) =>
      inTransaction(ownership.shard, (transaction) =>
        transaction.execute("confirm", (draft) => {
          guard(draft, ownership, seq);
          const { tables } = draft;
          draft.row = { ...draft.row, confirmed: Math.max(draft.row.confirmed, confirmed) };
          draft.effects.push(() => {
            tables.redo = tables.redo.filter((row) => row.seq > confirmed);
          });
        }),
      ),

    release: (ownership, seq) =>
      inTransaction(ownership.shard, (transaction) =>
        transaction.execute("release", (draft) => {
          guard(draft, ownership, seq);
          draft.row = { ...draft.row, owner: null };
        }),
      ),

    writeSnapshotPiece: (ownership, seq, piece, data) =>
      read("writeSnapshotPiece", () => writePiece(postgres, ownership, { seq, piece, data })),

    publishSnapshot: (ownership, { currentSeq, journalKeepMs, ...manifest }) =>
      inTransaction(ownership.shard, (transaction) =>
        transaction.execute("publishSnapshot", (draft) => {
          guard(draft, ownership, currentSeq);
          publishSnapshot(postgres, draft, { manifest, journalKeepMs });
        }),
      ),

    loadSnapshot: (shard) => read("loadSnapshot", () => loadSnapshot(postgres, postgres.of(shard))),
  };
}

function unavailable(error: unknown): LockstepError {
  if (isLockstepError(error)) return error;
  return new LockstepError("STORE_UNAVAILABLE", `The connection to Postgres failed: ${(error as Error).message}`, {
    cause: error,
  });
}

// -------------------------------------------------------------------------------------------------------------- snapshots

export function pieceKey(of: { shard: number; seq: number; token: string; piece: number }): string {
  return `${of.shard}/${of.seq}/${of.token}/${of.piece}`;
}

function writePiece(
  postgres: MemoryPostgres,
  { shard, token, epoch }: Ownership,
  { seq, piece, data }: { seq: number; piece: number; data: Buffer },
): void {
  const { row, snapshots } = postgres.of(shard);
  if (row.token !== token) throw new LockstepError("SHARD_LOST", `Shard ${shard} is held under another token.`);
  if (row.epoch !== epoch || row.seq < seq)
    throw new LockstepError(
      "STORE_WENT_BACK",
      `Shard ${shard} stands at seq ${row.seq}; a piece of ${seq} was written.`,
    );
  assert(
    !snapshots.some(({ manifest }) => manifest.seq === seq && manifest.token === token),
    `snapshot ${seq} of shard ${shard} is published already`,
  );
  postgres.pieces.set(pieceKey({ shard, seq, token, piece }), Buffer.from(data));
}

function publishSnapshot(
  postgres: MemoryPostgres,
  draft: Draft,
  { manifest, journalKeepMs }: { manifest: SnapshotManifest; journalKeepMs: number },
): void {
  const { tables, row } = draft;
  const { shard } = row;
  const { seq, token } = manifest;
  const found = piecesOf(postgres, shard, manifest);
  const bytes = found.reduce((sum, piece) => sum + (piece?.length ?? 0), 0);
  if (found.includes(undefined) || bytes !== manifest.bytes) throw broken(shard, seq, "not all of it was written");
  assert(row.snapshotSeq <= seq, `shard ${shard}: snapshot ${seq} is older than the published one`);
  assert(
    !tables.snapshots.some((one) => one.manifest.seq === seq && one.manifest.token === token),
    `snapshot ${seq} of shard ${shard} is published a second time`,
  );
  draft.row = { ...row, snapshotSeq: seq, snapshotToken: token };
  draft.effects.push(() => {
    const now = postgres.schedule.nowMs;
    tables.snapshots.push({ manifest, publishedAtMs: now });
    tables.snapshots.sort((a, b) => a.manifest.seq - b.manifest.seq);
    tables.snapshots.splice(0, Math.max(0, tables.snapshots.length - SNAPSHOTS_KEPT));
    const kept = new Set(tables.snapshots.map((one) => `${shard}/${one.manifest.seq}/${one.manifest.token}`));
    for (const key of postgres.pieces.keys()) {
      const [ofShard, ofSeq, ofToken] = key.split("/");
      if (ofShard === String(shard) && Number(ofSeq) <= seq && !kept.has(`${ofShard}/${ofSeq}/${ofToken}`))
        postgres.pieces.delete(key);
    }
    const covered = tables.snapshots[0]!.manifest.seq;
    const { confirmed } = tables.row;
    tables.journal = tables.journal.filter(
      (one) => one.seq > covered || one.seq >= confirmed || one.writtenAtMs > now - journalKeepMs,
    );
  });
}

function loadSnapshot(postgres: MemoryPostgres, { row, snapshots }: ShardTables) {
  if (row.snapshotToken === null) return null;
  const stored = snapshots.find(
    ({ manifest }) => manifest.seq === row.snapshotSeq && manifest.token === row.snapshotToken,
  );
  if (!stored) throw broken(row.shard, row.snapshotSeq, "its manifest is missing");
  const { manifest } = stored;
  const pieces = piecesOf(postgres, row.shard, manifest).map((piece, i) => {
    if (piece === undefined) throw broken(row.shard, manifest.seq, `piece ${i} of ${manifest.pieces} is missing`);
    return piece;
  });
  const bytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
  const digest = createHash("sha256");
  for (const piece of pieces) digest.update(piece);
  if (bytes !== manifest.bytes || digest.digest("hex") !== manifest.digest)
    throw broken(row.shard, manifest.seq, "its bytes are not those that were published");
  return { manifest, pieces };
}

function piecesOf(postgres: MemoryPostgres, shard: number, { seq, token, pieces }: SnapshotManifest) {
  return Array.from({ length: pieces }, (_, piece) => postgres.pieces.get(pieceKey({ shard, seq, token, piece })));
}

function broken(shard: number, seq: number, why: string): LockstepError {
  return new LockstepError("SNAPSHOT_BROKEN", `Snapshot ${seq} of shard ${shard}: ${why}.`, {
    details: { shard, seq },
  });
}
