/**
 * Records of a path in a deployment in memory, with a crash at one step of one commit: what is in the topics and tables at the end is
 * what a run without a crash leaves.
 */
import { type App, outputTopics } from "../../actors/app.ts";
import type { OutputRecord } from "../../actors/record.ts";
import { Cluster } from "../cluster.ts";
import { createFaults, NO_FAULTS } from "../faults.ts";
import { judgeCluster } from "../oracle.ts";
import { stillToDo } from "../progress.ts";
import { createRandom, type Random } from "../random.ts";
import type { TableShape } from "../tables.ts";
import type { TimedEvent } from "./events.ts";

/** The steps of one commit: a crash at each of them is one after the step before, and before the step after. */
export const COMMIT_POINTS = [
  "take.before",
  "fold.before",
  "fold.after",
  "pg.begun",
  "pg.updated",
  "pg.before-commit",
  "pg.commit-sent",
  "pg.committed",
  "kafka.begun",
  "kafka.produced",
  "kafka.offsets-sent",
  "kafka.before-end",
  "kafka.ended",
  "commit.done",
] as const;

export interface Crash {
  readonly point: (typeof COMMIT_POINTS)[number];
  /** Of the path, from 0: the point is passed in the commit that takes this step. */
  readonly step: number;
}

/** What is run with crashes. */
export interface CrashPath {
  readonly app: App;
  readonly tables: Readonly<Record<string, TableShape>>;
  readonly records: readonly OutputRecord[];
  /** What the records bring, for the message of a fault. */
  readonly path: readonly TimedEvent[];
}

export interface CrashOutcome {
  /** Whether the point was passed: a crash that did not happen proves nothing. */
  readonly happened: boolean;
  /** Records and rows, as text, in order. */
  readonly left: string;
  readonly faults: readonly string[];
}

/** No ticks: the path itself says when time passes. Short sessions: who takes over need not wait for long. */
const CONFIG = {
  batchRecordsMax: 1,
  idleMs: 3_600_000,
  inputWaitMsMax: 60_000,
  handoverMs: 0,
  snapshotCommits: 2,
  sessionTimeoutMs: 400,
  heartbeatIntervalMs: 100,
  rebalanceTimeoutMs: 300,
};
const TIMEOUT_MS = 120_000;
const LOOK_MS = 10;
const RESTART_MS = 10;
/** Longer than what a process that was killed still has under way. */
const QUIET_MS = 1_000;
/** Crashes in each path that is drawn: each path also costs a run without one. */
const PLACES_PER_PATH = 5;

export interface CrashRuns {
  readonly faults: readonly { readonly path: readonly TimedEvent[]; readonly what: string }[];
  readonly crashes: number;
  /** Where there could be one: each point of each commit of each path. */
  readonly places: number;
}

/**
 * Runs paths with a crash each.
 * @param first of these every place
 * @param others of these some places of some paths, by chance, as long as there is room
 * @param options.max runs with a crash
 */
export async function crashPaths(
  first: readonly CrashPath[],
  others: readonly CrashPath[],
  options: { readonly max: number; readonly random: Random },
): Promise<CrashRuns> {
  const { max, random } = options;
  const places = [...first, ...others].reduce((sum, { records }) => sum + records.length * COMMIT_POINTS.length, 0);
  const chosen = first.flatMap(placesOf);
  const left = [...others];
  const spare: typeof chosen = [];
  while (chosen.length < max && left.length > 0) {
    const some = placesOf(take(left, random));
    for (let i = 0; i < PLACES_PER_PATH && some.length > 0; i += 1) chosen.push(take(some, random));
    spare.push(...some);
  }
  while (chosen.length < max && spare.length > 0) chosen.push(take(spare, random));
  chosen.length = Math.min(chosen.length, max);
  const faults: { path: readonly TimedEvent[]; what: string }[] = [];
  const undisturbed = new Map<CrashPath, CrashOutcome>();
  for (const { one, crash } of chosen) {
    const { path } = one;
    let without = undisturbed.get(one);
    if (!without) {
      without = await runWithCrash(one, null);
      undisturbed.set(one, without);
      for (const fault of without.faults) faults.push({ path, what: `without a crash: ${fault}` });
    }
    const fault = faultOf(await runWithCrash(one, crash), without);
    if (fault !== null)
      faults.push({ path, what: `with a crash at ${crash.point} of step ${crash.step + 1} ${fault}` });
  }
  return { faults, crashes: chosen.length, places };
}

function placesOf(one: CrashPath): { one: CrashPath; crash: Crash }[] {
  return one.records.flatMap((_, step) => COMMIT_POINTS.map((point) => ({ one, crash: { point, step } })));
}

function faultOf(outcome: CrashOutcome, without: CrashOutcome): string | null {
  if (!outcome.happened) return "nothing happened: the point was not passed";
  if (outcome.faults.length > 0) return outcome.faults.join("; ");
  return outcome.left === without.left ? null : `it left\n${outcome.left}\ninstead of\n${without.left}`;
}

/** Takes one out of a list, wherever it stands. */
function take<T>(list: T[], random: Random): T {
  const at = random.between(0, list.length - 1);
  const taken = list[at]!;
  list[at] = list.at(-1)!;
  list.pop();
  return taken;
}

/**
 * Runs a path, one step a commit: the next record is sent when the one before is committed on both sides.
 * @param crash null: without one
 * @param onStart for what a test does to the deployment
 */
export async function runWithCrash(
  { app, tables, records }: CrashPath,
  crash: Crash | null,
  onStart: (cluster: Cluster) => void = () => {},
): Promise<CrashOutcome> {
  const random = createRandom(`${crash?.point} ${crash?.step}`);
  let isArmed = false;
  let happened = false;
  let livesBefore = 0;
  const cluster: Cluster = new Cluster({
    app,
    shards: 1,
    random,
    faults: createFaults(NO_FAULTS, random),
    config: CONFIG,
    tables,
    onPoint(point, { process }) {
      if (!isArmed || happened || point !== crash?.point) return;
      happened = true;
      livesBefore = livesOf(cluster);
      cluster.kill(process);
      cluster.schedule.after(RESTART_MS, () => void cluster.start());
      return new Promise(() => {});
    },
  });
  const { schedule, kafka, halts } = cluster;
  const faults: string[] = [];
  cluster.start();
  onStart(cluster);
  for (const [i, record] of records.entries()) {
    kafka.log(record.topic, 0).append([record], null);
    isArmed = crash?.step === i;
    // The last point is passed when all is committed already.
    faults.push(...(await untilTaken(cluster, () => happened || !isArmed)));
    if (faults.length > 0) break;
  }
  if (happened) {
    // Also after a crash at the very last point: who stops before it owns the shard has nothing to drain.
    const isBack = () => halts.length > 0 || livesOf(cluster) > livesBefore;
    if (!(await schedule.runUntil(isBack, { timeoutMs: TIMEOUT_MS }))) faults.push("no process took the shard over");
    await schedule.runFor(QUIET_MS);
  }
  faults.push(...halts.map(({ error }) => `it halted: ${error.message}`));
  if (faults.length === 0) faults.push(...(await stop(cluster)));
  if (faults.length === 0) faults.push(...judgeCluster(cluster).faults);
  return { happened, left: textOfAll(cluster), faults };
}

/** How often the shard began to run. */
function livesOf({ events }: Cluster): number {
  return events.get("running") ?? 0;
}

/** @returns why it was not, or nothing */
async function untilTaken(cluster: Cluster, hasCrashed: () => boolean): Promise<string[]> {
  const { schedule, halts } = cluster;
  let lookAgainMs = 0;
  const isDone = () => {
    if (halts.length > 0) return true;
    if (schedule.nowMs < lookAgainMs) return false;
    lookAgainMs = schedule.nowMs + LOOK_MS;
    // After a crash at the very last point a process starts again too.
    return hasCrashed() && cluster.running.length > 0 && stillToDo(cluster).length === 0;
  };
  return (await schedule.runUntil(isDone, { timeoutMs: TIMEOUT_MS })) ? [] : stillToDo(cluster);
}

async function stop(cluster: Cluster): Promise<string[]> {
  const { schedule, running } = cluster;
  const drained: boolean[] = [];
  for (const one of running)
    cluster.stop(one).then(
      (isDrained) => drained.push(isDrained),
      (error: unknown) => schedule.fail(error),
    );
  const count = running.length;
  await schedule.runUntil(() => drained.length === count, { timeoutMs: TIMEOUT_MS });
  return count > 0 && drained.length === count && drained.every(Boolean) ? [] : ["it did not stop in order"];
}

function textOfAll({ app, kafka, postgres }: Cluster): string {
  const records = outputTopics(app).flatMap((topic) =>
    kafka
      .readTopic(topic)
      .map(
        ({ key, value, headers, timestampMs }) =>
          `${topic} ${timestampMs} ${key} ${value} ${headers.map(([name, content]) => `${name}=${content}`).join(" ")}`,
      ),
  );
  return [...records, ...postgres.rows.map(({ table, row }) => `${table} ${JSON.stringify(row)}`)].join("\n");
}
