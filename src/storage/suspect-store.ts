/**
 * Attempts at steps that did not come to their end: the SuspectStore port on Postgres.
 *
 * Only what an owner writes is guarded. What main counts for a thread that is dead names a record, not an ownership, and is true
 * whoever has the shard by then.
 *
 * Tables: migrations/0003-suspects.sql.
 */

import type { Suspect, SuspectStore } from "../actors/ports.ts";
import type { ErrorCode } from "../errors.ts";
import { type Pool, query } from "./pool.ts";
import { guard } from "./shard-row.ts";
import { inTransaction } from "./transaction.ts";

const ADD = `INSERT INTO lockstep.suspect AS s (instance, shard, target, replay, attempts, code) VALUES ($1, $2, $3, $4, $5, $6)
  ON CONFLICT (instance, shard, target, replay)
  DO UPDATE SET attempts = s.attempts + excluded.attempts, code = excluded.code, last_at = clock_timestamp()`;

export function createSuspectStore({ pool, instance }: { pool: Pool; instance: string }): SuspectStore {
  return {
    async read(shard) {
      const { rows } = await query<Suspect & Record<string, unknown>>(
        pool,
        "SELECT target, replay, attempts, code FROM lockstep.suspect WHERE instance = $1 AND shard = $2 ORDER BY target",
        [instance, shard],
      );
      return rows.map(({ target, replay, attempts, code }) => ({ target, replay, attempts, code: code as ErrorCode }));
    },

    async count({ shard, target, replay, code, add }) {
      await query(pool, ADD, [instance, shard, target, replay, add, code]);
    },

    begin: (ownership, { seq, target }) =>
      inTransaction(pool, async (transaction) => {
        await guard(transaction, instance, ownership, seq);
        await transaction.query(ADD, [instance, ownership.shard, target, false, 1, "STEP_CRASHED"]);
      }),

    survived: (ownership, { seq, target }) =>
      inTransaction(pool, async (transaction) => {
        await guard(transaction, instance, ownership, seq);
        await transaction.query(
          "DELETE FROM lockstep.suspect WHERE instance = $1 AND shard = $2 AND target = $3 AND NOT replay",
          [instance, ownership.shard, target],
        );
      }),

    async forget(shard, target) {
      await query(
        pool,
        "DELETE FROM lockstep.suspect WHERE instance = $1 AND shard = $2 AND target = $3 AND NOT replay",
        [instance, shard, target],
      );
    },

    async forgetReplay(shard) {
      await query(pool, "DELETE FROM lockstep.suspect WHERE instance = $1 AND shard = $2 AND replay", [
        instance,
        shard,
      ]);
    },

    async countUncleanEnd(shard, seq) {
      const { rows } = await query<{ ends: number }>(
        pool,
        `INSERT INTO lockstep.unclean_end AS u (instance, shard, seq, ends) VALUES ($1, $2, $3, 1)
         ON CONFLICT (instance, shard) DO UPDATE
         SET ends = CASE WHEN u.seq = excluded.seq THEN u.ends + 1 ELSE 1 END, seq = excluded.seq
         RETURNING ends`,
        [instance, shard, seq],
      );
      return rows[0]!.ends;
    },
  };
}
