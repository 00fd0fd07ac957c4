/**
 * How busy and how late the event loop of this thread is.
 */
import { type EventLoopUtilization, type IntervalHistogram, monitorEventLoopDelay, performance } from "node:perf_hooks";

import type { SummaryReport } from "./series.ts";

/** How often the delay is sampled. */
const RESOLUTION_MS = 20;
/** Quantiles are of the last one to two of these. */
const WINDOW_MS = 10_000;
const QUANTILES = [0.5, 0.99, 1];

export class EventLoopMeter {
  /** Two that overlap: the older one is read, and becomes the younger one when it is full. */
  #older: IntervalHistogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  #younger: IntervalHistogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  #turnedAtMs = 0;
  #told = { sum: 0, count: 0 };
  #utilization: EventLoopUtilization = performance.eventLoopUtilization();

  start(): void {
    this.#turnedAtMs = performance.now();
    this.#older.enable();
    this.#younger.enable();
  }

  stop(): void {
    this.#older.disable();
    this.#younger.disable();
  }

  /** Seconds; sum and count since the last call. */
  read(): { readonly utilization: number; readonly lag: SummaryReport } {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, this.#utilization);
    this.#utilization = now;

    const { count, sum } = totalOf(this.#older);
    const quantiles =
      count === 0
        ? []
        : QUANTILES.map((q) => [q, delayOf(q === 1 ? this.#older.max : this.#older.percentile(q * 100))] as const);
    const lag = { quantiles, sum: Math.max(0, sum - this.#told.sum), count: count - this.#told.count };
    this.#told = { sum, count };
    if (performance.now() - this.#turnedAtMs >= WINDOW_MS) this.#turn();
    return { utilization, lag };
  }

  #turn(): void {
    this.#older.reset();
    [this.#older, this.#younger] = [this.#younger, this.#older];
    this.#told = totalOf(this.#older);
    this.#turnedAtMs = performance.now();
  }
}

function totalOf(histogram: IntervalHistogram): { sum: number; count: number } {
  const { count } = histogram;
  return { count, sum: count === 0 ? 0 : delayOf(histogram.mean) * count };
}

/** Samples are ns from one tick of the sampler to the next: what is beyond its period is delay. */
function delayOf(ns: number): number {
  return Math.max(0, ns / 1e9 - RESOLUTION_MS / 1000);
}
