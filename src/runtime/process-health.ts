/**
 * The checks behind `/livez`, `/readyz` and `/startupz`, from what the workers report and what the main thread knows.
 *
 *   workers     every worker that runs has reported lately: only a restart cures one that does not       livez
 *   kafka       every worker is in the group, and the coordinator answers it                       readyz, startupz
 *   postgres    Postgres answers the main thread                                                  readyz
 *   migrations  cluster, topics, database and instance were checked, and are as they should be     readyz, startupz
 *   replay      no shard is being acquired or restored                                            readyz, startupz
 *   shards      no shard is halted                                                                readyz
 *   shutdown    not draining                                                                      readyz
 *
 * Checks that others add (the relay's) belong to readyz.
 */
import type { Clock } from "../clock.ts";
import { type Check, type Checks, latched } from "../telemetry/health.ts";
import { REPORT_EVERY_MS, type WorkerReport } from "./worker-meter.ts";

/**
 * Reports that a worker may miss. A step that never ends is cut short long before by the watchdog; what is silent for so long is
 * beyond that.
 */
const REPORTS_MISSED_MAX = 30;

interface WorkerHealth {
  /** Ticks of the main thread since the worker was last heard of: they stand still while the whole process is stopped. */
  missed: number;
  latest: { readonly report: WorkerReport; readonly atMs: number } | null;
}

export class ProcessHealth {
  readonly checks: Checks;
  readonly #clock: Clock;
  readonly #sessionTimeoutMs: number;
  /** null: the worker is being started, or started anew. */
  readonly #workers: (WorkerHealth | null)[];
  #checked = false;
  #stopping = false;

  /** @param more checks of readyz besides those above: Postgres, the relay */
  constructor(options: { workers: number; sessionTimeoutMs: number; clock: Clock; more: readonly Check[] }) {
    const { workers, sessionTimeoutMs, clock, more } = options;
    this.#clock = clock;
    this.#sessionTimeoutMs = sessionTimeoutMs;
    this.#workers = Array.from({ length: workers }, () => null);
    const check = (name: string, run: () => string | null): Check => ({ name, run });
    const kafka = check("kafka", () => this.#kafka());
    const replay = check("replay", () => this.#replay());
    const migrations = check("migrations", () => (this.#checked ? null : "the deployment is still being checked"));
    this.checks = {
      livez: [check("workers", () => this.#silent())],
      readyz: [
        kafka,
        migrations,
        replay,
        check("shards", () => this.#halted()),
        check("shutdown", () => (this.#stopping ? "draining" : null)),
        ...more,
      ],
      startupz: latched([kafka, migrations, replay]),
    };
  }

  /** Cluster, topics, database and instance are as they should be. */
  deploymentChecked(): void {
    this.#checked = true;
  }

  stopping(): void {
    this.#stopping = true;
  }

  workerStarted(worker: number): void {
    this.#workers[worker] = { missed: 0, latest: null };
  }

  workerReported(worker: number, report: WorkerReport): void {
    this.#workers[worker] = { missed: 0, latest: { report, atMs: this.#clock.monotonicMs() } };
  }

  workerEnded(worker: number): void {
    this.#workers[worker] = null;
  }

  /** Called each `REPORT_EVERY_MS`. */
  tick(): void {
    for (const worker of this.#workers) if (worker) worker.missed += 1;
  }

  #silent(): string | null {
    const silent = this.#workers.flatMap((worker, index) =>
      worker && worker.missed > REPORTS_MISSED_MAX
        ? [`worker ${index} for ${seconds(worker.missed * REPORT_EVERY_MS)}`]
        : [],
    );
    return silent.length === 0 ? null : `nothing heard of ${silent.join(", ")}`;
  }

  #kafka(): string | null {
    const faults = this.#workers.flatMap((worker, index) => {
      if (!worker) return [`worker ${index} is being started`];
      const { latest } = worker;
      if (!latest || latest.report.answeredAgoMs === null) return [`worker ${index} has not joined the group yet`];
      const agoMs = latest.report.answeredAgoMs + this.#clock.monotonicMs() - latest.atMs;
      return agoMs > this.#sessionTimeoutMs
        ? [`the group's coordinator has not answered worker ${index} for ${seconds(agoMs)}`]
        : [];
    });
    return faults.length === 0 ? null : faults.join("; ");
  }

  #replay(): string | null {
    const faults = this.#shards().flatMap(({ shard, state, replayed }) => {
      if (state === "acquiring") return [`shard ${shard} is being acquired`];
      if (state !== "restoring") return [];
      return [
        `shard ${shard} is being restored${replayed === null ? "" : `, ${Math.floor(replayed * 100)} % replayed`}`,
      ];
    });
    return faults.length === 0 ? null : faults.join("; ");
  }

  #halted(): string | null {
    const halted = this.#shards().filter(({ state }) => state === "halted");
    return halted.length === 0 ? null : halted.map(({ shard, code }) => `shard ${shard} is halted: ${code}`).join("; ");
  }

  #shards() {
    return this.#workers.flatMap((worker) => worker?.latest?.report.shards ?? []);
  }
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`;
}
