/** From what a shard's phases tell to what `/metrics` and health show, over reports as they cross the message port. */
import { describe, expect, test } from "vitest";

import type { CommitRequest } from "../../../src/actors/ports.ts";
import { LockstepError } from "../../../src/errors.ts";
import type { Log } from "../../../src/log.ts";
import { createLifeLog } from "../../../src/runtime/life-log.ts";
import { ProcessHealth } from "../../../src/runtime/process-health.ts";
import { ProcessMetrics } from "../../../src/runtime/process-metrics.ts";
import { WorkerMeter, type WorkerReport } from "../../../src/runtime/worker-meter.ts";
import { answerHealth, type Endpoint } from "../../../src/telemetry/health.ts";
import type { MetricName } from "../../../src/telemetry/metrics-list.ts";
import { FakeClock, turn } from "../../support/fake-ports.ts";
import { until } from "../../support/until.ts";
import { Bed } from "./bed.ts";

const silent: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };
const life = createLifeLog(silent);
const reads = {
  watermarks: async () => ({ in: { low: 2n, high: 50n } }),
  committed: async () => ({ in: { offset: 10n, metadata: "" } }),
};

function workerMeter(worker: number, clock = new FakeClock(), answered = () => 1) {
  return new WorkerMeter({
    worker,
    owner: `me/${worker}`,
    group: "g",
    topics: ["in"],
    actorsMax: 5,
    clock,
    log: silent,
    answered,
  });
}
function processMetrics(workers = 2) {
  return new ProcessMetrics({ workers, actorsMax: 5, build: { version: "1", code: "c", node: "v20" } });
}
function shown(metrics: ProcessMetrics, name: MetricName): Record<string, number> {
  metrics.refresh();
  return Object.fromEntries(
    metrics
      .samples(name)
      .filter(({ suffix }) => suffix === "" || suffix === "_count")
      .map(({ labels, value }) => [Object.values(labels).join(" "), value]),
  );
}
/** As a message port gives it. */
const crossed = (report: WorkerReport) => structuredClone(report);

describe("a worker's reports", () => {
  test("WM1: what is counted is in exactly one report, and the last one has the rest", async () => {
    const meter = workerMeter(0);
    meter.assigned([1, 2], 120);
    const reports: WorkerReport[] = [];
    const end = meter.start((report) => reports.push(crossed(report)));
    await until(() => reports.length >= 2, { what: "two reports" });
    meter.assigned([2, 3], 80);
    end();
    const metrics = processMetrics();
    for (const report of reports) metrics.workerReported(0, report);
    expect(shown(metrics, "lockstep_rebalances_total")).toEqual({ moved: 2, kept: 0 });
    expect(shown(metrics, "lockstep_rebalance_shards_total")).toEqual({ gained: 3, kept: 1, lost: 1 });
    expect(shown(metrics, "lockstep_assigned_shards")).toEqual({ "0": 2 });
  });

  test("WM2: a shard that was released is in no further report, nor are its series shown", () => {
    const meter = workerMeter(0);
    const shard = meter.shard(3, reads);
    const metrics = processMetrics();
    shard.entered("acquiring");
    shard.fetched("in", { high: 9n, low: 1n, atMs: 0 });
    shard.acquired(7, { seq: 5, snapshotSeq: 4, positions: { in: 4n } });
    metrics.workerReported(0, crossed(meter.report()));
    expect(shown(metrics, "lockstep_shard_state")).toEqual({ "3 acquiring": 1 });
    expect(shown(metrics, "lockstep_shard_epoch")).toEqual({ "3": 7 });
    expect(shown(metrics, "kafka_consumergroup_lag")).toEqual({ "g in 3": 5 });
    expect(shown(metrics, "kafka_topic_partition_oldest_offset")).toEqual({ "in 3": 1 });

    shard.entered("released");
    const report = meter.report();
    expect(report.shards).toEqual([]);
    metrics.workerReported(0, crossed(report));
    for (const name of ["lockstep_shard_state", "lockstep_shard_epoch", "kafka_consumergroup_lag"] as const)
      expect(shown(metrics, name)).toEqual({});
  });

  test("a rebalance takes from its first word to the assignment; one without a word as long as its join", () => {
    const clock = new FakeClock();
    const meter = workerMeter(0, clock);
    meter.assigned([1], 300);
    meter.rebalancing();
    clock.nowMs += 2_000;
    meter.rebalancing();
    clock.nowMs += 1_000;
    meter.assigned([1], 50);
    const [of] = crossed(meter.report()).series.histograms.filter(
      ([name]) => name === "lockstep_rebalance_duration_seconds",
    );
    expect(of![2]).toMatchObject({ count: 2, sum: 3.3 });
  });

  test("the lag of a halted shard grows, although nothing of it is fetched", async () => {
    const clock = new FakeClock();
    clock.nowMs = 100_000;
    const meter = workerMeter(0, clock);
    const shard = meter.shard(3, reads);
    const log = shard.watch(life);
    shard.entered("acquiring");
    shard.entered("halted");
    log.halted(new LockstepError("POSITIONS_CONTRADICT", "x"));
    const reports: WorkerReport[] = [];
    const end = meter.start((report) => reports.push(crossed(report)));
    const metrics = processMetrics();
    await until(
      () => {
        for (const report of reports.splice(0)) metrics.workerReported(0, report);
        return shown(metrics, "kafka_consumergroup_lag")["g in 3"] === 40;
      },
      { what: "the lag of the halted shard" },
    );
    end();
    expect(shown(metrics, "lockstep_shard_halted")).toEqual({ "3 POSITIONS_CONTRADICT": 1 });
    expect(shown(metrics, "lockstep_shard_halts_total")).toEqual({ POSITIONS_CONTRADICT: 1 });
    expect(shown(metrics, "lockstep_asserts_failed_total")).toEqual({ POSITIONS_CONTRADICT: 1 });
  });
});

describe("a shard that runs", () => {
  test("is measured: commits, records, actors, positions, and nothing of what was only tried", async () => {
    const bed = new Bed();
    const shard = bed.start({ batchRecordsMax: 4 });
    bed.store.before = (call, request) => {
      if (call === "commit" && (request as CommitRequest).rows.some(({ row }) => row["n"] === 3))
        throw new LockstepError("ROW_REFUSED", "numeric field overflow", { details: { sqlstate: "22003" } });
    };
    bed.append(10);
    await until(() => bed.store.rows.length >= 9, { what: "all records" });
    await until(() => bed.meter.positions?.["in"] === 10n, { what: "Kafka to have them" });
    bed.meter.tellGauges(0);
    const metrics = processMetrics();
    const report: WorkerReport = {
      series: bed.series.take(),
      actors: bed.meter.takeActivities(),
      shards: [bed.meter.report()!],
      answeredAgoMs: 0,
    };
    metrics.workerReported(0, crossed(report));

    expect(shown(metrics, "lockstep_records_taken_total")).toEqual({ in: 10 });
    expect(shown(metrics, "lockstep_records_published_total")).toEqual({ out: 9, "in.dlq": 1 });
    expect(shown(metrics, "lockstep_rows_written_total")).toEqual({ "": 9 });
    expect(shown(metrics, "lockstep_dlq_records_total")).toEqual({ "in ROW_REFUSED": 1 });
    expect(shown(metrics, "lockstep_verdicts_total")).toEqual({ ROW_REFUSED: 1 });
    expect(shown(metrics, "lockstep_actor_events_total")).toEqual({ "tally odd stepped": 4, "tally even stepped": 5 });
    expect(shown(metrics, "lockstep_actor_emitted_total")).toEqual({ "tally odd": 4, "tally even": 5 });
    expect(shown(metrics, "lockstep_actor_active")).toEqual({ "tally 0": 2 });
    expect(shown(metrics, "lockstep_end_to_end_latency_seconds")).toEqual({ "": 10 });
    const { seq } = bed.store.row;
    expect(shown(metrics, "lockstep_shard_seq")).toEqual({ "0": seq });
    const tx = shown(metrics, "lockstep_tx_total");
    expect(tx["commit"]).toBe(seq);
    expect(tx["abort"]).toBeGreaterThanOrEqual(2); // the batch, its halves, until the record was alone
    expect(shown(metrics, "lockstep_commit_phase_duration_seconds")).toEqual({ fold: seq, postgres: seq, kafka: seq });
    expect(shown(metrics, "lockstep_shard_owner")).toEqual({ "0 0 me": 1 });
    await shard.revoke("test");
    expect(bed.meter.report()).toBeNull();
  });
});

describe("a process", () => {
  test("keeps what a dead worker counted, and shows its shards and actors no more until another has them", () => {
    const metrics = processMetrics(2);
    metrics.workerStarted(0);
    const meter = workerMeter(0);
    const shard = meter.shard(3, reads);
    shard.entered("acquiring");
    shard.watch(life).tookOver({ epoch: 2, from: "x" });
    const actors = [{ shard: 3, actorType: "tally", key: "a", stepped: 4, threw: 0, emitted: 1, lastMs: 1 }];
    metrics.workerReported(0, crossed({ ...meter.report(), actors }));
    expect(shown(metrics, "lockstep_worker_up")).toEqual({ "0": 1, "1": 0 });
    expect(shown(metrics, "lockstep_actor_events_total")).toEqual({ "tally a stepped": 4 });

    metrics.workerEnded(0);
    expect(shown(metrics, "lockstep_worker_up")).toEqual({ "0": 0, "1": 0 });
    expect(shown(metrics, "lockstep_worker_heap_used_bytes")).toEqual({});
    expect(shown(metrics, "lockstep_shard_state")).toEqual({});
    expect(shown(metrics, "lockstep_actor_events_total")).toEqual({});
    expect(shown(metrics, "lockstep_takeovers_total")).toEqual({ "": 1 });

    metrics.workerStarted(0);
    expect(shown(metrics, "lockstep_worker_restarts_total")).toEqual({ "0": 1, "1": 0 });
    metrics.workerReported(1, crossed({ ...meter.report(), actors }));
    expect(shown(metrics, "lockstep_actor_events_total")).toEqual({ "tally a stepped": 8 });
  });

  test("sums lag over its workers by topic", () => {
    const metrics = processMetrics(2);
    for (const worker of [0, 1]) {
      const meter = workerMeter(worker);
      const shard = meter.shard(worker, reads);
      shard.entered("acquiring");
      shard.acquired(1, { seq: 0, snapshotSeq: 0, positions: { in: 0n } });
      shard.fetched("in", { high: 10n + BigInt(worker), low: 0n, atMs: 0 });
      metrics.workerReported(worker, crossed(meter.report()));
    }
    expect(shown(metrics, "kafka_consumergroup_lag_sum")).toEqual({ "g in": 21 });
  });
});

describe("health of a process", () => {
  function bed() {
    const clock = new FakeClock();
    const health = new ProcessHealth({ workers: 1, sessionTimeoutMs: 10_000, clock, more: [] });
    const meter = workerMeter(0, clock);
    const ask = async (endpoint: Endpoint) => answerHealth(endpoint, health.checks[endpoint], { verbose: true });
    const report = () => health.workerReported(0, crossed(meter.report()));
    return { clock, health, meter, ask, report };
  }
  const well = () => {
    const all = bed();
    all.health.deploymentChecked();
    all.health.workerStarted(0);
    all.meter.assigned([3], 1);
    all.report();
    return all;
  };

  test("is not ready before the deployment is checked and every worker has joined", async () => {
    const { health, meter, ask, report } = bed();
    expect((await ask("readyz")).body).toMatch(/\[-\]kafka failed: worker 0 is being started\n\[-\]migrations failed/);
    health.deploymentChecked();
    health.workerStarted(0);
    report();
    expect((await ask("readyz")).body).toContain("[-]kafka failed: worker 0 has not joined the group yet\n");
    expect((await ask("livez")).status).toBe(200);
    meter.assigned([], 1);
    report();
    expect(await ask("readyz")).toMatchObject({ status: 200 });
  });

  test("is not ready while a shard is acquired, restored or halted; started stays started", async () => {
    const { meter, ask, report } = well();
    const shard = meter.shard(3, reads);
    const log = shard.watch(life);
    shard.entered("acquiring");
    report();
    expect((await ask("startupz")).body).toContain("[-]replay failed: shard 3 is being acquired\n");
    shard.entered("restoring");
    log.replaying({ from: 0, to: 200 });
    log.replayProgress({ seq: 50, to: 200, records: 70 });
    report();
    expect((await ask("startupz")).body).toContain("[-]replay failed: shard 3 is being restored, 25 % replayed\n");
    shard.entered("running");
    report();
    expect([(await ask("startupz")).status, (await ask("readyz")).status]).toEqual([200, 200]);
    shard.entered("halted");
    log.halted(new LockstepError("MACHINE_CHANGED", "x"));
    report();
    expect((await ask("readyz")).body).toContain("[-]shards failed: shard 3 is halted: MACHINE_CHANGED\n");
    expect([(await ask("startupz")).status, (await ask("livez")).status]).toEqual([200, 200]);
  });

  test("is not ready when the coordinator has not answered for a session", async () => {
    const { clock, ask, report } = well();
    clock.nowMs += 9_000;
    report();
    expect((await ask("readyz")).status).toBe(200);
    clock.nowMs += 1_001;
    expect((await ask("readyz")).body).toContain(
      "[-]kafka failed: the group's coordinator has not answered worker 0 for 10 s",
    );
  });

  test("is not ready once it drains", async () => {
    const { health, ask } = well();
    health.stopping();
    expect((await ask("readyz")).body).toContain("[-]shutdown failed: draining\n");
    expect((await ask("livez")).status).toBe(200);
  });

  test("is not alive when a worker is silent for 30 ticks of the main thread; one that is started anew is", async () => {
    const { health, ask, report } = well();
    for (let tick = 0; tick < 30; tick += 1) health.tick();
    expect((await ask("livez")).status).toBe(200);
    health.tick();
    expect(await ask("livez")).toMatchObject({
      status: 503,
      body: expect.stringContaining("nothing heard of worker 0 for 31 s"),
    });
    report();
    expect((await ask("livez")).status).toBe(200);
    for (let tick = 0; tick < 40; tick += 1) health.tick();
    health.workerEnded(0);
    expect((await ask("livez")).status).toBe(200);
    expect((await ask("readyz")).body).toContain("[-]kafka failed: worker 0 is being started");
    await turn();
  });
});
