/**
 * What a relay says of itself: plain data, so that it can cross a thread. Metrics are made of it (docs/metrics.md), and `lockstep relay status`
 * shows the same figures from outside.
 */

/**
 * Which follows which: relay.ts. A relay that cannot work (RI11) is `starting`, with the reason.
 */
export const RELAY_STATES = ["starting", "standby", "running", "halted", "stopped"] as const;
export type RelayState = (typeof RELAY_STATES)[number];

export interface RelayLag {
  /** Bytes of log that the server keeps for the slot. */
  readonly slotBytes: number;
  /** From E to the end of the log, bytes. */
  readonly positionBytes: number | null;
  readonly walStatus: string;
  /** Log that may still be written before the slot is lost; null: no limit. */
  readonly safeBytes: number | null;
}

/** A report; counts are since the one before, so that a thread that dies takes away only what it had not reported. */
export interface RelayReport {
  readonly state: RelayState;
  /** Why it is halted, or what it tries again after. */
  readonly reason: { readonly code: string; readonly message: string } | null;
  /** LSN as Postgres writes it; null until it is known. */
  readonly position: string | null;
  readonly slot: string | null;
  /** null while this relay does not see them: standing by. */
  readonly lag: RelayLag | null;
  /** Rows read from the log and not yet published: cut, taken, or in the queue of the stream, which is bounded. */
  readonly pending: number;
  /** How long the oldest unpublished row known of has waited, ms; while nothing can be read, how long that has been so. */
  readonly oldestAgeMs: number;
  /** Wall time of the last Kafka transaction with rows; null before the first. */
  readonly lastCommitMs: number | null;
  readonly counts: {
    readonly records: number;
    readonly deadLetters: number;
    readonly committed: number;
    readonly aborted: number;
    readonly restarts: number;
    readonly pruned: number;
  };
  /** Of each database transaction published whole: from its commit to Kafka's, ms. */
  readonly latenciesMs: readonly number[];
}

type Counts = { -readonly [K in keyof RelayReport["counts"]]: number };

/** More in one report are left out: the figures are for a histogram. */
const LATENCIES_MAX = 5_000;

export class RelayObserver {
  state: RelayState = "starting";
  reason: RelayReport["reason"] = null;
  position: string | null = null;
  slot: string | null = null;
  lag: RelayLag | null = null;
  pending = 0;
  /** Wall ms since when the oldest unpublished row waits; null: nothing is known to wait. */
  waitingSinceMs: number | null = null;
  lastCommitMs: number | null = null;
  /** Publication and table were not as set up when last measured. */
  setUpChanged = false;
  #counts: Counts = noCounts();
  #latenciesMs: number[] = [];

  count(name: keyof Counts, by = 1): void {
    this.#counts[name] += by;
  }

  latency(ms: number): void {
    if (this.#latenciesMs.length < LATENCIES_MAX) this.#latenciesMs.push(ms);
  }

  /** Takes the counts since the last call. */
  report(wallMs: number): RelayReport {
    const { state, reason, position, slot, lag, pending, waitingSinceMs, lastCommitMs } = this;
    const counts = this.#counts;
    const latenciesMs = this.#latenciesMs;
    this.#counts = noCounts();
    this.#latenciesMs = [];
    const oldestAgeMs = waitingSinceMs === null ? 0 : Math.max(0, wallMs - waitingSinceMs);
    return { state, reason, position, slot, lag, pending, oldestAgeMs, lastCommitMs, counts, latenciesMs };
  }
}

function noCounts(): Counts {
  return { records: 0, deadLetters: 0, committed: 0, aborted: 0, restarts: 0, pruned: 0 };
}
