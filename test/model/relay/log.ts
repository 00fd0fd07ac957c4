/**
 * The log that a relay reads, and what the relay's own code makes of it: `createCutter` cuts, `decideStart` says where to begin,
 * `formatPosition` and `parsePosition` are what goes through Kafka.
 *
 * Four database transactions: one row; two rows, so that a cut can lie inside; none of ours; one row. Their LSNs are numbered: E after the
 * n-th is `endLsn(n)`, and E before the first, where the slot began, is `endLsn(0)`. A position is kept as a small number.
 */
import { type Cutter, createCutter } from "../../../src/relay/cutter.ts";
import { formatPosition, type LogIdentity, parsePosition, type RelayPosition } from "../../../src/relay/position.ts";
import { decideStart, type Found } from "../../../src/relay/start.ts";
import type { StreamEvent } from "../../../src/storage/replication-stream.ts";

/** Rows of each database transaction, numbered from 1 in the order of the log. */
const TRANSACTIONS: readonly (readonly number[])[] = [[1], [2, 3], [], [4]];
export const TRANSACTIONS_MAX = TRANSACTIONS.length;
export const ROWS = 4;
/** Events of the whole log. */
export const EVENTS_MAX = 11;
const RECORDS_MAX = 2;
const TABLE = "app.outbox";
const LOG: LogIdentity = { systemIdentifier: "7000000000000000001", timeline: 1, slot: "lockstep_relay" };
const GROUP = "group";

const endLsn = (n: number): bigint => BigInt(n * 100 + 50);
const commitLsn = (n: number): bigint => BigInt(n * 100 + 20);

// --------------------------------------------------------------------------------------------------------------- positions

/** Whole transactions, and of the one under way its number and rows; 0 of both: none is. */
const encode = (whole: number, underWay: number, rows: number): number => (whole * 5 + underWay) * 3 + rows;
export const POSITIONS_MAX = encode(TRANSACTIONS_MAX, TRANSACTIONS_MAX, 2);
export const START = encode(0, 0, 0);
export const END = encode(TRANSACTIONS_MAX, 0, 0);

export const wholeOf = (position: number): number => Math.floor(position / 15);
const underWayOf = (position: number): number => Math.floor(position / 3) % 5;

/** Rows that are published when this position is true. */
export function rowsBefore(position: number): number {
  return TRANSACTIONS.slice(0, wholeOf(position)).flat().length + (position % 3);
}

function toNumber({ lsn, underWay }: RelayPosition): number {
  const whole = [0, 1, 2, 3, 4].find((n) => endLsn(n) === lsn);
  if (whole === undefined) throw new Error(`${lsn} is the end of no transaction`);
  if (underWay === null) return encode(whole, 0, 0);
  return encode(whole, [1, 2, 3, 4].find((n) => commitLsn(n) === underWay.commitLsn)!, underWay.rows);
}

function toPosition(position: number): RelayPosition {
  const underWay = underWayOf(position);
  return {
    lsn: endLsn(wholeOf(position)),
    underWay: underWay === 0 ? null : { commitLsn: commitLsn(underWay), rows: position % 3 },
  };
}

/** A mutant: a position that does not say what is under way. */
export function withoutUnderWay(position: number): number {
  return encode(wholeOf(position), 0, 0);
}

// ---------------------------------------------------------------------------------------------------------------- starting

/** @returns the position to begin at, or why the relay halts */
export type Start = { readonly position: number; readonly first: boolean } | string;
const starts = new Map<number, Start>();

/**
 * @param read.committed  position in Kafka plus one, 0: there is none
 * @param read.flushed    database transactions in the log
 * @param read.confirmed  transactions that the slot was told of
 */
export function startAt(read: { committed: number; flushed: number; confirmed: number; started: boolean }): Start {
  const { committed, flushed, confirmed, started } = read;
  const key = ((committed * 5 + flushed) * 5 + confirmed) * 2 + (started ? 1 : 0);
  let start = starts.get(key);
  if (start === undefined) {
    start = startNow(read);
    starts.set(key, start);
  }
  return start;
}

function startNow(read: Parameters<typeof startAt>[0]): Start {
  const stored = read.committed === 0 ? null : formatPosition({ position: toPosition(read.committed - 1), log: LOG });
  const parsed = stored && parsePosition(stored.offset, stored.metadata);
  if (parsed && toNumber(parsed.position) !== read.committed - 1) throw new Error("a position does not survive Kafka");
  const found: Found = {
    app: "app",
    groupId: GROUP,
    committed: stored,
    row: {
      table: TABLE,
      groupId: GROUP,
      systemIdentifier: LOG.systemIdentifier,
      publication: "lockstep_relay",
      slot: LOG.slot,
      slotLsn: endLsn(0),
      started: read.started,
      resyncReason: null,
    },
    server: { ...LOG, flushed: endLsn(read.flushed) },
    slot: {
      confirmed: endLsn(read.confirmed),
      restart: endLsn(read.confirmed),
      walStatus: "reserved",
      activePid: null,
      plugin: "pgoutput",
      safeBytes: null,
    },
    published: true,
    slotKeepMb: -1,
  };
  try {
    const { position, first } = decideStart(found);
    return { position: toNumber(position), first };
  } catch (error) {
    return (error as Error).message;
  }
}

// ---------------------------------------------------------------------------------------------------------------- the cuts

/** What a stream sends that begins behind `whole` transactions, and of which transaction each event is. */
function eventsAfter(whole: number): { event: StreamEvent; of: number }[] {
  const events: { event: StreamEvent; of: number }[] = [];
  for (let n = whole + 1; n <= TRANSACTIONS_MAX; n += 1) {
    const rows = TRANSACTIONS[n - 1]!;
    const push = (event: StreamEvent) => events.push({ event, of: n });
    if (rows.length === 0) {
      push({ kind: "reached", endLsn: endLsn(n), asked: false });
      continue;
    }
    push({ kind: "begin", commitLsn: commitLsn(n), committedMs: n });
    for (const row of rows)
      push({ kind: "insert", table: TABLE, values: new Map([["row", Buffer.from(String(row))]]), bytes: 1 });
    push({ kind: "commit", commitLsn: commitLsn(n), endLsn: endLsn(n) });
  }
  return events;
}

/** How far a relay has read: it began at a position, its stream behind `skipped` transactions; it has taken and cut so many events. */
export interface Progress {
  readonly position: number;
  readonly skipped: number;
  readonly taken: number;
  readonly cut: number;
}

export interface Look {
  /** Transaction that the next event is of; 0: the log has no more. */
  readonly nextOf: number;
  /** What the cutter makes of the log as contradicting its position, "" if nothing. */
  readonly contradiction: string;
  readonly full: boolean;
  readonly settled: boolean;
  /** Rows that a cut would publish now, first and last; 0, 0: none. */
  readonly firstRow: number;
  readonly lastRow: number;
  /** Position that it would carry. */
  readonly cutPosition: number;
}
const looks = new Map<number, Look>();

export function lookAt({ position, skipped, taken, cut }: Progress): Look {
  const key = ((position * 5 + skipped) * 16 + taken) * 16 + cut;
  let look = looks.get(key);
  if (look === undefined) {
    look = lookNow({ position, skipped, taken, cut });
    looks.set(key, look);
  }
  return look;
}

function lookNow({ position, skipped, taken, cut }: Progress): Look {
  const events = eventsAfter(skipped);
  const cutter = newCutter(position);
  let contradiction = "";
  try {
    for (const [n, { event }] of events.slice(0, taken).entries()) {
      if (n === cut) cutter.cut();
      cutter.add(event);
    }
    if (cut === taken) cutter.cut();
  } catch (error) {
    contradiction = (error as Error).message;
  }
  const { full, settled } = cutter;
  const { records, position: reached } = cutter.cut();
  const rows = records.map(({ value }) => Number(value));
  const isRun = rows.every((row, n) => row === rows[0]! + n);
  if (!isRun) throw new Error(`a cut has the rows ${rows.join(", ")}`);
  return {
    nextOf: events[taken]?.of ?? 0,
    contradiction,
    full,
    settled,
    firstRow: rows[0] ?? 0,
    lastRow: rows.at(-1) ?? 0,
    cutPosition: toNumber(reached),
  };
}

function newCutter(position: number): Cutter {
  return createCutter({
    position: toPosition(position),
    table: TABLE,
    recordsMax: RECORDS_MAX,
    bytesMax: 1_000_000,
    toRecord: (values) => ({
      record: { topic: "out", partition: 0, key: null, value: values.get("row")!, headers: [], timestampMs: 0n },
      dead: false,
    }),
  });
}
