import { expect, test } from "vitest";

import { RelayObserver } from "../../../src/relay/status.ts";
import { ProcessMetrics } from "../../../src/runtime/process-metrics.ts";
import { RelayMeter } from "../../../src/runtime/relay-meter.ts";
import type { MetricName } from "../../../src/telemetry/metrics-list.ts";

function bed() {
  const metrics = new ProcessMetrics({ workers: 0, actorsMax: 5, build: { version: "1", code: "c", node: "v20" } });
  const observer = new RelayObserver();
  const meter = new RelayMeter();
  meter.start(metrics);
  const report = () => meter.reported(structuredClone(observer.report(100_000)));
  const shown = (name: MetricName) => {
    metrics.refresh();
    return Object.fromEntries(
      metrics
        .samples(name)
        .filter(({ suffix }) => suffix === "" || suffix === "_count")
        .map(({ labels, value }) => [Object.values(labels).join(" "), value]),
    );
  };
  return { observer, meter, report, shown };
}

test("what can be counted is there before the relay says a word, and no gauge is", () => {
  const { shown } = bed();
  expect(shown("lockstep_relay_records_total")).toEqual({ "": 0 });
  expect(shown("lockstep_relay_transactions_total")).toEqual({ commit: 0, abort: 0 });
  expect(shown("lockstep_relay_state")).toEqual({});
});

test("reports add up; a gauge is that of the latest", () => {
  const { observer, report, shown } = bed();
  Object.assign(observer, { state: "running", pending: 7, waitingSinceMs: 98_000, lastCommitMs: 50_000 });
  observer.lag = { slotBytes: 900, positionBytes: 500, walStatus: "reserved", safeBytes: 10_000 };
  observer.count("records", 3);
  observer.count("committed");
  observer.latency(20);
  report();
  observer.count("records", 2);
  observer.count("aborted");
  observer.lag = { slotBytes: 100, positionBytes: null, walStatus: "extended", safeBytes: null };
  report();
  expect(shown("lockstep_relay_records_total")).toEqual({ "": 5 });
  expect(shown("lockstep_relay_transactions_total")).toEqual({ commit: 1, abort: 1 });
  expect(shown("lockstep_relay_latency_seconds")).toEqual({ "": 1 });
  expect(shown("lockstep_relay_state")).toEqual({ running: 1 });
  expect(shown("lockstep_outbox_pending")).toEqual({ "": 7 });
  expect(shown("lockstep_outbox_oldest_age_seconds")).toEqual({ "": 2 });
  expect(shown("lockstep_relay_last_commit_timestamp_seconds")).toEqual({ "": 50 });
  expect(shown("lockstep_replication_slot_lag_bytes")).toEqual({ "": 100 });
  expect(shown("lockstep_replication_slot_wal_status")).toEqual({ extended: 1 });
  expect(shown("lockstep_relay_position_lag_bytes")).toEqual({});
  expect(shown("lockstep_replication_slot_safe_bytes")).toEqual({});
});

test("a relay that stands by shows no figures of an outbox that it does not see, and is ready; a halted one is not", async () => {
  const { observer, meter, report, shown } = bed();
  expect(await meter.check.run()).toBe("the relay is being started");
  observer.state = "standby";
  report();
  expect(shown("lockstep_outbox_pending")).toEqual({});
  expect(await meter.check.run()).toBeNull();
  observer.state = "halted";
  observer.reason = { code: "RELAY_SLOT_LOST", message: "the slot is gone" };
  report();
  expect(await meter.check.run()).toBe("the relay is halted: RELAY_SLOT_LOST, the slot is gone");
});

test("RI11: one that is starting is ready, until it says why it cannot", async () => {
  const { observer, meter, report } = bed();
  report();
  expect(await meter.check.run()).toBeNull();
  observer.reason = { code: "STORE_UNAVAILABLE", message: "the connection ended" };
  report();
  expect(await meter.check.run()).toBe("the relay cannot work: STORE_UNAVAILABLE, the connection ended");
});

test("a thread that dies takes its gauges with it, and is counted, as a restart too", async () => {
  const { observer, meter, report, shown } = bed();
  observer.state = "running";
  observer.count("records", 4);
  report();
  meter.died();
  expect(shown("lockstep_relay_state")).toEqual({});
  expect(shown("lockstep_relay_records_total")).toEqual({ "": 4 });
  expect(shown("lockstep_relay_restarts_total")).toEqual({ "": 1 });
  expect(shown("lockstep_relay_thread_deaths_total")).toEqual({ "": 1 });
  expect(await meter.check.run()).toBe("the relay is being started");
});

test("a thread that hangs shows no gauge and is not ready after 30 reports that did not come; the next report brings all back", async () => {
  const { observer, meter, report, shown } = bed();
  observer.state = "running";
  observer.count("records", 4);
  report();
  for (let i = 0; i < 30; i += 1) meter.tick();
  expect(shown("lockstep_relay_state")).toEqual({ running: 1 });
  expect(await meter.check.run()).toBeNull();
  meter.tick();
  expect(shown("lockstep_relay_state")).toEqual({});
  expect(shown("lockstep_relay_records_total")).toEqual({ "": 4 });
  expect(await meter.check.run()).toBe("nothing heard of the relay for 31 s");
  report();
  expect(shown("lockstep_relay_state")).toEqual({ running: 1 });
  expect(await meter.check.run()).toBeNull();
});
