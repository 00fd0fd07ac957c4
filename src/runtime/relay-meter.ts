/**
 * Metrics and health of this process' relay, from what it reports of itself.
 */
import type { RelayReport } from "../relay/status.ts";
import type { Check } from "../telemetry/health.ts";
import { Series } from "../telemetry/series.ts";
import type { ProcessMetrics } from "./process-metrics.ts";

const SOURCE = "relay";

export class RelayMeter {
  /** Of readyz. A relay that stands by is ready. */
  readonly check: Check = { name: "relay", run: () => this.#fault() };
  readonly #series = new Series();
  #metrics: Pick<ProcessMetrics, "accept"> | null = null;
  #latest: RelayReport | null = null;

  /** Before its thread is started: what can be counted is there with 0. */
  start(metrics: Pick<ProcessMetrics, "accept">): void {
    this.#metrics = metrics;
    for (const outcome of ["commit", "abort"]) this.#series.add("lockstep_relay_transactions_total", { outcome }, 0);
    for (const name of [
      "lockstep_relay_records_total",
      "lockstep_relay_dead_letters_total",
      "lockstep_relay_restarts_total",
      "lockstep_outbox_pruned_total",
    ] as const)
      this.#series.add(name, {}, 0);
    metrics.accept(SOURCE, this.#series.take());
  }

  reported(report: RelayReport): void {
    this.#latest = report;
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

  /** Its thread died; another will be started. */
  died(): void {
    this.#latest = null;
    this.#series.add("lockstep_relay_restarts_total", {});
    this.#metrics?.accept(SOURCE, this.#series.take());
  }

  #fault(): string | null {
    if (this.#latest === null) return "the relay is being started";
    const { state, reason } = this.#latest;
    const why = reason ? `${reason.code}, ${reason.message}` : "it does not say why";
    if (state === "starting" && reason !== null) return `the relay cannot start: ${why}`;
    return state === "halted" ? `the relay is halted: ${why}` : null;
  }
}
