/**
 * A path through a machine in a deployment in memory, with a crash at one step of one commit: what is in the topics and tables at
 * the end is what a run without a crash leaves.
 */
import { outputTopics } from "../../actors/app.ts";
import { Cluster } from "../cluster.ts";
import { createFaults, NO_FAULTS } from "../faults.ts";
import { judgeCluster } from "../oracle.ts";
import { stillToDo } from "../progress.ts";
import { createRandom } from "../random.ts";
import { EMITTED_TABLE, type Hosting } from "./hosted.ts";
import type { Path } from "./paths.ts";

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

/**
 * Runs a path, one step a commit: the next record is sent when the one before is committed on both sides.
 * @param crash null: without one
 * @param onStart for what a test does to the deployment
 */
export async function runWithCrash(
  hosting: Hosting,
  path: Path,
  crash: Crash | null,
  onStart: (cluster: Cluster) => void = () => {},
): Promise<CrashOutcome> {
  const random = createRandom(`${crash?.point} ${crash?.step}`);
  let isArmed = false;
  let happened = false;
  const cluster: Cluster = new Cluster({
    app: hosting.app,
    shards: 1,
    random,
    faults: createFaults(NO_FAULTS, random),
    config: CONFIG,
    tables: { [EMITTED_TABLE]: { unique: [["id"]] } },
    onPoint(point, { process }) {
      if (!isArmed || happened || point !== crash?.point) return;
      happened = true;
      cluster.kill(process);
      cluster.schedule.after(RESTART_MS, () => void cluster.start());
      return new Promise(() => {});
    },
  });
  const { schedule, kafka, halts } = cluster;
  const faults: string[] = [];
  cluster.start();
  onStart(cluster);
  for (const [i, step] of path.entries()) {
    const record = hosting.record(step);
    kafka.log(record.topic, 0).append([record], null);
    isArmed = crash?.step === i;
    faults.push(...(await untilTaken(cluster)));
    if (faults.length > 0) break;
  }
  if (happened) await schedule.runFor(QUIET_MS);
  faults.push(...halts.map(({ error }) => `it halted: ${error.message}`));
  if (faults.length === 0) faults.push(...(await stop(cluster)));
  if (faults.length === 0) faults.push(...judgeCluster(cluster).faults);
  return { happened, left: textOfAll(cluster), faults };
}

/** @returns why it was not, or nothing */
async function untilTaken(cluster: Cluster): Promise<string[]> {
  const { schedule, halts } = cluster;
  let lookAgainMs = 0;
  const isDone = () => {
    if (halts.length > 0) return true;
    if (schedule.nowMs < lookAgainMs) return false;
    lookAgainMs = schedule.nowMs + LOOK_MS;
    // After a crash at the very last point a process starts again too.
    return cluster.running.length > 0 && stillToDo(cluster).length === 0;
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
