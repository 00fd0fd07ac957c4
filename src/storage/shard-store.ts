/**
 * The shard rows of one instance, their journal and their redo: the ShardStore port on Postgres.
 *
 * Invariants
 *   I1  A shard's seq rises by one with every commit.
 *   I3  A redo row stands until its seq is confirmed; redo rows are exactly c+1..P.
 *   I4  A write happens only under the current token and epoch. The WHERE is in SQL and raises there, so that nothing later in
 *       the transaction can take effect; it is never a check on this side.
 *   I12 Positions and stream time never fall. Checked by the same statement.
 *
 * Tables and functions: migrations/0001-lockstep.sql. Meaning of failures: pg-errors.ts. Outcome of a transaction: transaction.ts.
 */
import { decodeJournal, encodeJournal } from "../actors/journal-codec.ts";
import type { JournalRow, ShardStore } from "../actors/ports.ts";
import { assert, hasCode, LockstepError } from "../errors.ts";
import { insertsOf } from "./app-rows.ts";
import { type Pool, query } from "./pool.ts";
import { guard, positionsJson, SHARD_COLUMNS, type ShardColumns, toNumber, toShardRow } from "./shard-row.ts";
import { createSnapshotStore } from "./snapshot-store.ts";
import { inTransaction, together } from "./transaction.ts";

export interface ShardStoreOptions {
  readonly pool: Pool;
  /** Id of the instance, a UUID. */
  readonly instance: string;
  /** Version of the app, kept with the code in the shard row. */
  readonly appVersion: number;
  /** Fail-points of a commit: pg.begun, pg.updated, pg.before-commit, pg.commit-sent, pg.committed. */
  readonly hook?: (point: string, shard: number) => void | Promise<void>;
}

export function createShardStore({ pool, instance, appVersion, hook }: ShardStoreOptions): ShardStore {
  return {
    async readShard(shard) {
      const { rows } = await query<ShardColumns>(
        pool,
        `SELECT ${SHARD_COLUMNS} FROM lockstep.shard WHERE instance = $1 AND shard = $2`,
        [instance, shard],
      );
      if (!rows[0]) throw noShard(instance, shard);
      return toShardRow(rows[0]);
    },

    async readShards() {
      const { rows } = await query<ShardColumns>(
        pool,
        `SELECT ${SHARD_COLUMNS} FROM lockstep.shard WHERE instance = $1 ORDER BY shard`,
        [instance],
      );
      return rows.map(toShardRow);
    },

    acquire: ({ shard, owner, token, expectedToken, transactionalId }) =>
      inTransaction(pool, async (transaction) => {
        // Waits for a commit of the old owner that is under way, and sees what it wrote.
        const { rows } = await transaction.query<ShardColumns & { expected: boolean }>(
          `SELECT ${SHARD_COLUMNS}, $3::uuid IS NULL OR token IS NOT DISTINCT FROM $3::uuid AS expected
           FROM lockstep.shard WHERE instance = $1 AND shard = $2 FOR NO KEY UPDATE`,
          [instance, shard, expectedToken],
        );
        if (!rows[0]) throw noShard(instance, shard);
        if (!rows[0].expected) return null;
        const updated = await transaction.query<{ epoch: string }>(
          `UPDATE lockstep.shard SET epoch = epoch + 1, token = $3, owner = $4, updated_at = now(),
             transactional_ids = CASE WHEN $5 = ANY (transactional_ids) THEN transactional_ids ELSE transactional_ids || $5::text END
           WHERE instance = $1 AND shard = $2 RETURNING epoch`,
          [instance, shard, token, owner, transactionalId],
        );
        return { before: toShardRow(rows[0]), ownership: { shard, token, epoch: toNumber(updated.rows[0]!.epoch) } };
      }),

    fixStart: (ownership, positions) =>
      inTransaction(pool, async (transaction) => {
        await guard(transaction, instance, ownership, 0);
        const { rowCount } = await transaction.query(
          `UPDATE lockstep.shard SET positions = $3, updated_at = now()
           WHERE instance = $1 AND shard = $2 AND (positions IS NULL OR positions = $3::jsonb)`,
          [instance, ownership.shard, positionsJson(positions)],
        );
        assert(rowCount === 1, `shard ${ownership.shard}: the start positions are fixed already, and are others`);
      }),

    async readRedo(shard, after) {
      const { rows } = await query<{ seq: string; payload: Buffer }>(
        pool,
        "SELECT seq, payload FROM lockstep.redo WHERE instance = $1 AND shard = $2 AND seq > $3 ORDER BY seq",
        [instance, shard, after],
      );
      return rows.map(({ seq, payload }) => ({ seq: toNumber(seq), payload }));
    },

    async readJournal(shard, { after, upTo, limit }) {
      const { rows } = await query<JournalColumns>(
        pool,
        `SELECT seq, token::text, code, stream_time_ms, digest, body::text FROM lockstep.journal
         WHERE instance = $1 AND shard = $2 AND seq > $3 AND seq <= $4 ORDER BY seq LIMIT $5`,
        [instance, shard, after, upTo, limit],
      );
      return rows.map((row) => toJournalRow(shard, row));
    },

    async commit(request) {
      const { shard, token, epoch } = request.ownership;
      const inserts = insertsOf(request.rows);
      const body = encodeJournal(request.journal);
      const positions = positionsJson(request.positions);
      const at = (point: string) => hook?.(point, shard);
      await inTransaction(
        pool,
        async (transaction) => {
          const moved = transaction.query(
            "SELECT lockstep.commit_shard($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
            [
              instance,
              shard,
              token,
              epoch,
              request.seq,
              positions,
              request.streamTimeMs,
              request.confirmed,
              request.code,
              appVersion,
              body,
              request.taken,
              request.digest,
              request.redo,
            ],
          );
          const inserted = inserts.map(({ text, rows }) => transaction.query(text, [rows], "app"));
          await moved;
          await transaction.at("pg.updated");
          await together(...inserted);
        },
        { at },
      ).catch((error: unknown) => {
        throw keyOfTheApp(error, request.ids);
      });
    },

    confirm: (ownership, seq, confirmed) =>
      inTransaction(pool, async (transaction) => {
        await together(
          guard(transaction, instance, ownership, seq),
          transaction.query(
            `UPDATE lockstep.shard SET confirmed = greatest(confirmed, $3), updated_at = now() WHERE instance = $1 AND shard = $2`,
            [instance, ownership.shard, confirmed],
          ),
          transaction.query("DELETE FROM lockstep.redo WHERE instance = $1 AND shard = $2 AND seq <= $3", [
            instance,
            ownership.shard,
            confirmed,
          ]),
        );
      }),

    release: (ownership, seq) =>
      inTransaction(pool, async (transaction) => {
        await together(
          guard(transaction, instance, ownership, seq),
          transaction.query(
            "UPDATE lockstep.shard SET owner = NULL, updated_at = now() WHERE instance = $1 AND shard = $2",
            [instance, ownership.shard],
          ),
        );
      }),

    ...createSnapshotStore({ pool, instance }),
  };
}

type JournalColumns = {
  seq: string;
  token: string;
  code: string;
  stream_time_ms: string;
  digest: string;
  body: string;
};

function toJournalRow(shard: number, row: JournalColumns): JournalRow {
  const seq = toNumber(row.seq);
  try {
    const journal = decodeJournal(row.body);
    return {
      seq,
      token: row.token,
      code: row.code,
      journal,
      digest: row.digest,
      streamTimeMs: toNumber(row.stream_time_ms),
    };
  } catch (cause) {
    throw new LockstepError(
      "JOURNAL_BROKEN",
      `Shard ${shard}: the journal of commit ${seq} cannot be read: ${(cause as Error).message}`,
      {
        details: { shard, seq },
        cause,
      },
    );
  }
}

const UUID = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g;

/**
 * A unique conflict is a bug of the protocol only when the key that is there already (`Key (column)=(value) already exists.`) holds an id
 * that was made for this commit; any other key is the app's own, and its value came with the data. A key that is not told counts as ours.
 */
function keyOfTheApp(error: unknown, ids: ReadonlySet<string>): unknown {
  if (!hasCode(error, "ID_COLLISION")) return error;
  const { message, details } = error as LockstepError;
  const key = details["detail"];
  if (typeof key !== "string" || (key.match(UUID) ?? []).some((id) => ids.has(id))) return error;
  return new LockstepError("ROW_REFUSED", message, { details: { ...details }, cause: error });
}

function noShard(instance: string, shard: number): LockstepError {
  return new LockstepError(
    "NOT_MIGRATED",
    `Instance ${instance} has no shard ${shard}: it was made for fewer partitions, or in another database. Run \`lockstep migrate\`.`,
    { details: { instance, shard } },
  );
}
