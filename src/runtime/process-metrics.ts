/**
 * What a process shows on `/metrics`: reports of its workers, and of whatever else reports, put together in the main thread.
 *
 * A worker that dies takes its gauges with it, what it counted stays. Series of a shard that no worker here has to do with are gone
 * with the next report.
 */
import type { ActorActivity } from "../telemetry/actor-series.ts";
import { ActorSeries } from "../telemetry/actor-series.ts";
import type { MetricName } from "../telemetry/metrics-list.ts";
import { Series, type SeriesReport } from "../telemetry/series.ts";
import { type Sample, Totals } from "../telemetry/totals.ts";
import type { WorkerReport } from "./worker-meter.ts";

export interface ProcessMetricsOptions {
  readonly workers: number;
  readonly actorsMax: number;
  readonly build: { readonly version: string; readonly code: string; readonly node: string };
}

export class ProcessMetrics {
  /** What the main thread counts itself. */
  readonly series = new Series();
  readonly #options: ProcessMetricsOptions;
  readonly #totals = new Totals();
  readonly #actors: ActorSeries;
  /** Shards that each living worker has to do with. */
  readonly #shards = new Map<number, ReadonlySet<number>>();
  readonly #started = new Set<number>();

  constructor(options: ProcessMetricsOptions) {
    this.#options = options;
    this.#actors = new ActorSeries(options.actorsMax);
    for (let worker = 0; worker < options.workers; worker += 1)
      this.series.add("lockstep_worker_restarts_total", { worker }, 0);
  }

  workerStarted(worker: number): void {
    if (this.#started.has(worker)) this.series.add("lockstep_worker_restarts_total", { worker });
    this.#started.add(worker);
  }

  stepEndedWorker(): void {
    this.series.add("lockstep_steps_killed_total", {});
  }

  workerReported(worker: number, { series, actors, shards }: WorkerReport): void {
    this.#totals.accept(`worker ${worker}`, series);
    this.#acceptActors(worker, actors, new Set(shards.map(({ shard }) => shard)));
  }

  workerEnded(worker: number): void {
    this.#totals.drop(`worker ${worker}`);
    this.#shards.delete(worker);
    this.#actors.holding(this.#held());
  }

  /** What something beside the workers reports; each report takes the place of its last one's gauges. */
  accept(source: string, report: SeriesReport): void {
    this.#totals.accept(source, report);
  }

  /** Before samples are read: what the main thread itself tells. */
  refresh(): void {
    const { workers, build } = this.#options;
    for (let worker = 0; worker < workers; worker += 1)
      this.series.gauge("lockstep_worker_up", { worker }, this.#shards.has(worker) ? 1 : 0);
    this.series.gauge("lockstep_build_info", build, 1);
    this.#totals.accept("main", this.series.take());
  }

  samples(name: MetricName): Sample[] {
    switch (name) {
      case "lockstep_actor_events_total":
        return this.#actors.samples("events");
      case "lockstep_actor_emitted_total":
        return this.#actors.samples("emitted");
      case "lockstep_actor_last_event_timestamp_seconds":
        return this.#actors.samples("lastMs");
      case "kafka_consumergroup_lag_sum":
        return sumByTopic(this.#totals.samples("kafka_consumergroup_lag"));
      default:
        return this.#totals.samples(name);
    }
  }

  #acceptActors(worker: number, actors: readonly ActorActivity[], shards: ReadonlySet<number>): void {
    this.#shards.set(worker, shards);
    this.#actors.accept(actors);
    this.#actors.holding(this.#held());
  }

  #held(): Set<number> {
    return new Set([...this.#shards.values()].flatMap((shards) => [...shards]));
  }
}

function sumByTopic(lags: readonly Sample[]): Sample[] {
  const sums = new Map<string, { consumergroup: string; topic: string; lag: number }>();
  for (const { labels, value } of lags) {
    const { consumergroup, topic } = labels as { consumergroup: string; topic: string };
    const sum = sums.get(topic) ?? { consumergroup, topic, lag: 0 };
    sum.lag += value;
    sums.set(topic, sum);
  }
  return [...sums.values()].map(({ lag, ...labels }) => ({ suffix: "", labels, value: lag }));
}
