/**
 * The journal: per commit, the runs of records and the ticks in the order taken, and the verdicts. It is the only place
 * where chance enters, so state = fold(journal, input).
 *
 * Written as JSON text, so that a person can query it in SQL. Form, version 1 (offsets are decimal strings):
 *   {"v":1,"topics":["a","b"],
 *    "entries":[[0,"5","8",3,2882400001], ["t",1700000000000,2]],   run: topic index, first, next, count, CRC32C; tick: stream time in ms, timers fired
 *    "verdicts":[["r",0,"6","ROW_REFUSED","22003 numeric field overflow"],
 *                ["i","window","BTC-USD/5m","close",1700000000000,"ROW_REFUSED","..."]]}   record: topic index, offset; timer: type, key, id, due
 *
 * Invariants
 *   J-run   a run is 1 or more consecutive data records of one input; `next` is the last record's offset + 1.
 *   J-order entries are in the order the fold took them; runs of one input ascend.
 */
export interface Run {
  readonly kind: "run";
  readonly topic: string;
  readonly first: bigint;
  readonly next: bigint;
  readonly count: number;
  /** CRC32C over the run's records: see `runChecksum`. */
  readonly crc: number;
}

export interface Tick {
  readonly kind: "tick";
  /** Stream time after the tick, ms since the Unix epoch. */
  readonly streamTimeMs: number;
  /** Timers that it fired: replay fires as many, whatever its own limits are. */
  readonly timers: number;
}

export type JournalEntry = Run | Tick;

/** A record or timer rejected for a reason outside the machine; replay does not step it again. */
export type Verdict =
  | {
      readonly kind: "record";
      readonly topic: string;
      readonly offset: bigint;
      readonly code: string;
      readonly message: string;
    }
  | {
      readonly kind: "timer";
      readonly actorType: string;
      readonly key: string;
      readonly timerId: string;
      readonly dueMs: number;
      readonly code: string;
      readonly message: string;
    };

export interface Journal {
  readonly entries: readonly JournalEntry[];
  readonly verdicts: readonly Verdict[];
}
