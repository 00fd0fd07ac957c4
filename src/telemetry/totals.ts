/**
 * What the reports of all threads add up to, in the main thread: what `/metrics` shows.
 *
 * Invariants
 *   TT1  Counters, histograms, and sum and count of summaries never go backwards: they are kept when who reported them dies.
 *   TT2  Gauges and quantiles are those of the latest report of each source; a source that is dropped has none.
 *   TT3  One series is shown once, also when two sources tell of it, as of a shard that moves between two workers.
 */
import { METRICS, type MetricDefinition, type MetricName } from "./metrics-list.ts";
import { type HistogramDelta, keyOf, type LabelValues, type SeriesReport } from "./series.ts";

/** A line of the exposition: the metric's name with a suffix, labels by name, value. */
export interface Sample {
  readonly suffix: "" | "_bucket" | "_sum" | "_count";
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

interface Total<V> {
  readonly labels: LabelValues;
  value: V;
}

interface Latest {
  readonly gauges: SeriesReport["gauges"];
  readonly summaries: SeriesReport["summaries"];
}

export class Totals {
  readonly #counters = new Map<MetricName, Map<string, Total<number>>>();
  readonly #histograms = new Map<MetricName, Map<string, Total<HistogramDelta>>>();
  readonly #summaries = new Map<MetricName, Map<string, Total<{ sum: number; count: number }>>>();
  readonly #latest = new Map<string, Latest>();

  constructor() {
    for (const [name, { zeros }] of Object.entries(METRICS as Readonly<Record<string, MetricDefinition>>))
      for (const labels of zeros ?? []) add(this.#counters, name as MetricName, labels, 0, plus);
  }

  /** @param source who reports: each report takes the place of its last one's gauges */
  accept(source: string, report: SeriesReport): void {
    for (const [name, labels, n] of report.counters) add(this.#counters, name, labels, n, plus);
    for (const [name, labels, delta] of report.histograms) add(this.#histograms, name, labels, delta, merged);
    for (const [name, labels, { sum, count }] of report.summaries)
      add(this.#summaries, name, labels, { sum, count }, (a, b) => ({ sum: a.sum + b.sum, count: a.count + b.count }));
    this.#latest.delete(source); // the one that reported last comes last: TT3
    this.#latest.set(source, { gauges: report.gauges, summaries: report.summaries });
  }

  /** What the source told of as it stands is gone; what it counted stays. */
  drop(source: string): void {
    this.#latest.delete(source);
  }

  /** All samples of a metric. */
  samples(name: MetricName): Sample[] {
    switch (METRICS[name].type) {
      case "counter":
        return this.#of(this.#counters, name, (value, labels) => [{ suffix: "", labels, value }]);
      case "gauge":
        return this.#gauges(name);
      case "histogram": {
        const { buckets = [] } = METRICS[name] as MetricDefinition;
        return this.#of(this.#histograms, name, (value, labels) => bucketSamples(buckets, value, labels));
      }
      case "summary":
        return [
          ...this.#quantiles(name),
          ...this.#of(this.#summaries, name, ({ sum, count }, labels) => [
            { suffix: "_sum", labels, value: sum },
            { suffix: "_count", labels, value: count },
          ]),
        ];
    }
  }

  #of<V>(
    totals: ReadonlyMap<MetricName, ReadonlyMap<string, Total<V>>>,
    name: MetricName,
    samplesOf: (value: V, labels: Sample["labels"]) => Sample[],
  ): Sample[] {
    return [...(totals.get(name)?.values() ?? [])].flatMap(({ labels, value }) =>
      samplesOf(value, named(name, labels)),
    );
  }

  #gauges(name: MetricName): Sample[] {
    const found = new Map<string, Sample>();
    for (const { gauges } of this.#latest.values()) {
      for (const [of, labels, value] of gauges)
        if (of === name) found.set(keyOf(name, labels), { suffix: "", labels: named(name, labels), value });
    }
    return [...found.values()];
  }

  #quantiles(name: MetricName): Sample[] {
    const found = new Map<string, Sample>();
    for (const { summaries } of this.#latest.values()) {
      for (const [of, labels, { quantiles }] of summaries) {
        if (of !== name) continue;
        for (const [quantile, value] of quantiles) {
          const all = { ...named(name, labels), quantile: String(quantile) };
          found.set(keyOf(String(quantile), labels), { suffix: "", labels: all, value });
        }
      }
    }
    return [...found.values()];
  }
}

function add<V>(
  totals: Map<MetricName, Map<string, Total<V>>>,
  name: MetricName,
  labels: LabelValues,
  value: V,
  sum: (a: V, b: V) => V,
): void {
  const series = totals.get(name) ?? new Map<string, Total<V>>();
  totals.set(name, series);
  const key = keyOf(name, labels);
  const total = series.get(key);
  if (total) total.value = sum(total.value, value);
  else series.set(key, { labels, value });
}

function plus(a: number, b: number): number {
  return a + b;
}

function merged(a: HistogramDelta, b: HistogramDelta): HistogramDelta {
  return { counts: a.counts.map((n, i) => n + b.counts[i]!), sum: a.sum + b.sum, count: a.count + b.count };
}

function bucketSamples(buckets: readonly number[], total: HistogramDelta, labels: Sample["labels"]): Sample[] {
  let below = 0;
  const samples = [...buckets.map(String), "+Inf"].map((le, index): Sample => {
    below += total.counts[index]!;
    return { suffix: "_bucket", labels: { ...labels, le }, value: below };
  });
  return [...samples, { suffix: "_sum", labels, value: total.sum }, { suffix: "_count", labels, value: total.count }];
}

function named(name: MetricName, values: LabelValues): Record<string, string> {
  return Object.fromEntries(METRICS[name].labels.map((label: string, index: number) => [label, values[index]!]));
}
