import { describe, expect, test } from "vitest";

import { METRICS, type MetricDefinition, type MetricName } from "../../../src/telemetry/metrics-list.ts";
import { Series } from "../../../src/telemetry/series.ts";
import { Totals } from "../../../src/telemetry/totals.ts";

function values(totals: Totals, name: MetricName): Record<string, number> {
  return Object.fromEntries(
    totals.samples(name).map(({ suffix, labels, value }) => [`${suffix}${JSON.stringify(labels)}`, value]),
  );
}
const of = (labels: object, suffix = "") => `${suffix}${JSON.stringify(labels)}`;

describe("series of one thread", () => {
  test("SE1: what was added is in exactly one report", () => {
    const series = new Series();
    const taken = series.counter("lockstep_records_taken_total", { topic: "a" });
    taken.add(3);
    series.add("lockstep_records_taken_total", { topic: "a" });
    series.observe("lockstep_commit_records", {}, 7);
    const first = series.take();
    expect(first.counters).toEqual([["lockstep_records_taken_total", ["a"], 4]]);
    expect(first.histograms).toMatchObject([["lockstep_commit_records", [], { sum: 7, count: 1 }]]);
    expect(series.take()).toEqual({ counters: [], histograms: [], gauges: [], summaries: [] });
    taken.add();
    series.observe("lockstep_commit_records", {}, 1);
    const third = series.take();
    expect(third.counters).toEqual([["lockstep_records_taken_total", ["a"], 1]]);
    expect(third.histograms[0]![2].count).toBe(1);
    expect(first.histograms[0]![2].count).toBe(1); // a report is not changed once it is given away
  });

  test("SE2: a gauge that is not told again is in no further report", () => {
    const series = new Series();
    series.gauge("lockstep_shard_epoch", { shard: 3 }, 7);
    expect(series.take().gauges).toEqual([["lockstep_shard_epoch", ["3"], 7]]);
    expect(series.take().gauges).toEqual([]);
  });

  test("an observation on a bound belongs to its bucket, one beyond the last to none but +Inf", () => {
    const series = new Series();
    for (const records of [0, 1, 2, 3, 1e9]) series.observe("lockstep_commit_records", {}, records);
    const totals = new Totals();
    totals.accept("w", series.take());
    const shown = values(totals, "lockstep_commit_records");
    const buckets = ["1", "2", "5", "10000", "+Inf"].map((le) => shown[of({ le }, "_bucket")]);
    expect(buckets).toEqual([2, 3, 4, 4, 5]);
    expect([shown[of({}, "_count")], shown[of({}, "_sum")]]).toEqual([5, 1e9 + 6]);
  });

  test("a report survives the way through a message port", () => {
    const series = new Series();
    series.add("lockstep_tx_total", { outcome: "commit" });
    series.gauge("lockstep_shard_epoch", { shard: 3 }, 7);
    const report = series.take();
    expect(structuredClone(report)).toEqual(report);
  });
});

describe("totals of all threads", () => {
  const commits = (n: number) => {
    const series = new Series();
    series.add("lockstep_tx_total", { outcome: "commit" }, n);
    series.observe("lockstep_commit_records", {}, n);
    series.gauge("lockstep_worker_heap_used_bytes", { worker: n }, 100 + n);
    series.summary(
      "lockstep_worker_event_loop_lag_seconds",
      { worker: n },
      { quantiles: [[0.5, 0.001]], sum: 1, count: 10 },
    );
    return series.take();
  };

  test("TT1: nothing counted goes backwards when a worker dies, and goes on when it is started anew", () => {
    const totals = new Totals();
    totals.accept("worker 0", commits(5));
    totals.accept("worker 1", commits(2));
    totals.accept("worker 1", commits(2));
    const before = values(totals, "lockstep_tx_total");
    expect(before[of({ outcome: "commit" })]).toBe(9);
    totals.drop("worker 1");
    expect(values(totals, "lockstep_tx_total")).toEqual(before);
    expect(values(totals, "lockstep_commit_records")[of({}, "_count")]).toBe(3);
    totals.accept("worker 1", commits(2));
    expect(values(totals, "lockstep_tx_total")[of({ outcome: "commit" })]).toBe(11);
    expect(values(totals, "lockstep_worker_event_loop_lag_seconds")[of({ worker: "2" }, "_count")]).toBe(30);
  });

  test("TT2: gauges are those of each one's latest report; who is dropped has none", () => {
    const totals = new Totals();
    totals.accept("worker 0", commits(0));
    totals.accept("worker 1", commits(1));
    totals.accept("worker 0", new Series().take());
    expect(values(totals, "lockstep_worker_heap_used_bytes")).toEqual({ [of({ worker: "1" })]: 101 });
    totals.drop("worker 1");
    expect(values(totals, "lockstep_worker_heap_used_bytes")).toEqual({});
    const lag = values(totals, "lockstep_worker_event_loop_lag_seconds");
    expect(Object.keys(lag).filter((key) => key.includes("quantile"))).toEqual([]);
  });

  test("TT3: a series that two tell of is shown once, as the one that reported last has it", () => {
    const totals = new Totals();
    const epoch = (n: number) => {
      const series = new Series();
      series.gauge("lockstep_shard_epoch", { shard: 3 }, n);
      return series.take();
    };
    totals.accept("worker 0", epoch(1));
    totals.accept("worker 1", epoch(2));
    expect(totals.samples("lockstep_shard_epoch")).toMatchObject([{ value: 2 }]);
    totals.accept("worker 0", epoch(3));
    expect(totals.samples("lockstep_shard_epoch")).toMatchObject([{ value: 3 }]);
  });

  test("what can be counted from the start is there with 0", () => {
    const totals = new Totals();
    expect(values(totals, "lockstep_tx_total")).toEqual({
      [of({ outcome: "commit" })]: 0,
      [of({ outcome: "abort" })]: 0,
    });
    expect(values(totals, "lockstep_takeovers_total")).toEqual({ [of({})]: 0 });
    for (const { zeros = [], labels } of Object.values(METRICS as Record<string, MetricDefinition>))
      for (const zero of zeros) expect(zero).toHaveLength(labels.length);
  });
});
