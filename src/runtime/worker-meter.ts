/**
 * What is measured in one worker thread, reported to the main thread each second as plain data.
 *
 * Invariants
 *   WM1  What is counted is in exactly one report; the last one is sent when the worker ends.
 *   WM2  A report tells of the shards that the worker has to do with at that moment, and of no others.
 *
 * Ends of inputs come with every fetch. Of a partition that is not fetched (its shard is halted, or it is paused because
 * enough is queued) they are asked for here, because that is when a lag matters most: at most each `ENDS_STALE_MS`.
 */
import { getHeapStatistics } from "node:v8";

import type { PublisherPort } from "../actors/ports.ts";
import type { Clock } from "../clock.ts";
import type { Log } from "../log.ts";
import type { ActorActivity } from "../telemetry/actor-series.ts";
import { EventLoopMeter } from "../telemetry/event-loop.ts";
import { Series, type SeriesReport } from "../telemetry/series.ts";
import type { ActorBudget } from "./actor-activities.ts";
import { ShardMeter, type ShardReport } from "./shard-meter.ts";

export const REPORT_EVERY_MS = 1_000;
const ENDS_STALE_MS = 10_000;

export interface WorkerReport {
  readonly series: SeriesReport;
  readonly actors: readonly ActorActivity[];
  /** Shards that the worker has to do with, those of which only counts are left excluded. */
  readonly shards: readonly ShardReport[];
  /** Ms since the group's coordinator last answered; null before the first assignment. */
  readonly answeredAgoMs: number | null;
}

export interface WorkerMeterOptions {
  readonly worker: number;
  readonly owner: string;
  readonly group: string;
  readonly topics: readonly string[];
  readonly actorsMax: number;
  readonly clock: Clock;
  readonly log: Log;
  /** Heartbeats and joins that the coordinator has answered so far. */
  readonly answered: () => number;
}

type Reads = Pick<PublisherPort, "watermarks" | "committed">;

export class WorkerMeter {
  readonly #options: WorkerMeterOptions;
  readonly #series = new Series();
  readonly #loop = new EventLoopMeter();
  readonly #shards = new Map<number, { meter: ShardMeter; reads: Reads; asking: boolean }>();
  readonly #budget: ActorBudget;
  #assigned: readonly number[] | null = null;
  #assignedAtMs = 0;
  #rebalancingSinceMs: number | null = null;
  #answered = 0;
  #answeredAt: { monotonicMs: number; wallMs: number } | null = null;

  constructor(options: WorkerMeterOptions) {
    this.#options = options;
    this.#budget = { left: options.actorsMax };
  }

  /** The meter of one shard; made once, whatever becomes of the shard. */
  shard(shard: number, reads: Reads): ShardMeter {
    const known = this.#shards.get(shard);
    if (known) return known.meter;
    const { owner, topics, clock } = this.#options;
    const meter = new ShardMeter({ shard, owner, topics, series: this.#series, clock, budget: this.#budget });
    this.#shards.set(shard, { meter, reads, asking: false });
    return meter;
  }

  // --------------------------------------------------------------------------------------------------- told by the membership

  rebalancing(): void {
    this.#rebalancingSinceMs ??= this.#options.clock.monotonicMs();
  }

  /** @param joinMs how long the join took */
  assigned(shards: readonly number[], joinMs: number): void {
    const { clock } = this.#options;
    const before = this.#assigned ?? [];
    const gained = shards.filter((shard) => !before.includes(shard)).length;
    const kept = shards.length - gained;
    const lost = before.length - kept;
    const isKept = this.#assigned !== null && gained === 0 && lost === 0;
    const series = this.#series;
    series.add("lockstep_rebalances_total", { kind: isKept ? "kept" : "moved" });
    series.add("lockstep_rebalance_shards_total", { change: "gained" }, gained);
    series.add("lockstep_rebalance_shards_total", { change: "lost" }, lost);
    series.add("lockstep_rebalance_shards_total", { change: "kept" }, kept);
    const tookMs = this.#rebalancingSinceMs === null ? joinMs : clock.monotonicMs() - this.#rebalancingSinceMs;
    series.observe("lockstep_rebalance_duration_seconds", {}, tookMs / 1000);
    this.#assigned = [...shards];
    this.#assignedAtMs = clock.wallMs();
    this.#rebalancingSinceMs = null;
  }

  membershipFailed(): void {
    this.#series.add("lockstep_rebalance_failures_total", {});
  }

  // ------------------------------------------------------------------------------------------------------------------ reports

  /** Posts a report each second, until it is stopped; then a last one. */
  start(post: (report: WorkerReport) => void): () => void {
    this.#loop.start();
    const timer = setInterval(() => {
      post(this.report());
      this.#askForEnds();
    }, REPORT_EVERY_MS);
    return () => {
      clearInterval(timer);
      post(this.report());
      this.#loop.stop();
    };
  }

  report(): WorkerReport {
    const { clock, answered } = this.#options;
    if (answered() > this.#answered) {
      this.#answered = answered();
      this.#answeredAt = { monotonicMs: clock.monotonicMs(), wallMs: clock.wallMs() };
    }
    this.#tellWorker();
    const meters = [...this.#shards.values()].map(({ meter }) => meter);
    for (const meter of meters) meter.tellGauges(this.#options.worker);
    this.#tellLag(meters);
    return {
      actors: meters.flatMap((meter) => meter.takeActivities()),
      shards: meters.flatMap((meter) => meter.report() ?? []),
      answeredAgoMs:
        this.#assigned === null || !this.#answeredAt ? null : clock.monotonicMs() - this.#answeredAt.monotonicMs,
      series: this.#series.take(),
    };
  }

  #tellWorker(): void {
    const { worker } = this.#options;
    const series = this.#series;
    const { utilization, lag } = this.#loop.read();
    series.gauge("lockstep_worker_event_loop_utilization_ratio", { worker }, utilization);
    series.summary("lockstep_worker_event_loop_lag_seconds", { worker }, lag);
    series.gauge("lockstep_worker_heap_used_bytes", { worker }, getHeapStatistics().used_heap_size);
    if (this.#answeredAt)
      series.gauge("lockstep_group_answer_timestamp_seconds", { worker }, this.#answeredAt.wallMs / 1000);
    if (this.#assigned === null) return;
    series.gauge("lockstep_assigned_shards", { worker }, this.#assigned.length);
    series.gauge("lockstep_rebalance_last_timestamp_seconds", { worker }, this.#assignedAtMs / 1000);
  }

  #tellLag(meters: readonly ShardMeter[]): void {
    const { group: consumergroup, topics } = this.#options;
    const series = this.#series;
    for (const meter of meters) {
      if (meter.report() === null) continue;
      for (const topic of topics) {
        const partition = meter.shard;
        const ends = meter.ends.get(topic);
        const position = meter.positions?.[topic];
        if (ends) {
          series.gauge("kafka_topic_partition_current_offset", { topic, partition }, Number(ends.high));
          if (ends.low !== null)
            series.gauge("kafka_topic_partition_oldest_offset", { topic, partition }, Number(ends.low));
        }
        if (!ends || position === undefined) continue;
        const of = { consumergroup, topic, partition };
        // An end from before the latest commit can lie below the position.
        const lag = Math.max(0, Number(ends.high - position));
        series.gauge("kafka_consumergroup_current_offset", of, Number(position));
        series.gauge("kafka_consumergroup_lag", of, lag);
      }
    }
  }

  /** Of inputs that nothing was fetched of for a while. Runs beside everything else; a failure leaves the ends as they were. */
  #askForEnds(): void {
    const { clock, topics, log } = this.#options;
    for (const entry of this.#shards.values()) {
      const { meter, reads } = entry;
      const now = clock.monotonicMs();
      const isStale = topics.some((topic) => now - (meter.ends.get(topic)?.atMs ?? 0) > ENDS_STALE_MS);
      // An acquire reads the same by itself, and asks again while Kafka is away.
      if (!isStale || entry.asking || !["running", "halted"].includes(meter.state)) continue;
      entry.asking = true;
      void this.#ask(meter, reads)
        .catch((err: unknown) => log.debug({ event: "ends-unknown", shard: meter.shard, err }, "lag is not known"))
        .finally(() => {
          entry.asking = false;
        });
    }
  }

  async #ask(meter: ShardMeter, reads: Reads): Promise<void> {
    const { clock, topics } = this.#options;
    const watermarks = await reads.watermarks(meter.shard);
    for (const topic of topics) meter.fetched(topic, { ...watermarks[topic]!, atMs: clock.monotonicMs() });
    if (meter.positions !== null) return;
    const committed = await reads.committed(meter.shard);
    const found = Object.entries(committed).flatMap(([topic, { offset }]) =>
      offset === null ? [] : [[topic, offset]],
    );
    meter.positionsFound(Object.fromEntries(found));
  }
}
