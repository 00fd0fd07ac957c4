/**
 * What an app tells the audit: which topics and tables its effects stand in, how one of them is read, and a fold of its own
 * that says which effects each record of the input must have had.
 *
 * The fold is written from the app's specification, not from its machines: what both agree on has been thought twice.
 */
import type { RecordVerdict, TimerVerdict } from "./journal-format.ts";
import type { Findings } from "./report.ts";
import type { DatabaseRow, PublishedRecord, SourceRecord } from "./sources.ts";

/** One effect, expected or found. Both sides of a stream build it by the same function, so that content can be compared as JSON text. */
export interface Effect {
  /** Unique in its stream. */
  readonly id: string;
  /** Flat, in a fixed order of fields. */
  readonly content: Readonly<Record<string, string | number | null>>;
}

/** An effect that was found. */
export interface FoundEffect extends Effect {
  /** What the expected effect's `labels` must contain, such as an error code that has several right values. */
  readonly label?: string;
  /** A second identity, such as the order that an event tells of: no two effects of the stream may share it. */
  readonly twin?: string;
}

/** An effect that the fold expects. */
export interface ExpectedEffect extends Effect {
  /** Effects of one key must stand in the order of the input; null: only the shard's order counts. */
  readonly key: string | null;
  readonly labels?: readonly string[];
}

/** A topic that commits, or the relay, publish to. */
export interface TopicRules {
  readonly kind: "topic";
  readonly name: string;
  /** The figure of the report to which the records found are added. */
  readonly figure: string;
  /** Whether records carry `lockstep-source`: true for all that a commit publishes. */
  readonly sourced: boolean;
  /** @returns null when it is no effect of the app at all: a foreign record */
  readonly effectOf: (record: PublishedRecord) => FoundEffect | null;
}

/** A table of the app, read in pages by its key. */
export interface TableRules {
  readonly kind: "table";
  /** `schema.table`. */
  readonly name: string;
  readonly figure: string;
  /** SQL expressions by name, each of which gives text. They are what `effectOf` gets. */
  readonly columns: Readonly<Record<string, string>>;
  /** The primary key's column, a uuid. */
  readonly keyColumn: string;
  readonly effectOf: (row: DatabaseRow) => FoundEffect | null;
}

export type StreamRules = TopicRules | TableRules;

/** Takes the expected effects of one shard, in the order in which they must have been made. */
export interface EffectSink {
  /** @param stream name of a topic or table of the rules */
  expect(stream: string, effect: ExpectedEffect): void;
}

/** The fold of one shard. Called in the order of the journal. */
export interface ShardFold {
  /** @param verdict not null: the record was set aside for this reason, and no machine saw it */
  record(record: SourceRecord, verdict: RecordVerdict | null): void;
  /** @param verdicts timers of this commit that were set aside instead of fired */
  tick(tick: { streamTimeMs: number; timers: number; verdicts: readonly TimerVerdict[] }): void;
  /** Stream time so far, ms; null before the first accepted record. */
  streamTimeMs(): number | null;
  /** Exactly-once counters that a snapshot taken now must show; a counter that is not named is not compared. */
  counters(): Readonly<Record<string, number>>;
  /** Figures of this shard; those of one name are summed up. */
  figures(): Readonly<Record<string, number>>;
}

export interface AppRules {
  readonly app: string;
  /** Input topics, in order of definition. */
  readonly inputs: readonly string[];
  readonly streams: readonly StreamRules[];
  readonly start: (shard: number, sink: EffectSink) => ShardFold;
  /**
   * Last checks, over the sums. Figures of streams count what was FOUND there, others come from the folds.
   * @returns the figures of the report, in the order in which they are shown; `lost`, `doubled` and `outOfOrder` are added
   */
  readonly conclude: (summary: {
    /** Besides: `inputRecords`, all data records of the inputs, and `taken`, those that commits took. */
    readonly figures: Readonly<Record<string, number>>;
    /** What the generator says it has sent, as parsed JSON; undefined when there is none. */
    readonly manifest: unknown;
    readonly findings: Findings;
  }) => Readonly<Record<string, number>>;
}
