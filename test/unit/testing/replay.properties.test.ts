/**
 * What a restore must give, whatever came before it: properties of the whole runtime, over Kafka and Postgres in memory. fast-check
 * prints seed and path of a failure; both go into `fc.assert(..., { seed, path })` to see it again.
 */
import fc from "fast-check";
import { expect, test } from "vitest";

import { decodeJournal, encodeJournal } from "../../../src/actors/journal-codec.ts";
import type { Config } from "../../../src/config.ts";
import { Cluster } from "../../../src/testing/cluster.ts";
import { createFaults, NO_FAULTS } from "../../../src/testing/faults.ts";
import { COMMIT_POINTS } from "../../../src/testing/generated/crash.ts";
import { judgeCluster } from "../../../src/testing/oracle.ts";
import { stillToDo } from "../../../src/testing/progress.ts";
import { createRandom } from "../../../src/testing/random.ts";
import { ENTERED, ledger, ledgerTables, SETTLED } from "../../simulation/ledger.ts";

const RUNS = 25;
/** Seconds of work, on a busy machine many. */
const LONG = { timeout: 120_000 };
const TIMEOUT_MS = 120_000;
const QUIET_MS = 5_000;
const NO_SNAPSHOTS = { snapshotCommits: 1e6, snapshotMs: 1e9 };
const INPUTS = ["ledger.cash", "ledger.card"] as const;

interface Entry {
  readonly topic: (typeof INPUTS)[number];
  readonly account: string;
  readonly kind: "add" | "hold" | "poison";
  /** 13 is refused by Postgres. */
  readonly n: number;
  /** Event time. */
  readonly at: number;
  /** When it is sent, virtual ms. */
  readonly sentMs: number;
}

const entry = (topics: readonly Entry["topic"][]) =>
  fc.record<Entry>({
    topic: fc.constantFrom(...topics),
    account: fc.constantFrom("a1", "a2", "a3"),
    kind: fc.constantFrom("add" as const, "hold" as const, "hold" as const, "poison" as const),
    n: fc.integer({ min: 10, max: 15 }),
    at: fc.integer({ min: 0, max: 20_000 }),
    sentMs: fc.integer({ min: 0, max: 1_500 }),
  });

type OnPoint = (cluster: Cluster, point: string, kill: () => Promise<never>) => void | Promise<void>;

function deploy(entries: readonly Entry[], config: Partial<Config>, onPoint: OnPoint = () => {}): Cluster {
  const random = createRandom(1);
  const cluster: Cluster = new Cluster({
    app: ledger,
    shards: 1,
    random,
    faults: createFaults(NO_FAULTS, random),
    config: { sessionTimeoutMs: 400, heartbeatIntervalMs: 100, rebalanceTimeoutMs: 300, handoverMs: 0, ...config },
    tables: ledgerTables,
    onPoint: (point, { process }) =>
      onPoint(cluster, point, () => {
        cluster.kill(process);
        cluster.schedule.after(10, () => void cluster.start());
        return new Promise(() => {});
      }),
  });
  for (const { topic, account, kind, n, at, sentMs } of entries) {
    const value = Buffer.from(JSON.stringify({ account, way: topic, n, at, kind }));
    const record = { topic, partition: 0, key: Buffer.from(account), value, headers: [], timestampMs: BigInt(at) };
    cluster.schedule.after(sentMs, () => cluster.kafka.log(topic, 0).append([record], null));
  }
  cluster.start();
  return cluster;
}

/** Runs until all is taken and published, and then for as long as anything might still happen. */
async function untilQuiet({ schedule, halts, running }: Cluster, cluster: Cluster, sentMs: number): Promise<void> {
  await schedule.runFor(Math.max(0, sentMs - schedule.nowMs));
  const isDone = () => halts.length > 0 || (running.length > 0 && stillToDo(cluster).length === 0);
  expect(await schedule.runUntil(isDone, { timeoutMs: TIMEOUT_MS })).toBe(true);
  await schedule.runFor(QUIET_MS);
  expect(halts).toEqual([]);
}

async function stop(cluster: Cluster): Promise<void> {
  const stopped = cluster.stop(cluster.running[0]!);
  let drained: boolean | null = null;
  stopped.then(
    (outcome) => {
      drained = outcome;
    },
    (error: unknown) => cluster.schedule.fail(error),
  );
  await cluster.schedule.runUntil(() => drained !== null, { timeoutMs: TIMEOUT_MS });
  expect(drained).toBe(true);
  expect(judgeCluster(cluster).faults).toEqual([]);
}

/** The state of the latest snapshot, as bytes. */
function stateOf({ postgres }: Cluster): string {
  const { row, snapshots } = postgres.of(0);
  const { seq, token, pieces } = snapshots.at(-1)!.manifest;
  expect(seq).toBe(row.seq);
  const all = Array.from({ length: pieces }, (_, piece) => postgres.pieces.get(`0/${seq}/${token}/${piece}`)!);
  return Buffer.concat(all).toString();
}

function orderOf({ postgres }: Cluster): string {
  const { history } = postgres.of(0);
  return history.map(({ journal }) => encodeJournal(journal)).join("\n");
}

test("interleavings recorded in the journal replay identically", LONG, async () => {
  const orders = new Set<string>();
  let replayed = 0;
  let verdicts = 0;
  let ticks = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(entry(INPUTS), { minLength: 5, maxLength: 40 }),
      fc.record({ batchRecordsMax: fc.integer({ min: 1, max: 10 }), inputWaitMsMax: fc.constantFrom(0, 20, 200) }),
      async (entries, config) => {
        const kept = deploy(entries, { ...config, ...NO_SNAPSHOTS });
        const killed = deploy(entries, { ...config, ...NO_SNAPSHOTS });
        for (const cluster of [kept, killed]) await untilQuiet(cluster, cluster, 1_500);
        expect(orderOf(killed)).toBe(orderOf(kept));
        await stop(kept);

        // All that is left is the journal, in the form in which Postgres keeps it.
        const tables = killed.postgres.of(0);
        expect(tables.snapshots).toEqual([]);
        killed.kill(killed.running[0]!.process);
        tables.journal = tables.journal.map((row) => ({ ...row, journal: decodeJournal(encodeJournal(row.journal)) }));
        killed.start();
        await killed.schedule.runFor(QUIET_MS);
        await stop(killed);

        expect(killed.events.get("replaying")).toBe(1);
        expect(orderOf(killed)).toBe(orderOf(kept));
        expect(stateOf(killed)).toBe(stateOf(kept));
        orders.add(orderOf(kept));
        const journals = tables.history.map(({ journal }) => journal);
        replayed += journals.length;
        verdicts += journals.reduce((sum, journal) => sum + journal.verdicts.length, 0);
        ticks += journals.flatMap(({ entries: all }) => all).filter(({ kind }) => kind === "tick").length;
      },
    ),
    { numRuns: RUNS },
  );
  // The property is of something: chance did decide, and all that a journal can hold was in one.
  expect(orders.size).toBeGreaterThan(RUNS / 2);
  for (const count of [replayed, verdicts, ticks]) expect(count).toBeGreaterThan(10);
});

test("the same records in another order of arrival give another journal, and each replays", async () => {
  const entries = Array.from({ length: 20 }, (_, i): Entry => {
    return { topic: INPUTS[i % 2]!, account: "a1", kind: "add", n: 10 + (i % 3), at: 100 * i, sentMs: 0 };
  });
  const orders = new Set<string>();
  for (const lateMs of [0, 300, 600]) {
    const sent = entries.map((one) => ({ ...one, sentMs: one.topic === "ledger.card" ? lateMs : 0 }));
    const cluster = deploy(sent, { inputWaitMsMax: 50, batchRecordsMax: 3, ...NO_SNAPSHOTS });
    await untilQuiet(cluster, cluster, 600);
    cluster.kill(cluster.running[0]!.process);
    cluster.start();
    await cluster.schedule.runFor(QUIET_MS);
    await stop(cluster);
    const taken = cluster.postgres.of(0).history.flatMap(({ journal }) => journal.entries);
    orders.add(taken.flatMap((run) => (run.kind === "run" ? Array(run.count).fill(run.topic) : [])).join());
  }
  expect(orders.size).toBeGreaterThan(1);
});

test("timers fire at the same stream time after any restore", LONG, async () => {
  let fired = 0;
  let crashes = 0;
  const crash = fc.record({
    point: fc.constantFrom(...COMMIT_POINTS, "restore.row", "snapshot.piece"),
    after: fc.integer({ min: 1, max: 6 }),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(entry(["ledger.cash"]), { minLength: 5, maxLength: 25 }),
      fc.array(crash, { minLength: 1, maxLength: 6 }),
      fc.record({ batchRecordsMax: fc.integer({ min: 1, max: 4 }), snapshotCommits: fc.constantFrom(1, 2, 5, 1_000) }),
      async (drawn, plan, config) => {
        // One input and no ticks, so that its order is the order taken; at the end a record that lets every timer fire.
        const inOrder = drawn.map((one, i) => ({ ...one, sentMs: 10 * i }));
        const last: Entry = { topic: "ledger.cash", account: "a1", kind: "add", n: 10, at: 60_000, sentMs: 400 };
        const entries = [...inOrder, last];
        const still = { ...config, idleMs: 3_600_000 };
        const calm = deploy(entries, still);
        await untilQuiet(calm, calm, 400);

        const left = [...plan];
        let passed = 0;
        const crashed = deploy(entries, still, (_cluster, point, kill) => {
          const next = left[0];
          if (next?.point !== point) return;
          passed += 1;
          if (passed < next.after) return;
          left.shift();
          passed = 0;
          crashes += 1;
          return kill();
        });
        await untilQuiet(crashed, crashed, 400);
        expect(timersOf(crashed)).toEqual(timersOf(calm));
        fired += timersOf(calm).length;
        for (const cluster of [calm, crashed]) await stop(cluster);
      },
    ),
    { numRuns: RUNS },
  );
  expect(fired).toBeGreaterThan(RUNS);
  expect(crashes).toBeGreaterThan(RUNS);
});

/** What timers published, each with its stream time twice: as the machine saw it, and as Kafka's timestamp. */
function timersOf({ kafka }: Cluster): string[] {
  expect(kafka.readTopic(ENTERED).length).toBeGreaterThan(0);
  return kafka.readTopic(SETTLED).map(({ value, timestampMs, headers }) => {
    const id = headers.find(([name]) => name === "lockstep-id")![1];
    return `${timestampMs} ${value} ${id}`;
  });
}
