/** Per shard, the version of the app that wrote its published snapshot: who is older must not be given the shard. */
import { type Pool, query } from "./pool.ts";

/** @throws {LockstepError} STORE_UNAVAILABLE */
export async function readSnapshotVersions(pool: Pool, instance: string): Promise<Map<number, number>> {
  const { rows } = await query<{ shard: number; app_version: number }>(
    pool,
    `SELECT s.shard, p.app_version FROM lockstep.shard s
     JOIN lockstep.snapshot p ON p.instance = s.instance AND p.shard = s.shard AND p.seq = s.snapshot_seq AND p.token = s.snapshot_token
     WHERE s.instance = $1`,
    [instance],
  );
  return new Map(rows.map((row) => [row.shard, row.app_version]));
}
