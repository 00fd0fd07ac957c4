/**
 * What is measured of one shard in the hands of one worker: told by the phases as they go, read by the worker's reports.
 *
 * It watches and decides nothing: no method throws, waits or changes what it is shown.
 *
 * Invariants
 *   CM1  A commit is counted once, by the worker that folded it, as soon as it knows that Postgres has it: when COMMIT is answered, or later,
 *        by the journal, where the answer never came. Whether Kafka took it from this worker, or from redo of whoever owns the shard next,
 *        changes nothing. What Postgres does not have is never counted.
 */
import { RUNTIME_COUNTERS } from "../actors/counters.ts";
import type { CommitEffects } from "../actors/effects.ts";
import type { JournalEntry } from "../actors/journal.ts";
import type { ShardRow } from "../actors/ports.ts";
import type { OutputRecord, Positions } from "../actors/record.ts";
import type { InputQueues } from "../actors/take.ts";
import type { Clock } from "../clock.ts";
import { type LockstepError, PROTOCOL_ASSERTS } from "../errors.ts";
import type { ActorActivity } from "../telemetry/actor-series.ts";
import type { HistogramSeries, Series } from "../telemetry/series.ts";
import { ActorActivities, type ActorBudget } from "./actor-activities.ts";
import type { Item, Standing } from "./commit.ts";
import type { LifeLog } from "./life-log.ts";
import type { ShardState } from "./shard.ts";

/** A commit on its way: what is counted of it when Postgres has it. */
export interface CommitUnderWay {
  readonly seq: number;
  /** Of the ownership under which it is made. */
  readonly token: string;
  readonly entries: readonly JournalEntry[];
  readonly effects: CommitEffects;
  readonly outputs: readonly OutputRecord[];
}

/** A commit that Postgres and Kafka have, the latter of this owner. */
export interface PublishedCommit {
  readonly items: readonly Item[];
  readonly positions: Positions;
  /** Monotonic ms: fold begun, Postgres begun, Kafka begun, all done. */
  readonly atMs: readonly [fold: number, postgres: number, kafka: number, end: number];
}

/** What a running shard is made of; changed by its loop. */
export interface Running {
  readonly standing: Standing;
  readonly queues: InputQueues;
  /** S: seq of the published snapshot. */
  readonly snapshotter: { readonly seq: number };
}

/** Ends of one input partition, as the broker last told. */
export interface InputEnds {
  /** Last stable offset. */
  high: bigint;
  low: bigint | null;
  /** Monotonic ms. */
  atMs: number;
}

/** For health: what a worker says of one of its shards. */
export interface ShardReport {
  readonly shard: number;
  readonly state: ShardState;
  /** While halted. */
  readonly code: string | null;
  /** Share of a replay under way that is done. */
  readonly replayed: number | null;
}

export class ShardMeter {
  readonly shard: number;
  /** Per input: where its log ends. */
  readonly ends = new Map<string, InputEnds>();
  readonly #series: Series;
  readonly #clock: Clock;
  readonly #app: { readonly owner: string; readonly topics: readonly string[] };
  readonly #actors: ActorActivities;
  readonly #latency: HistogramSeries;
  readonly #carriedThrough: HistogramSeries;
  readonly #phases: readonly [HistogramSeries, HistogramSeries, HistogramSeries];
  #state: ShardState = "idle";
  #running: Running | null = null;
  #row: { epoch: number; seq: number; confirmed: number; snapshotSeq: number } | null = null;
  /** What Kafka's group has; null before it is known. */
  #positions: Positions | null = null;
  #snapshotBytes: number | null = null;
  /** Commit that may be in Postgres and is not counted. */
  #underWay: CommitUnderWay | null = null;
  #replay: { from: number; to: number; seq: number; records: number } | null = null;
  #acquiringSinceMs = 0;
  #haltedBy: string | null = null;

  constructor(options: {
    shard: number;
    owner: string;
    topics: readonly string[];
    series: Series;
    clock: Clock;
    budget: ActorBudget;
  }) {
    const { shard, owner, topics, series, clock, budget } = options;
    this.shard = shard;
    this.#series = series;
    this.#clock = clock;
    this.#app = { owner, topics };
    this.#actors = new ActorActivities(shard, budget);
    this.#latency = series.histogram("lockstep_end_to_end_latency_seconds", {});
    this.#carriedThrough = series.histogram("lockstep_tx_duration_seconds", { outcome: "commit" });
    const phase = (name: string) => series.histogram("lockstep_commit_phase_duration_seconds", { phase: name });
    this.#phases = [phase("fold"), phase("postgres"), phase("kafka")];
  }

  get state(): ShardState {
    return this.#state;
  }

  get positions(): Positions | null {
    return this.#positions;
  }

  /** Positions read from the group, where no owner here knows them. */
  positionsFound(positions: Positions): void {
    this.#positions ??= positions;
  }

  // ------------------------------------------------------------------------------------------------------ told by the phases

  entered(state: ShardState): void {
    const now = this.#clock.monotonicMs();
    if (state === "acquiring") this.#acquiringSinceMs = now;
    if (state === "restoring")
      this.#series.observe("lockstep_acquire_duration_seconds", {}, (now - this.#acquiringSinceMs) / 1000);
    this.#replay = null;
    if (state !== "halted") this.#haltedBy = null;
    if (state !== "running" && state !== "draining") this.#running = null;
    if (state === "lost" || state === "released") {
      this.#row = null;
      this.#positions = null;
      this.#snapshotBytes = null;
      this.ends.clear();
    }
    this.#state = state;
  }

  /** The row after reconcile: Kafka has all of it. */
  acquired(epoch: number, row: Pick<ShardRow, "seq" | "snapshotSeq"> & { readonly positions: Positions }): void {
    this.#row = { epoch, seq: row.seq, confirmed: row.seq, snapshotSeq: row.snapshotSeq };
    this.#positions = row.positions;
  }

  running(running: Running): void {
    this.#running = running;
  }

  fetched(topic: string, ends: { high: bigint; low: bigint | null; atMs: number }): void {
    const known = this.ends.get(topic);
    if (!known) this.ends.set(topic, { ...ends });
    else {
      known.high = ends.high;
      known.low = ends.low ?? known.low;
      known.atMs = ends.atMs;
    }
  }

  /** It is about to be written to Postgres. */
  committing(commit: CommitUnderWay): void {
    this.#underWay = commit;
  }

  /** A commit whose outcome is not known: it is neither `committed` nor `undone` yet. */
  get undecided(): { readonly seq: number; readonly token: string } | null {
    return this.#underWay;
  }

  /** Postgres does not have it, and never will. */
  undone(): void {
    this.#underWay = null;
  }

  /** CM1: Postgres has the commit under way. */
  committed(): void {
    if (this.#underWay === null) return;
    const { entries, effects, outputs } = this.#underWay;
    this.#underWay = null;
    const series = this.#series;
    series.add("lockstep_tx_total", { outcome: "commit" });

    let taken = 0;
    for (const entry of entries) {
      if (entry.kind !== "run") continue;
      taken += entry.count;
      series.add("lockstep_records_taken_total", { topic: entry.topic }, entry.count);
    }
    series.observe("lockstep_commit_records", {}, taken);
    for (const [topic, n] of countBy(outputs, (output) => output.topic))
      series.add("lockstep_records_published_total", { topic }, n);
    series.add("lockstep_rows_written_total", {}, effects.rows.length);

    const { notes, counts } = effects;
    this.#actors.add(notes);
    for (const [topic, n] of countBy(notes.late)) series.add("lockstep_late_events_total", { topic }, n);
    for (const [topic, n] of countBy(notes.dropped)) series.add("lockstep_source_duplicates_total", { topic }, n);
    for (const { topic, code, verdict } of notes.setAside) {
      series.add("lockstep_dlq_records_total", { topic, reason: code });
      if (verdict) series.add("lockstep_verdicts_total", { code });
    }
    for (const [counter, n] of Object.entries(counts)) {
      if (counter === "timersFired") series.add("lockstep_timers_fired_total", {}, n);
      else if (!RUNTIME_COUNTERS.includes(counter)) series.add("lockstep_app_counter_total", { counter }, n);
    }
  }

  published({ items, positions, atMs }: PublishedCommit): void {
    this.#positions = positions;
    this.#carriedThrough.observe((atMs[3] - atMs[0]) / 1000);
    for (const [index, phase] of this.#phases.entries()) phase.observe((atMs[index + 1]! - atMs[index]!) / 1000);
    const wallMs = this.#clock.wallMs();
    for (const item of items) {
      if (item.kind !== "record" || item.judged.record.timestampMs < 0n) continue;
      this.#latency.observe(Math.max(0, wallMs - Number(item.judged.record.timestampMs)) / 1000);
    }
  }

  /** It was given up, its outcome in Postgres is not known, or Kafka did not take it from this owner. */
  aborted(sinceMs: number): void {
    this.#series.add("lockstep_tx_total", { outcome: "abort" });
    const seconds = (this.#clock.monotonicMs() - sinceMs) / 1000;
    this.#series.observe("lockstep_tx_duration_seconds", { outcome: "abort" }, seconds);
  }

  /** A log that tells the meter of the same changes. */
  watch(log: LifeLog): LifeLog {
    const series = this.#series;
    const told =
      <K extends keyof LifeLog>(method: K, tell: (...details: Parameters<LifeLog[K]>) => void) =>
      (...details: Parameters<LifeLog[K]>) => {
        tell(...details);
        (log[method] as (...args: Parameters<LifeLog[K]>) => void)(...details);
      };
    return {
      ...log,
      tookOver: told("tookOver", () => series.add("lockstep_takeovers_total", {})),
      redoPublished: told("redoPublished", ({ records }) => series.add("lockstep_redo_published_total", {}, records)),
      replaying: told("replaying", ({ from, to }) => {
        this.#replay = { from, to, seq: from, records: 0 };
      }),
      replayProgress: told("replayProgress", ({ seq, records }) => {
        if (!this.#replay) return;
        series.add("lockstep_replayed_records_total", {}, records - this.#replay.records);
        Object.assign(this.#replay, { seq, records });
      }),
      running: told("running", ({ reused, ms }) => {
        if (!reused) series.observe("lockstep_actor_recovery_duration_seconds", {}, ms / 1000);
      }),
      retrying: told("retrying", ({ code }) => series.add("lockstep_retries_total", { code })),
      restoring: told("restoring", ({ code }) => series.add("lockstep_reacquires_total", { code })),
      fenced: told("fenced", ({ code }) => {
        series.add("lockstep_fenced_total", {});
        series.add("lockstep_reacquires_total", { code });
      }),
      lost: told("lost", () => series.add("lockstep_shard_lost_total", {})),
      halted: told("halted", (error) => {
        this.#haltedBy = error.code;
        series.add("lockstep_shard_halts_total", { code: error.code });
        this.#countAssert(error);
      }),
      notDrained: told("notDrained", (error) => this.#countAssert(error)),
      snapshotPublished: told("snapshotPublished", ({ bytes, ms }) => {
        series.add("lockstep_snapshots_total", { outcome: "published" });
        series.observe("lockstep_snapshot_duration_seconds", {}, ms / 1000);
        this.#snapshotBytes = bytes;
      }),
      snapshotFailed: told("snapshotFailed", () => series.add("lockstep_snapshots_total", { outcome: "failed" })),
      waitedForInput: told("waitedForInput", () => series.add("lockstep_input_waits_total", {})),
    };
  }

  #countAssert({ code }: LockstepError): void {
    if ((PROTOCOL_ASSERTS as readonly string[]).includes(code))
      this.#series.add("lockstep_asserts_failed_total", { name: code });
  }

  // ------------------------------------------------------------------------------------------------------- read by the reports

  /** Null when the worker has nothing to do with the shard any more. */
  report(): ShardReport | null {
    if (this.#state === "idle" || this.#state === "released") return null;
    return {
      shard: this.shard,
      state: this.#state,
      code: this.#state === "halted" ? (this.#haltedBy ?? "") : null,
      replayed: this.#replay && progressOf(this.#replay),
    };
  }

  /** What actors did since the last call. */
  takeActivities(): ActorActivity[] {
    const taken = this.#actors.take();
    if (this.report() === null) this.#actors.forget();
    return taken;
  }

  /** Tells the series how the shard stands. */
  tellGauges(worker: number): void {
    const { shard } = this;
    const series = this.#series;
    const state = this.#state;
    if (state === "idle" || state === "released") return;
    series.gauge("lockstep_shard_state", { shard, state }, 1);
    if (state === "halted") series.gauge("lockstep_shard_halted", { shard, code: this.#haltedBy ?? "" }, 1);
    if (state === "restoring" || state === "running" || state === "draining")
      series.gauge("lockstep_shard_owner", { shard, worker, owner: this.#app.owner }, 1);
    if (this.#replay) series.gauge("lockstep_restore_progress_ratio", { shard }, progressOf(this.#replay));
    if (this.#snapshotBytes !== null) series.gauge("lockstep_snapshot_bytes", { shard }, this.#snapshotBytes);
    if (this.#row) this.#tellRow(this.#row);
    if (this.#running && state === "running") this.#tellRunning(this.#running);
  }

  #tellRow(row: { epoch: number; seq: number; confirmed: number; snapshotSeq: number }): void {
    const { shard } = this;
    const series = this.#series;
    const { standing, snapshotter } = this.#running ?? {};
    if (standing) Object.assign(row, { seq: standing.seq, confirmed: standing.confirmed });
    if (snapshotter) row.snapshotSeq = snapshotter.seq;
    series.gauge("lockstep_shard_epoch", { shard }, row.epoch);
    series.gauge("lockstep_shard_seq", { shard }, row.seq);
    series.gauge("lockstep_shard_confirmed_seq", { shard }, row.confirmed);
    series.gauge("lockstep_shard_snapshot_seq", { shard }, row.snapshotSeq);
  }

  #tellRunning({ standing, queues }: Running): void {
    const { shard } = this;
    const series = this.#series;
    const { model } = standing;
    if (model.streamTimeMs > 0)
      series.gauge("lockstep_shard_stream_time_seconds", { shard }, model.streamTimeMs / 1000);
    series.gauge("lockstep_shard_timers", { shard }, model.timerCount);
    for (const [actor_type, n] of Object.entries(model.actorCounts))
      series.gauge("lockstep_actor_active", { actor_type, shard }, n);
    for (const topic of this.#app.topics)
      series.gauge("lockstep_shard_queue_records", { shard, topic }, queues.records(topic));
    series.gauge("lockstep_shard_paused_inputs", { shard }, queues.pausedInputs);
  }
}

function progressOf({ from, to, seq }: { from: number; to: number; seq: number }): number {
  return to === from ? 1 : (seq - from) / (to - from);
}

function countBy(values: readonly string[]): Map<string, number>;
function countBy<T>(values: readonly T[], of: (value: T) => string): Map<string, number>;
function countBy<T>(values: readonly T[], of: (value: T) => string = String): Map<string, number> {
  const counts = new Map<string, number>();
  for (const value of values) {
    const name = of(value);
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}
