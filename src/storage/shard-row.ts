/**
 * The shard row between SQL and the model: columns, the numbers in them, and the guard that every write but a commit begins with.
 */
import type { Ownership, ShardRow } from "../actors/ports.ts";
import type { Positions } from "../actors/record.ts";
import { assert } from "../errors.ts";
import type { Transaction } from "./transaction.ts";

/** What every read of a shard row selects; the token as text, positions as JSON. */
export const SHARD_COLUMNS =
  "shard, epoch, token::text, owner, seq, confirmed, positions, stream_time_ms, snapshot_seq, snapshot_token::text, transactional_ids, code";

/** A row as the driver gives it: int8 is text. */
export type ShardColumns = {
  shard: number;
  epoch: string;
  token: string | null;
  owner: string | null;
  seq: string;
  confirmed: string;
  positions: Record<string, string> | null;
  stream_time_ms: string;
  snapshot_seq: string;
  snapshot_token: string | null;
  transactional_ids: string[];
  code: string | null;
};

export function toShardRow(columns: ShardColumns): ShardRow {
  return {
    shard: columns.shard,
    epoch: toNumber(columns.epoch),
    token: columns.token,
    owner: columns.owner,
    seq: toNumber(columns.seq),
    confirmed: toNumber(columns.confirmed),
    positions: columns.positions === null ? null : toPositions(columns.positions),
    streamTimeMs: toNumber(columns.stream_time_ms),
    snapshotSeq: toNumber(columns.snapshot_seq),
    snapshotToken: columns.snapshot_token,
    transactionalIds: columns.transactional_ids,
    code: columns.code,
  };
}

/** Offsets are decimal text in JSON: they may be larger than a double holds. */
export function toPositions(stored: Record<string, string>): Positions {
  return Object.fromEntries(Object.entries(stored).map(([topic, offset]) => [topic, BigInt(offset)]));
}

export function positionsJson(positions: Positions): string {
  return JSON.stringify(
    Object.fromEntries(Object.entries(positions).map(([topic, offset]) => [topic, String(offset)])),
  );
}

/** @param text an int8 that is a count or a time: never beyond a double's integers */
export function toNumber(text: string): number {
  const value = Number(text);
  assert(Number.isSafeInteger(value), `${text} is no safe integer`);
  return value;
}

/**
 * Locks the shard row until the transaction ends, if it is this ownership's and stands at `seq`.
 * @throws {LockstepError} SHARD_LOST another token stands there; STORE_WENT_BACK token and epoch are the caller's, seq is not
 */
export async function guard(
  transaction: Transaction,
  instance: string,
  ownership: Ownership,
  seq: number,
): Promise<void> {
  const { shard, token, epoch } = ownership;
  await transaction.query("SELECT lockstep.guard($1, $2, $3, $4, $5)", [instance, shard, token, epoch, seq]);
}
