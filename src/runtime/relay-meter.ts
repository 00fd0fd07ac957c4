/**
 * Metrics and health of this process' relay, from what it reports of itself.
 *
 * A thread that hangs reports nothing, and what it said last is not so any more: after REPORTS_MISSED_MAX its gauges go, as those of a
 * thread that died do, and readyz says so. What it counted stays.
 */
import type { RelayReport } from "../relay/status.ts";
import type { Check } from "../telemetry/health.ts";
import { Series } from "../telemetry/series.ts";
import type { ProcessMetrics } from "./process-metrics.ts";
import { REPORT_EVERY_MS } from "./worker-meter.ts";

const SOURCE = "relay";
/** One a second; a relay that waits for a server reports all the same. */
const REPORTS_MISSED_MAX = 30;

export class RelayMeter {
  /** Of readyz. A relay that stands by is ready. */
  readonly check: Check = { name: "relay", run: () => this.#fault() };
  readonly #series = new Series();
  #metrics: Pick<ProcessMetrics, "accept"> | null = null;
  #latest: RelayReport | null = null;
  /** Ticks of the main thread since the latest report: they stand still while the whole process is stopped. */
  #missed = 0;

  /** Before its thread is started: what can be counted is there with 0. */
  start(metrics: Pick<ProcessMetrics, "accept">): void {
    this.#metrics = metrics;
    for (const outcome of ["commit", "abort"]) this.#series.add("lockstep_relay_transactions_total", { outcome }, 0);
    for (const name of [
      "lockstep_relay_records_total",
      "lockstep_relay_dead_letters_total",
      "lockstep_relay_restarts_total",
      "lockstep_relay_thread_deaths_total",
      "lockstep_outbox_pruned_total",
    ] as const)
      this.#series.add(name, {}, 0);
    metrics.accept(SOURCE, this.#series.take());
  }

  reported(report: RelayReport): void {
    this.#latest = report;
    this.#missed = 0;
    const series = this.#series;
    const { state, lag, pending, oldestAgeMs, lastCommitMs, counts, latenciesMs } = report;
    series.add("lockstep_relay_records_total", {}, counts.records);
    series.add("lockstep_relay_dead_letters_total", {}, counts.deadLetters);
    series.add("lockstep_relay_transactions_total", { outcome: "commit" }, counts.committed);
    series.add("lockstep_relay_transactions_total", { outcome: "abort" }, counts.aborted);
    series.add("lockstep_relay_restarts_total", {}, counts.restarts);
    series.add("lockstep_outbox_pruned_total", {}, counts.pruned);
    for (const ms of latenciesMs) series.observe("lockstep_relay_latency_seconds", {}, Math.max(0, ms) / 1000);
    series.gauge("lockstep_relay_state", { state }, 1);
    if (lastCommitMs !== null) series.gauge("lockstep_relay_last_commit_timestamp_seconds", {}, lastCommitMs / 1000);
    if (state !== "standby" && state !== "stopped") {
      series.gauge("lockstep_outbox_pending", {}, pending);
      series.gauge("lockstep_outbox_oldest_age_seconds", {}, oldestAgeMs / 1000);
    }
    if (lag) {
      series.gauge("lockstep_replication_slot_lag_bytes", {}, lag.slotBytes);
      series.gauge("lockstep_replication_slot_wal_status", { status: lag.walStatus }, 1);
      if (lag.positionBytes !== null) series.gauge("lockstep_relay_position_lag_bytes", {}, lag.positionBytes);
      if (lag.safeBytes !== null) series.gauge("lockstep_replication_slot_safe_bytes", {}, lag.safeBytes);
    }
    this.#metrics?.accept(SOURCE, series.take());
  }

  /** Called each `REPORT_EVERY_MS`. */
  tick(): void {
    this.#missed += 1;
    if (this.#missed === REPORTS_MISSED_MAX + 1) this.#metrics?.accept(SOURCE, this.#series.take()); // no gauge is set
  }

  /** Its thread died; another will be started. */
  died(): void {
    this.#latest = null;
    this.#missed = 0;
    this.#series.add("lockstep_relay_restarts_total", {});
    this.#series.add("lockstep_relay_thread_deaths_total", {});
    this.#metrics?.accept(SOURCE, this.#series.take());
  }

  #fault(): string | null {
    if (this.#latest === null) return "the relay is being started";
    if (this.#missed > REPORTS_MISSED_MAX)
      return `nothing heard of the relay for ${Math.round((this.#missed * REPORT_EVERY_MS) / 1000)} s`;
    const { state, reason } = this.#latest;
    const why = reason ? `${reason.code}, ${reason.message}` : "it does not say why";
    if (state === "starting" && reason !== null) return `the relay cannot work: ${why}`;
    return state === "halted" ? `the relay is halted: ${why}` : null;
  }
}
