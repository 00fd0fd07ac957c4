/**
 * `/metrics` of real processes: what it shows is what was done, in the documented names, and of this process' shards alone.
 */
import { expect, test } from "vitest";

import { METRICS, type MetricDefinition } from "../../src/telemetry/metrics-list.ts";
import { Victim } from "../support/fault-victim.ts";
import { type Deployment, withDeployment } from "../support/harness.ts";
import { addressOf, type Scrape, scrape } from "../support/scrape.ts";
import { until } from "../support/until.ts";

const list = METRICS as Readonly<Record<string, MetricDefinition>>;

/** Late is only what the load sent late: no ticks, no input left waiting for. */
const ON_TIME = { LOCKSTEP_IDLE_MS: "3600000", LOCKSTEP_INPUT_WAIT_MS_MAX: "20000" };

/** Until what was committed shows: a report is at most a second old. */
async function settled(url: string, records: number): Promise<Scrape> {
  return until(
    async () => {
      const shown = await scrape(url);
      const figures = {
        taken: shown.sum("lockstep_records_taken_total"),
        lag: shown.sum("kafka_consumergroup_lag_sum"),
        // Counted when Postgres has it, confirmed when Kafka has it too.
        unconfirmed: shown.sum("lockstep_shard_seq") - shown.sum("lockstep_shard_confirmed_seq"),
        unfinished:
          shown.sum("lockstep_tx_total", { outcome: "commit" }) -
          shown.sum("lockstep_tx_duration_seconds_count", { outcome: "commit" }),
      };
      const { taken, ...rest } = figures;
      if (taken !== records || Object.values(rest).some((each) => each !== 0)) throw new Error(JSON.stringify(figures));
      return shown;
    },
    { what: `${records} records to show` },
  );
}

const isWorkerWithShards = ({ name, value }: { name: string; value: number }) =>
  name === "lockstep_assigned_shards" && value > 0;

/** Shards that a metric shows, as numbers. */
const shards = (shown: Scrape, name: string, label = "shard") => shown.values(name, label).map(Number);

test("during a run /metrics shows, in the documented names, what was done", async () => {
  await withDeployment({ app: "trading", env: { ...ON_TIME, LOCKSTEP_RELAY: "on" } }, async (deployment) => {
    deployment.start("one");
    await deployment.untilRunning();
    const url = await addressOf(deployment, "one");
    // Actors of a shard that moves from worker to worker are not shown until they do something again.
    await until(async () => (await scrape(url)).samples.filter(isWorkerWithShards).length === 2, {
      what: "both workers to have shards",
    });
    // At a pace of its own, not as a backlog, the load keeps the inputs close together (G5), so that just what is meant to be late is late.
    const { sent } = await deployment.load({ rate: 500, seconds: 6, late: 0.02, bad: 0.02, duplicates: 0.05 });
    await deployment.untilDrained();
    const shown = await settled(url, sent.total);

    // Names, types and labels.
    for (const [name, { type }] of Object.entries(list)) expect([name, shown.types.get(name)]).toEqual([name, type]);
    for (const name of shown.types.keys()) if (!(name in list)) expect(name).toMatch(/^(nodejs|process)_/);
    for (const { name, labels } of shown.samples) {
      expect(labels).toMatchObject({ app: "trading", group: deployment.groupId });
      const metric = list[name] ?? list[name.replace(/_(bucket|sum|count)$/, "")];
      const own = Object.keys(labels).filter((label) => !["app", "group", "le", "quantile"].includes(label));
      if (metric) expect([name, own.sort()]).toEqual([name, [...metric.labels].sort()]);
    }

    // What was sent, and what became of it.
    const state = await deployment.query<{
      shard: number;
      seq: number;
      epoch: number;
      counters: Record<string, number>;
    }>("SELECT shard, seq::int, epoch::int FROM lockstep.shard ORDER BY shard");
    expect(shown.sum("lockstep_dlq_records_total")).toBe(sent.bad);
    expect(shown.sum("lockstep_late_events_total")).toBe(sent.late);
    expect(shown.sum("lockstep_app_counter_total", { counter: "duplicatesIgnored" })).toBeGreaterThan(0);
    expect(shown.sum("lockstep_records_published_total", { topic: "trading.late" })).toBe(sent.late);
    const [{ orders, outbox } = { orders: 0, outbox: 0 }] = await deployment.query<{ orders: number; outbox: number }>(
      "SELECT (SELECT count(*)::int FROM app.orders) AS orders, (SELECT count(*)::int FROM app.outbox) AS outbox",
    );
    expect(shown.sum("lockstep_rows_written_total")).toBe(orders + outbox);
    const stepped = shown.sum("lockstep_actor_events_total", { actor_type: "window", result: "stepped" });
    expect(stepped).toBeGreaterThanOrEqual(sent.total - sent.bad - sent.late); // and timers
    expect(shown.sum("lockstep_end_to_end_latency_seconds_count")).toBe(sent.total);

    // Shards.
    const all = state.map(({ shard }) => shard);
    for (const { shard, seq, epoch } of state) {
      const of = { shard: String(shard) };
      expect(shown.sum("lockstep_shard_seq", of)).toBe(seq);
      expect(shown.sum("lockstep_shard_confirmed_seq", of)).toBe(seq);
      expect(shown.sum("lockstep_shard_epoch", of)).toBe(epoch);
      expect(shown.sum("lockstep_shard_state", { ...of, state: "running" })).toBe(1);
      expect(shown.sum("lockstep_shard_owner", of)).toBe(1);
    }
    expect(shown.sum("lockstep_tx_total", { outcome: "commit" })).toBe(state.reduce((sum, { seq }) => sum + seq, 0));
    expect(shown.sum("lockstep_tx_duration_seconds_count", { outcome: "commit" })).toBe(
      shown.sum("lockstep_tx_total", { outcome: "commit" }),
    );
    expect(shards(shown, "kafka_consumergroup_lag", "partition")).toEqual(all);
    expect(shown.sum("kafka_consumergroup_current_offset")).toBe(sent.total);
    expect(shown.sum("kafka_topic_partition_current_offset")).toBe(sent.total);
    expect(shown.sum("kafka_topic_partition_oldest_offset")).toBe(0);

    // The process.
    expect(shown.sum("lockstep_worker_up")).toBe(2);
    expect(shown.sum("lockstep_assigned_shards")).toBe(all.length);
    expect(shown.sum("lockstep_asserts_failed_total")).toBe(0);
    await until(async () => (await scrape(url)).sum("lockstep_relay_records_total") === outbox, {
      what: "the relay to have published the outbox",
    });
    const lag = shown.samples.filter(({ name }) => name === "lockstep_worker_event_loop_lag_seconds");
    expect(lag.map(({ labels }) => labels["quantile"]).sort()).toEqual(["0.5", "0.5", "0.99", "0.99", "1", "1"]);
    for (const { value } of lag) expect(value).toBeLessThan(30);
    await deployment.stopAll();
  });
});

test("after a rebalance the series of shards that went are gone, and none is shown by two; a kill brings them back", async () => {
  await withDeployment({ app: "trading" }, async (deployment) => {
    const { shardCount } = deployment;
    deployment.start("one");
    await deployment.untilRunning();
    const one = await addressOf(deployment, "one");
    await deployment.load({ total: 1_500, speed: 1 });
    await deployment.untilDrained();
    const before = await settled(one, 1_500);
    expect(shards(before, "lockstep_shard_state")).toHaveLength(shardCount);
    const keysBefore = before.values("lockstep_actor_events_total", "key");

    deployment.start("two");
    await deployment.untilTrue(
      () => deployment.running("two").length > 0 && deployment.running().length === shardCount,
      "both processes to run shards",
    );
    const two = await addressOf(deployment, "two");
    await deployment.load({ total: 1_500, seed: 2, speed: 1 });
    await deployment.untilDrained();
    const [left, right] = await until(
      async () => {
        const both = [await scrape(one), await scrape(two)] as const;
        const taken = both.reduce((sum, shown) => sum + shown.sum("lockstep_records_taken_total"), 0);
        const held = both.map((shown) => shards(shown, "lockstep_shard_owner"));
        return taken === 3_000 && held.flat().length === shardCount && both;
      },
      { what: "both processes to show what they took, and every shard once" },
    );
    const mine = shards(left, "lockstep_shard_owner");
    expect(mine).toEqual(deployment.running("one"));
    expect(shards(right, "lockstep_shard_owner")).toEqual(deployment.running("two"));
    for (const name of PER_SHARD) expect([name, shards(left, name)]).toEqual([name, mine]);
    for (const name of ["kafka_consumergroup_lag", "kafka_topic_partition_current_offset"])
      expect([name, shards(left, name, "partition")]).toEqual([name, mine]);
    const keys = left.values("lockstep_actor_events_total", "key");
    expect(keys.length).toBeLessThan(keysBefore.length);
    expect(keys.filter((key) => right.values("lockstep_actor_events_total", "key").includes(key))).toEqual([]);
    expect(left.sum("lockstep_rebalances_total")).toBeGreaterThan(before.sum("lockstep_rebalances_total"));
    expect(left.sum("lockstep_rebalance_shards_total", { change: "lost" })).toBeGreaterThanOrEqual(
      shardCount - mine.length,
    );

    await deployment.kill("two");
    await deployment.untilRunning();
    const after = await until(
      async () => {
        const shown = await scrape(one);
        return shards(shown, "lockstep_shard_owner").length === shardCount && shown;
      },
      { what: "all shards to show" },
    );
    expect(after.sum("lockstep_takeovers_total")).toBe(shardCount - mine.length);
    for (const { name, labels, value } of left.samples) {
      if (left.types.get(name) !== "counter" || "key" in labels) continue;
      const { app: _, group: __, ...own } = labels;
      expect([name, own, after.sum(name, labels)]).toEqual([name, own, Math.max(value, after.sum(name, labels))]);
    }
    await deployment.stopAll();
  });
});

test("CM1: commits whose outcome was unknown, or that were fenced, are counted once, by the process that folded them", async () => {
  const env = { ...ON_TIME, LOCKSTEP_TRANSACTION_TIMEOUT_MS: "60000" };
  await withDeployment({ app: "trading", env }, async (deployment) => {
    const { shardCount } = deployment;
    // Each shard that commits often enough meets all of them: Kafka had not got the commit, Kafka had, Postgres did not answer COMMIT, twice.
    const points = ["kafka.offsets-sent:2", "kafka.ended:4", "pg.commit-sent:3", "pg.committed:5"];
    const one = new Victim(deployment, { name: "one", points: points.map((point) => `${point}:throw`).join(",") });
    await deployment.untilRunning();
    const urls = [await addressOf(deployment, "one")];
    const met = () => new Set(one.hits().map(({ point, pass }) => `${point}:${pass}`));
    let sent = 0;
    // A slow machine makes few and large commits.
    for (let round = 1; round <= 10 && met().size < points.length; round += 1) {
      sent += (await deployment.load({ seconds: 3, rate: 300, seed: round })).sent.total;
      await untilCounted(deployment, urls, sent);
    }
    expect([...met()].sort()).toEqual([...points].sort());

    // Stopped between Postgres and Kafka, replaced, woken: its commit was published by the other process.
    const two = new Victim(deployment, { name: "two", points: "pg.committed:2:stop" });
    await deployment.untilTrue(() => deployment.running("two").length > 0, "the second process to run shards");
    await deployment.untilRunning();
    urls.push(await addressOf(deployment, "two"));
    const load = deployment.load({ seconds: 6, rate: 300, seed: 100 });
    const { shard } = await two.untilHit();
    await deployment.untilTrue(
      () => deployment.running("one").length === shardCount,
      "the first process to have taken over",
    );
    two.letRun();
    await two.untilEvent("fenced", shard);
    sent += (await load).sent.total;
    await deployment.untilRunning();
    await untilCounted(deployment, urls, sent);
    const shown = await Promise.all(urls.map(scrape));
    expect(shown[1]!.sum("lockstep_fenced_total")).toBeGreaterThanOrEqual(1);
    expect(shown[0]!.sum("lockstep_redo_published_total")).toBeGreaterThanOrEqual(1);
    await deployment.stopAll();
  });
});

/** Until the processes show together what Postgres has: no more, and no less. */
async function untilCounted(deployment: Deployment, urls: readonly string[], sent: number): Promise<void> {
  await deployment.untilDrained();
  await until(
    async () => {
      const [stored] = await deployment.query<Record<string, number>>(
        `SELECT (SELECT sum(seq)::int FROM lockstep.shard) AS commits, (SELECT sum(taken)::int FROM lockstep.journal) AS taken,
           (SELECT count(*)::int FROM app.orders) + (SELECT count(*)::int FROM app.outbox) AS rows`,
      );
      const shown = await Promise.all(urls.map(scrape));
      const sum = (name: string, labels = {}) => shown.reduce((all, each) => all + each.sum(name, labels), 0);
      const counted = {
        commits: sum("lockstep_tx_total", { outcome: "commit" }),
        taken: sum("lockstep_records_taken_total"),
        rows: sum("lockstep_rows_written_total"),
      };
      const set = {
        late: [sum("lockstep_late_events_total"), sum("lockstep_records_published_total", { topic: "trading.late" })],
        bad: [sum("lockstep_dlq_records_total"), publishedAside(shown)],
      };
      const differs = stored!["taken"] !== sent || JSON.stringify(counted) !== JSON.stringify(stored);
      if (differs || set.late[0] !== set.late[1] || set.bad[0] !== set.bad[1])
        throw new Error(JSON.stringify({ sent, stored, counted, set }));
      return true;
    },
    { what: "the counts to be what Postgres has" },
  );
}

const publishedAside = (shown: readonly Scrape[]) =>
  shown
    .flatMap(({ samples }) => samples)
    .filter(({ name, labels }) => name === "lockstep_records_published_total" && labels["topic"]!.endsWith(".dlq"))
    .reduce((sum, { value }) => sum + value, 0);

/** Of shards that run. */
const PER_SHARD = [
  "lockstep_shard_state",
  "lockstep_shard_epoch",
  "lockstep_shard_seq",
  "lockstep_shard_confirmed_seq",
  "lockstep_shard_snapshot_seq",
  "lockstep_shard_stream_time_seconds",
  "lockstep_shard_timers",
  "lockstep_shard_queue_records",
  "lockstep_shard_paused_inputs",
  "lockstep_actor_active",
];
