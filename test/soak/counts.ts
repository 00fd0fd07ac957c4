/** What the instances of a soak say of themselves, counted. */
export interface Counts {
  /** Shards taken over from an owner that had not released them. */
  readonly takeovers: number;
  readonly relayTakeovers: number;
  /** Commits that an owner published for its predecessor. */
  readonly redoPublished: number;
  /** Owners that Kafka fenced, or that found another token in their row. */
  readonly fenced: number;
  /** Shards acquired again because the outcome of a step was unknown. */
  readonly restored: number;
  /** Replays of the journal from a snapshot. */
  readonly replays: number;
  /** Verdicts; trading has no cause for one but Postgres' or an owner's. */
  readonly verdicts: number;
  /** Threads of a process that ended while it went on. */
  readonly workersReplaced: number;
  /** Processes that could not reach a server when they started, and were started again. */
  readonly refusedStarts: number;
}

export type Counting = { -readonly [K in keyof Counts]: number };

export function noCounts(): Counts {
  return {
    takeovers: 0,
    relayTakeovers: 0,
    redoPublished: 0,
    fenced: 0,
    restored: 0,
    replays: 0,
    verdicts: 0,
    workersReplaced: 0,
    refusedStarts: 0,
  };
}
