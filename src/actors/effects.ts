/**
 * Effects: the plain data that a step returns. The shell makes them durable, and only then do they take effect.
 */
import type { Verdict } from "./journal.ts";
import type { FoldNotes } from "./notes.ts";
import type { OutputRecord } from "./record.ts";

/** A row for a table of the app. Values are JSON values; exact decimals and 64-bit integers are strings. */
export interface RowEffect {
  readonly table: string;
  readonly row: Readonly<Record<string, unknown>>;
  /** Position, within the batch, of the record or timer that made the row: the unit that a verdict rejects. */
  readonly origin: number;
}

/** A published record, before the shell adds the source header. */
export interface PublishEffect extends OutputRecord {
  /** Id derived from the input: unique in a commit, the same in every replay. */
  readonly id: string;
  readonly origin: number;
}

/** What made an effect: a record (topic, offset) or a timer. */
export type Origin =
  | { readonly kind: "record"; readonly topic: string; readonly offset: bigint }
  | {
      readonly kind: "timer";
      readonly actorType: string;
      readonly key: string;
      readonly timerId: string;
      readonly dueMs: number;
    };

/** Everything that one commit makes durable. */
export interface CommitEffects {
  readonly publishes: readonly PublishEffect[];
  readonly rows: readonly RowEffect[];
  /** Exactly-once counters of the app (`count` routes) and of the runtime, increments of this commit. */
  readonly counts: Readonly<Record<string, number>>;
  /** Origins by number, for verdicts and error texts. */
  readonly origins: readonly Origin[];
  /**
   * Records and timers that the fold set aside for a limit that is configured, not the input's own: journaled as verdicts, so that a
   * replay under another limit does the same.
   */
  readonly verdicts: readonly Verdict[];
  /** Ids that routes were given in this commit: a unique conflict on one of them is no fault of the data. */
  readonly ids: ReadonlySet<string>;
  /** What was done to whom, for metrics and for the books; not part of the outcome. */
  readonly notes: FoldNotes;
  /** Hex digest over publishes and rows, compared when the commit is replayed. */
  readonly digest: string;
}
