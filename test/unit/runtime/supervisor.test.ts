/** Main over its workers: real threads, whose entry is the test's. S-gone: src/runtime/supervisor.ts; W5: watchdog.ts. */
import { expect, test } from "vitest";

import { systemClock } from "../../../src/clock.ts";
import { loadConfig } from "../../../src/config.ts";
import { LockstepError } from "../../../src/errors.ts";
import type { Log } from "../../../src/log.ts";
import { ProcessHealth } from "../../../src/runtime/process-health.ts";
import { ProcessMetrics } from "../../../src/runtime/process-metrics.ts";
import { startSupervisor } from "../../../src/runtime/supervisor.ts";
import { WorkerMeter } from "../../../src/runtime/worker-meter.ts";
import type { MetricName } from "../../../src/telemetry/metrics-list.ts";
import { withFile } from "../../support/temporary-file.ts";
import { until } from "../../support/until.ts";

const TICKS = 40;
const silent: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };

/** A thread that reports once, and dies while it steps a record of shard 3. */
const entry = (report: unknown) => `
  export default function run({ port, seat }) {
    port.postMessage({ type: "report", report: ${JSON.stringify(report)} });
    new Int32Array(seat, 0, 4).set([1, 1, 3, 0]);
    setImmediate(() => { throw new Error("the step took its thread with it"); });
    return new Promise(() => {});
  }`;

/** A thread that is in the middle of a step of shard 3 and hears nothing. */
const BUSY = `
  export default function run({ port, seat }) {
    port.postMessage({ type: "report", report: null });
    new Int32Array(seat, 0, 4).set([1, 1, 3, 0]);
    return new Promise(() => setImmediate(() => { for (;;) {} }));
  }`;

const SURROUNDINGS = {
  config: loadConfig({
    LOCKSTEP_KAFKA_BROKERS: "nowhere:1",
    LOCKSTEP_DATABASE_URL: "postgres://nobody@nowhere/none",
    LOCKSTEP_WORKERS: "1",
  }),
  deployment: {} as never, // the thread looks at none of these
  loaded: { path: "", code: "c", app: { inputs: [{ topic: "in" }] } } as never,
  log: silent,
  clock: systemClock,
  leaveGroup: async () => {},
};

test("a worker that is ended because its time to drain is over was not ended by the step it was in", async () => {
  const calls: string[] = [];
  await withFile("entry.mjs", BUSY, async (path) => {
    const supervisor = startSupervisor({
      ...SURROUNDINGS,
      entry: path,
      suspects: { count: async () => void calls.push("counted") },
      observer: {
        workerStarted: () => calls.push("started"),
        workerReported: () => calls.push("reported"),
        workerEnded: () => calls.push("ended"),
        stepEndedWorker: () => calls.push("step"),
      },
    });
    await until(() => calls.includes("reported"), { what: "the worker to work", timeoutMs: 20_000 });
    expect(await supervisor.stop(50)).toBe(false);
    await until(() => calls.includes("ended"), { what: "the worker's end", timeoutMs: 20_000 });
    expect(calls).toEqual(["started", "reported", "ended"]);
  });
});

test("S-gone, W5: Postgres is away and a worker dies: it is gone from metrics and health at once, and its successor waits for the count", async () => {
  const meter = new WorkerMeter({
    worker: 0,
    owner: "me/0",
    group: "g",
    topics: ["in"],
    actorsMax: 5,
    clock: systemClock,
    log: silent,
    answered: () => 1,
  });
  const shard = meter.shard(3, {
    watermarks: async () => ({ in: { low: 0n, high: 1n } }),
    committed: async () => ({ in: { offset: 0n, metadata: "" } }),
  });
  shard.entered("running");
  const metrics = new ProcessMetrics({ workers: 1, actorsMax: 5, build: { version: "1", code: "c", node: "v20" } });
  const health = new ProcessHealth({ workers: 1, sessionTimeoutMs: 10_000, clock: systemClock, more: [] });
  const shown = (name: MetricName) => {
    metrics.refresh();
    return metrics.samples(name).map(({ value }) => value);
  };
  const calls: string[] = [];
  let isAway = true;

  await withFile("entry.mjs", entry(meter.report()), async (path) => {
    const supervisor = startSupervisor({
      ...SURROUNDINGS,
      entry: path,
      suspects: {
        async count() {
          calls.push(isAway ? "not counted" : "counted");
          if (isAway) throw new LockstepError("STORE_UNAVAILABLE", "away");
        },
      },
      observer: {
        workerStarted(worker) {
          calls.push("started");
          metrics.workerStarted(worker);
          health.workerStarted(worker);
        },
        workerReported(worker, report) {
          calls.push("reported");
          metrics.workerReported(worker, report);
          health.workerReported(worker, report);
        },
        workerEnded(worker) {
          calls.push("ended");
          metrics.workerEnded(worker);
          health.workerEnded(worker);
        },
        stepEndedWorker: () => calls.push("step"),
      },
    });
    try {
      const counts = () => calls.filter((call) => call === "not counted").length;
      await until(() => counts() >= 2, { what: "two attempts to count", timeoutMs: 20_000 });
      expect(calls.slice(0, 4)).toEqual(["started", "reported", "ended", "not counted"]);
      expect(shown("lockstep_worker_up")).toEqual([0]);
      expect(shown("lockstep_shard_state")).toEqual([]);
      for (let i = 0; i < TICKS; i += 1) health.tick();
      expect(await health.checks.livez[0]?.run()).toBeNull();

      isAway = false;
      await until(() => calls.indexOf("started", 1) > 0, { what: "another thread", timeoutMs: 20_000 });
      expect(calls.slice(calls.indexOf("counted"), calls.indexOf("started", 1) + 1)).toEqual([
        "counted",
        "step",
        "started",
      ]);
    } finally {
      await supervisor.stop(5_000);
    }
  });
});
