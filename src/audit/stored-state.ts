/**
 * What the system itself has written down of an instance: shard rows, journal, counters of the published snapshots. Read with
 * the audit's own SQL, everything as text, so that no driver's idea of a type comes between.
 *
 * Tables: src/storage/migrations/0001-lockstep.sql.
 */
import type { Database, DatabaseRow } from "./sources.ts";

/** Per input, the next offset to take. */
export type StoredPositions = Readonly<Record<string, bigint>>;

export interface StoredShard {
  readonly shard: number;
  readonly seq: number;
  readonly confirmed: number;
  readonly epoch: number;
  readonly token: string | null;
  /** null until the first owner has fixed the start. */
  readonly positions: StoredPositions | null;
  /** Says nothing while `seq` is 0. */
  readonly streamTimeMs: number;
  readonly code: string | null;
  /** 0: no snapshot. */
  readonly snapshotSeq: number;
  readonly snapshotToken: string | null;
}

export interface StoredCommit {
  readonly seq: number;
  readonly epoch: number;
  readonly token: string;
  readonly code: string;
  readonly streamTimeMs: number;
  readonly taken: number;
  /** Text: journal-format.ts reads it. */
  readonly body: string;
  readonly positions: StoredPositions;
}

/** A commit of 5,000 records in alternating runs is some 100 KB of text. */
const JOURNAL_PAGE_ROWS = 200;

export async function readShards(database: Database, instance: string): Promise<StoredShard[]> {
  const rows = await database.query(
    `select shard, seq::text as seq, confirmed::text as confirmed, epoch::text as epoch, token::text as token,
            positions::text as positions, stream_time_ms::text as stream_time_ms, code,
            snapshot_seq::text as snapshot_seq, snapshot_token::text as snapshot_token
     from lockstep.shard where instance = $1 order by shard`,
    [instance],
  );
  return rows.map((row) => ({
    shard: Number(row["shard"]),
    seq: Number(row["seq"]),
    confirmed: Number(row["confirmed"]),
    epoch: Number(row["epoch"]),
    token: textOrNull(row["token"]),
    positions: row["positions"] === null ? null : readPositions(row["positions"]),
    streamTimeMs: Number(row["stream_time_ms"]),
    code: textOrNull(row["code"]),
    snapshotSeq: Number(row["snapshot_seq"]),
    snapshotToken: textOrNull(row["snapshot_token"]),
  }));
}

/** The journal of a shard, ascending by seq. */
export async function* readJournal(
  database: Database,
  at: { instance: string; shard: number },
): AsyncGenerator<StoredCommit> {
  let after = 0;
  for (;;) {
    const rows = await database.query(
      `select seq::text as seq, epoch::text as epoch, token::text as token, code, stream_time_ms::text as stream_time_ms,
              taken, body::text as body, positions::text as positions
       from lockstep.journal where instance = $1 and shard = $2 and seq > $3 order by journal.seq limit $4`,
      [at.instance, at.shard, after, JOURNAL_PAGE_ROWS],
    );
    for (const row of rows) yield readCommit(row);
    if (rows.length < JOURNAL_PAGE_ROWS) return;
    after = Number(rows.at(-1)?.["seq"]);
  }
}

/** @returns null when the shard row points at a snapshot that is not there */
export async function readCounters(
  database: Database,
  at: { instance: string; shard: number; seq: number; token: string },
): Promise<Readonly<Record<string, number>> | null> {
  const rows = await database.query(
    `select counters::text as counters from lockstep.snapshot
     where instance = $1 and shard = $2 and seq = $3 and token = $4`,
    [at.instance, at.shard, at.seq, at.token],
  );
  const row = rows[0];
  return row === undefined ? null : (JSON.parse(String(row["counters"])) as Record<string, number>);
}

function readCommit(row: DatabaseRow): StoredCommit {
  return {
    seq: Number(row["seq"]),
    epoch: Number(row["epoch"]),
    token: String(row["token"]),
    code: String(row["code"]),
    streamTimeMs: Number(row["stream_time_ms"]),
    taken: Number(row["taken"]),
    body: String(row["body"]),
    positions: readPositions(row["positions"]),
  };
}

function readPositions(text: unknown): StoredPositions {
  const positions = JSON.parse(String(text)) as Record<string, string>;
  return Object.fromEntries(Object.entries(positions).map(([topic, offset]) => [topic, BigInt(offset)]));
}

function textOrNull(value: unknown): string | null {
  return value === null || value === undefined ? null : String(value);
}
