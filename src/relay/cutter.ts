/**
 * Cuts the stream of the log into Kafka transactions, and knows for each cut the position that is true once it is published. Pure.
 *
 * Invariants
 *   RI3  Records come out in the order of the log. Where a cut lies changes nothing.
 *   RI4  Positions never fall; while a database transaction is partly published, every position names it and how far it is.
 */
import type { OutputRecord } from "../actors/record.ts";
import { assert, LockstepError } from "../errors.ts";
import { formatLsn } from "../storage/lsn.ts";
import type { LoggedValues } from "../storage/pgoutput.ts";
import type { StreamEvent } from "../storage/replication-stream.ts";
import type { RelayPosition } from "./position.ts";

export interface OutboxRecord {
  readonly record: OutputRecord;
  /** It went to the dead letters instead of its topic. */
  readonly dead: boolean;
}

export interface Cut {
  readonly records: readonly OutputRecord[];
  readonly deadLetters: number;
  readonly position: RelayPosition;
  /** Of the database transactions that end in this cut and had rows: when each was committed, ms since the Unix epoch. */
  readonly committedMs: readonly number[];
}

export interface CutterOptions {
  readonly position: RelayPosition;
  /** `schema.table`. A row of any other halts: the publication is ours alone, so it may be a row of ours under another name (a partition, a child). */
  readonly table: string;
  readonly recordsMax: number;
  readonly bytesMax: number;
  readonly toRecord: (values: LoggedValues, committedMs: number) => OutboxRecord;
}

export interface Cutter {
  /** @throws {LockstepError} RELAY_POSITION_CONTRADICTS the log is not the one that the position was made from; RELAY_SET_UP_CHANGED */
  add(event: StreamEvent): void;
  /** A cut is due: its limits are reached. */
  readonly full: boolean;
  /** Nothing of a database transaction is outstanding. */
  readonly settled: boolean;
  /** Rows that the next cut would publish. */
  readonly rows: number;
  /** When the oldest of them was committed; null: there is none. */
  readonly oldestMs: number | null;
  /** Where the next cut would stand. */
  readonly position: RelayPosition;
  cut(): Cut;
}

interface Open {
  readonly commitLsn: bigint;
  readonly committedMs: number;
  /** Rows seen, those that were published already included. */
  rows: number;
  /** The first so many are published already; all of them when it was published whole. */
  readonly skip: number;
}

export function createCutter(options: CutterOptions): Cutter {
  const { table, recordsMax, bytesMax, toRecord } = options;
  let whole = options.position.lsn;
  /** What a predecessor left under way, until it has come again. */
  let resume = options.position.underWay;
  let open: Open | null = null;
  let records: OutputRecord[] = [];
  let bytes = 0;
  let deadLetters = 0;
  let committedMs: number[] = [];
  let oldestMs: number | null = null;

  function begin(commitLsn: bigint, committed: number): Open {
    const resumed = resume !== null && resume.commitLsn === commitLsn;
    // One that begins to commit below E was published whole; the server does not send such a one.
    const skip = commitLsn < whole ? Number.POSITIVE_INFINITY : resumed ? resume!.rows : 0;
    return { commitLsn, committedMs: committed, rows: 0, skip };
  }

  function insert(transaction: Open, values: LoggedValues, size: number): void {
    if (resume !== null && resume.commitLsn !== transaction.commitLsn && transaction.skip === 0)
      throw contradiction(resume, `the next one with rows is ${formatLsn(transaction.commitLsn)}`);
    transaction.rows += 1;
    if (transaction.rows <= transaction.skip) return;
    const made = toRecord(values, transaction.committedMs);
    records.push(made.record);
    bytes += size;
    if (made.dead) deadLetters += 1;
    oldestMs ??= transaction.committedMs;
  }

  function commit(transaction: Open, endLsn: bigint): void {
    if (resume !== null && resume.commitLsn === transaction.commitLsn) {
      if (transaction.rows < resume.rows) throw contradiction(resume, `it came again with ${transaction.rows} rows`);
      resume = null;
    }
    if (transaction.rows > transaction.skip) committedMs.push(transaction.committedMs);
    passes(endLsn);
    if (endLsn > whole) whole = endLsn;
    open = null;
  }

  /** E must not pass what is under way: the log would then say that it is published whole. */
  function passes(endLsn: bigint): void {
    if (resume !== null && endLsn > resume.commitLsn)
      throw contradiction(resume, `the log went on to ${formatLsn(endLsn)} without it`);
  }

  function current(): RelayPosition {
    // Until the rows that a predecessor published have come again, they are what is under way.
    if (resume !== null && !(open?.commitLsn === resume.commitLsn && open.rows > resume.rows))
      return { lsn: whole, underWay: resume };
    if (open === null || open.rows === 0 || open.skip === Number.POSITIVE_INFINITY)
      return { lsn: whole, underWay: null };
    return { lsn: whole, underWay: { commitLsn: open.commitLsn, rows: open.rows } };
  }

  return {
    add(event) {
      switch (event.kind) {
        case "begin":
          assert(open === null, "a database transaction began inside another");
          open = begin(event.commitLsn, event.committedMs);
          return;
        case "insert":
          assert(open !== null, "a row came outside a database transaction");
          if (event.table !== table) throw foreign(event.table, table);
          insert(open, event.values, event.bytes);
          return;
        case "commit":
          assert(open?.commitLsn === event.commitLsn, "a database transaction was committed that had not begun");
          commit(open, event.endLsn);
          return;
        case "reached":
          if (open !== null) return;
          passes(event.endLsn);
          if (event.endLsn > whole) whole = event.endLsn;
      }
    },
    get full() {
      return records.length >= recordsMax || bytes >= bytesMax;
    },
    get settled() {
      return open === null;
    },
    get rows() {
      return records.length;
    },
    get oldestMs() {
      return oldestMs;
    },
    get position() {
      return current();
    },
    cut() {
      const cut = { records, deadLetters, position: current(), committedMs };
      records = [];
      bytes = 0;
      deadLetters = 0;
      committedMs = [];
      oldestMs = null;
      return cut;
    },
  };
}

function foreign(found: string, table: string): LockstepError {
  return new LockstepError(
    "RELAY_SET_UP_CHANGED",
    `The publication sends rows of ${found}, and the relay's table is ${table}: a table that was added, or a partition or child under its own name. \`lockstep relay resync\` makes the publication anew, publishes what the topic lacks and goes on from there.`,
  );
}

function contradiction(resume: NonNullable<RelayPosition["underWay"]>, what: string): LockstepError {
  return new LockstepError(
    "RELAY_POSITION_CONTRADICTS",
    `${resume.rows} rows of the database transaction ${formatLsn(resume.commitLsn)} are published, but ${what}. \`lockstep relay resync\` publishes what the topic lacks and goes on from there.`,
  );
}
