/**
 * Series of one thread: counters and histograms that are added to, gauges that are told anew with each report. Plain numbers; a
 * report is plain data that crosses a message port. The main thread adds reports up (totals.ts).
 *
 * Invariants
 *   SE1  What was added is in exactly one report.
 *   SE2  A gauge that is not told for a report is not in it: what is gone leaves no series behind.
 */
import { METRICS, type MetricLabels, type MetricName, type NameOf } from "./metrics-list.ts";

export type Labels<N extends MetricName> = { readonly [L in MetricLabels<N>]: string | number };

/** Label values in the order of METRICS. */
export type LabelValues = readonly string[];

export interface HistogramDelta {
  /** Observations per bucket, those beyond the last bound at the end; not cumulative. */
  readonly counts: readonly number[];
  readonly sum: number;
  readonly count: number;
}

/** What happened since the report before, and how things stand now. */
export interface SeriesReport {
  readonly counters: readonly (readonly [MetricName, LabelValues, number])[];
  readonly histograms: readonly (readonly [MetricName, LabelValues, HistogramDelta])[];
  readonly gauges: readonly (readonly [MetricName, LabelValues, number])[];
  /** Quantiles as they are now, with what is to be added to sum and count. */
  readonly summaries: readonly (readonly [MetricName, LabelValues, SummaryReport])[];
}

export interface SummaryReport {
  readonly quantiles: readonly (readonly [quantile: number, value: number])[];
  readonly sum: number;
  readonly count: number;
}

export interface CounterSeries {
  add(n?: number): void;
}

export interface HistogramSeries {
  observe(value: number): void;
}

interface Counter {
  readonly name: MetricName;
  readonly labels: LabelValues;
  value: number;
  /** Reported before: what adds nothing need not be told again. */
  told: boolean;
}

interface Histogram {
  readonly labels: LabelValues;
  readonly bounds: readonly number[];
  counts: number[];
  sum: number;
  count: number;
}

export class Series {
  readonly #counters = new Map<string, Counter>();
  readonly #histograms = new Map<string, Histogram & { name: MetricName }>();
  #gauges: [MetricName, LabelValues, number][] = [];
  #summaries: [MetricName, LabelValues, SummaryReport][] = [];

  /** One counter, for who adds often. */
  counter<N extends NameOf<"counter">>(name: N, labels: Labels<N>): CounterSeries {
    const series = this.#counter(name, labels);
    return {
      add(n = 1) {
        series.value += n;
      },
    };
  }

  /** With 0 the series exists from then on. */
  add<N extends NameOf<"counter">>(name: N, labels: Labels<N>, n = 1): void {
    this.#counter(name, labels).value += n;
  }

  /** One histogram, for who observes often. */
  histogram<N extends NameOf<"histogram">>(name: N, labels: Labels<N>): HistogramSeries {
    const series = this.#histogram(name, labels);
    return {
      observe(value) {
        let bucket = 0;
        while (bucket < series.bounds.length && value > series.bounds[bucket]!) bucket += 1;
        series.counts[bucket]! += 1;
        series.sum += value;
        series.count += 1;
      },
    };
  }

  observe<N extends NameOf<"histogram">>(name: N, labels: Labels<N>, value: number): void {
    this.histogram(name, labels).observe(value);
  }

  /** For the next report alone. */
  gauge<N extends NameOf<"gauge">>(name: N, labels: Labels<N>, value: number): void {
    this.#gauges.push([name, labelValues(name, labels), value]);
  }

  /** For the next report alone. */
  summary<N extends NameOf<"summary">>(name: N, labels: Labels<N>, report: SummaryReport): void {
    this.#summaries.push([name, labelValues(name, labels), report]);
  }

  /** Everything since the report before; what follows goes into the next. */
  take(): SeriesReport {
    const counters: [MetricName, LabelValues, number][] = [];
    for (const series of this.#counters.values()) {
      if (series.value === 0 && series.told) continue;
      counters.push([series.name, series.labels, series.value]);
      series.value = 0;
      series.told = true;
    }
    const histograms: [MetricName, LabelValues, HistogramDelta][] = [];
    for (const series of this.#histograms.values()) {
      if (series.count === 0) continue;
      const { counts, sum, count } = series;
      histograms.push([series.name, series.labels, { counts, sum, count }]);
      Object.assign(series, { counts: zeros(series.bounds), sum: 0, count: 0 });
    }
    const report = { counters, histograms, gauges: this.#gauges, summaries: this.#summaries };
    this.#gauges = [];
    this.#summaries = [];
    return report;
  }

  #counter<N extends NameOf<"counter">>(name: N, labels: Labels<N>): Counter {
    const values = labelValues(name, labels);
    const key = keyOf(name, values);
    const series = this.#counters.get(key) ?? { name, labels: values, value: 0, told: false };
    this.#counters.set(key, series);
    return series;
  }

  #histogram<N extends NameOf<"histogram">>(name: N, labels: Labels<N>): Histogram {
    const values = labelValues(name, labels);
    const key = keyOf(name, values);
    let series = this.#histograms.get(key);
    if (!series) {
      const bounds: readonly number[] = METRICS[name].buckets;
      series = { name, labels: values, bounds, counts: zeros(bounds), sum: 0, count: 0 };
      this.#histograms.set(key, series);
    }
    return series;
  }
}

/** Name and label values as one text, to look a series up by. */
export function keyOf(name: string, labels: LabelValues): string {
  return labels.length === 0 ? name : `${name}\0${labels.join("\0")}`;
}

function labelValues<N extends MetricName>(name: N, labels: Labels<N>): LabelValues {
  const given = labels as Readonly<Record<string, string | number>>;
  return METRICS[name].labels.map((label: string) => String(given[label]));
}

function zeros(bounds: readonly number[]): number[] {
  return new Array<number>(bounds.length + 1).fill(0);
}
