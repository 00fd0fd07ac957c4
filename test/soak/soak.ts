/**
 * One soak: load and faults side by side, then recovery, stop and audit.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import type { Manifest } from "../../src/cli/app-tools.ts";
import { runAudit } from "../../src/cli/audit.ts";
import { untilRelayed } from "../../src/cli/relay-wait.ts";
import { systemClock } from "../../src/clock.ts";
import { openSender } from "../../src/kafka/sender.ts";
import { DECISIONS_TOPIC } from "../../src/machines/trading/topics.ts";
import { groupIdOf } from "../../src/runtime/deployment.ts";
import { createPool, query } from "../../src/storage/pool.ts";
import { createLog } from "../../src/telemetry/log.ts";
import { carryOut, type Outcome } from "./faults.ts";
import { type FaultCount, type Figures, LAG_ZERO_SECONDS_MAX } from "./figures.ts";
import { GaveUp } from "./instances.ts";
import { type PauseWatch, watchPauses } from "./pauses.ts";
import type { Bed } from "./prepare.ts";
import { FAULT_KINDS, type Fault, type FaultKind, plannedOf, type Schedule } from "./schedule.ts";

/** That run when no round adds any. */
const INSTANCES = 2;
const START_MS = 300_000;
const SAMPLE_MS = 500;
/** Seconds of event time a second: windows of 5 minutes close all the time, and the sender's batches are not too small for a slow broker. */
const SPEED = 20;
/** A drain during which nothing is committed for so long has stalled. */
const STALL_MS = 60_000;
/** For the last records to reach the reader that measures pauses. */
const LAST_RECORDS_MS = 15_000;

/** A fault that was carried out; times of `performance.now()`. */
interface Done {
  readonly kind: FaultKind;
  readonly fromMs: number;
  readonly toMs: number;
  readonly hit: boolean;
}

interface Sampled {
  lag: number;
  lagMax: number;
  memoryBytes: number;
  sent: number;
  behindMs: number;
  round: number;
  under: Set<FaultKind>;
}

/** @throws {Error} something halted, ended by itself or stalled, or the signal aborted */
export async function soak(bed: Bed, run: { schedule: Schedule; signal: AbortSignal }): Promise<Figures> {
  const { instances, progress, config, tools, meter } = bed;
  const { schedule, signal } = run;
  const pauses = await watchPauses({ brokers: config.brokers, topic: DECISIONS_TOPIC });
  const sender = await openSender(
    config.brokers,
    tools.topics.map(({ name }) => name),
  );
  const ended = new AbortController();
  const sampled: Sampled = { lag: 0, lagMax: 0, memoryBytes: 0, sent: 0, behindMs: 0, round: 0, under: new Set() };
  try {
    for (let i = 0; i < INSTANCES; i += 1) await instances.start();
    await instances.until(() => instances.running() === bed.shards, "all shards to run", START_MS);
    const beginMs = performance.now();
    const sampling = sample(bed, { schedule, sampled, beginMs, signal: ended.signal });
    const loading = send(bed, { schedule, sampled, pauses, sender, signal: AbortSignal.any([signal, ended.signal]) });
    loading.catch((error) => instances.fail(`the sender failed: ${(error as Error).stack}`));
    const done = await faults(bed, { schedule, sampled, beginMs });
    ended.abort();
    const [manifest] = await Promise.all([loading, sampling]);
    const seconds = Math.round((performance.now() - beginMs) / 1000);
    await writeFile(join(bed.dir, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);

    progress.say("faults off, nothing more is sent");
    const secondsToLagZero = await recovered(bed);
    await relayed(bed, signal);
    const memoryMb = Math.round(Math.max(sampled.memoryBytes, instances.rssBytes()) / 1_048_576);
    progress.say("stopping the processes (SIGTERM)");
    const ends = await Promise.all(instances.all.map((instance) => instances.stop(instance)));
    instances.check();
    progress.say(`auditing ${manifest.sent.total} records`);
    const say = (line: string) => progress.say(line);
    const { report, reader } = await runAudit({ ...bed, manifest, say });
    const figure = (name: string) => report.figures[name] ?? 0;
    await pauses.until(figure("decisions"), LAST_RECORDS_MS);
    const { longest } = pauses;
    return {
      seed: schedule.seed,
      minutes: schedule.minutes,
      seconds,
      faults: faultCounts(schedule, done),
      records: manifest.sent.total,
      duplicates: manifest.sent.duplicates,
      late: manifest.sent.late,
      poison: manifest.sent.bad,
      decisions: figure("decisions"),
      orders: figure("orders"),
      publishedByRelay: figure("published"),
      commits: await commitsOf(bed),
      counts: instances.counts,
      instancesStarted: instances.started,
      longestPause: longest && { ms: longest.ms, key: longest.key, during: duringOf(longest, done) },
      pauseMs: pauses.percentiles(),
      pausesOf: pauses.decisions,
      lagMax: sampled.lagMax,
      secondsToLagZero,
      memoryMb,
      lost: figure("lost"),
      doubled: figure("doubled"),
      outOfOrder: figure("outOfOrder"),
      auditClean: report.ok,
      findings: report.findings.map(({ kind, text, where }) => `${kind}: ${text} (${where})`),
      reader,
      drained: ends.every(Boolean),
    };
  } finally {
    ended.abort();
    await instances.close();
    await sender.close();
    await pauses.close();
    await meter.close();
  }
}

async function send(
  { options, tools }: Bed,
  parts: {
    schedule: Schedule;
    sampled: Sampled;
    pauses: PauseWatch;
    sender: Awaited<ReturnType<typeof openSender>>;
    signal: AbortSignal;
  },
): Promise<Manifest> {
  const { schedule, sampled, pauses, sender, signal } = parts;
  const load = tools.load({
    // Longer than it will be: it ends when the last fault has.
    seconds: secondsMax(schedule),
    rate: options.rate,
    symbols: 20,
    speed: SPEED,
    duplicates: 0.05,
    late: 0.01,
    bad: 0.005,
    seed: schedule.seed,
  });
  return load.run({
    signal,
    send: async (batch) => {
      await sender.send(batch);
      pauses.arrived(batch);
    },
    onProgress: ({ sent, behindMs }) => {
      sampled.sent = sent;
      sampled.behindMs = behindMs;
    },
  });
}

/** Round after round. The first of each kind is carried out whatever it takes, the rest while there is time. */
async function faults(
  bed: Bed,
  { schedule, sampled, beginMs }: { schedule: Schedule; sampled: Sampled; beginMs: number },
): Promise<Done[]> {
  const { instances, progress } = bed;
  const done: Done[] = [];
  const sinceMs = () => performance.now() - beginMs;
  const one = async (fault: Fault): Promise<void> => {
    const fromMs = performance.now();
    sampled.under.add(fault.kind);
    progress.say(`${clockOf(sinceMs())}  ${fault.kind}${fault.ms > 0 ? ` for ${fault.ms} ms` : ""}`);
    const { seen, hit } = await carryOut(fault, bed).catch(gaveUp);
    sampled.under.delete(fault.kind);
    done.push({ kind: fault.kind, fromMs, toMs: performance.now(), hit });
    progress.say(`${clockOf(sinceMs())}  ${fault.kind}: ${hit ? "" : "NOT HIT: "}${seen}`);
  };
  const durationMs = schedule.minutes * 60_000;
  for (const [index, { atMs, fault, companion }] of schedule.rounds.entries()) {
    if (sinceMs() > durationMs && index >= FAULT_KINDS.length) break;
    if (sinceMs() > secondsMax(schedule) * 1000) break;
    await pass(bed, Math.max(0, atMs - sinceMs()));
    sampled.round = index + 1;
    const both = [one(fault)];
    if (companion) both.push(systemClock.sleep(companion.afterMs).then(() => one(companion)));
    // Both to their end, also when one has failed: nothing goes on behind the back of what comes next.
    const outcomes = await Promise.allSettled(both);
    const failures = outcomes.filter((outcome) => outcome.status === "rejected").map(({ reason }) => reason);
    if (failures.length > 0) throw failures.length === 1 ? failures[0] : new AggregateError(failures, String(failures));
  }
  await pass(bed, Math.max(0, durationMs - sinceMs()));
  instances.check();
  return done;
}

/** What did not come about in time did not hit; what must, at last, is in figures.ts. */
function gaveUp(error: unknown): Outcome {
  if (error instanceof GaveUp) return { seen: error.message, hit: false };
  throw error;
}

/** Lets time pass, as long as nothing fails. */
async function pass({ instances }: Bed, ms: number): Promise<void> {
  const endMs = performance.now() + ms;
  while (instances.check() && performance.now() < endMs)
    await systemClock.sleep(Math.min(100, endMs - performance.now()));
}

async function sample(
  { instances, meter, progress, shards }: Bed,
  parts: { schedule: Schedule; sampled: Sampled; beginMs: number; signal: AbortSignal },
): Promise<void> {
  const { schedule, sampled, beginMs, signal } = parts;
  while (!signal.aborted) {
    sampled.memoryBytes = Math.max(sampled.memoryBytes, instances.rssBytes());
    sampled.lag = await meter.measure().catch(() => sampled.lag); // The broker is down: the next sample has it.
    sampled.lagMax = Math.max(sampled.lagMax, sampled.lag);
    const { takeovers, relayTakeovers, redoPublished, fenced } = instances.counts;
    progress.update(
      [
        `${clockOf(performance.now() - beginMs)} of ${schedule.minutes}:00`,
        `round ${sampled.round}/${schedule.rounds.length}${sampled.under.size > 0 ? ` ${[...sampled.under].join(" + ")}` : ""}`,
        `sent ${sampled.sent}`,
        `lag ${sampled.lag}`,
        `shards ${instances.running()}/${shards} in ${instances.all.length} processes`,
        `takeovers ${takeovers} + relay ${relayTakeovers}, redo ${redoPublished}, fenced ${fenced}`,
        sampled.behindMs > 1_000 ? `sender ${Math.round(sampled.behindMs / 1000)} s behind` : "",
      ]
        .filter((part) => part !== "")
        .join(" | "),
    );
    await systemClock.sleep(SAMPLE_MS, signal);
  }
}

/** Until Kafka has the positions of all that was sent. @returns seconds; null: it took longer than it may */
async function recovered({ instances, meter, progress }: Bed): Promise<number | null> {
  const beginMs = performance.now();
  let best = { left: Number.POSITIVE_INFINITY, atMs: beginMs };
  for (;;) {
    instances.check();
    const left = await meter.measure();
    const nowMs = performance.now();
    const seconds = Math.round((nowMs - beginMs) / 100) / 10;
    if (left === 0) {
      progress.say(`the lag is 0 after ${seconds} s`);
      return seconds <= LAG_ZERO_SECONDS_MAX ? seconds : null;
    }
    if (left < best.left) best = { left, atMs: nowMs };
    if (nowMs - best.atMs > STALL_MS)
      throw new Error(`${left} records are left and nothing has moved for ${STALL_MS / 1000} s`);
    progress.update(`draining: ${left} records left, ${seconds} s`);
    await systemClock.sleep(100);
  }
}

async function relayed(bed: Bed, signal: AbortSignal): Promise<void> {
  const { config, loaded, instances, progress } = bed;
  const reached = await untilRelayed({
    config,
    app: loaded.app,
    groupId: groupIdOf(config, loaded),
    stallMs: STALL_MS,
    signal,
    onProgress: (behindBytes) => {
      instances.check();
      progress.update(`waiting for the relay: ${behindBytes} bytes of log behind`);
    },
  });
  instances.check();
  if (!reached) throw new Error(`the relay has not moved for ${STALL_MS / 1000} s`);
}

async function commitsOf({ config }: Bed): Promise<number> {
  const log = createLog({ level: "error", fd: 2 });
  const pool = createPool(config.databaseUrl, { max: 1, applicationName: "lockstep-soak", log });
  try {
    const { rows } = await query<{ commits: string }>(pool, "SELECT sum(seq)::text AS commits FROM lockstep.shard");
    return Number(rows[0]!.commits);
  } finally {
    await pool.end();
  }
}

function faultCounts(schedule: Schedule, done: readonly Done[]): Record<FaultKind, FaultCount> {
  const planned = plannedOf(schedule);
  const count = (kind: FaultKind): FaultCount => {
    const ofKind = done.filter((each) => each.kind === kind);
    return { planned: planned[kind], carriedOut: ofKind.length, hit: ofKind.filter(({ hit }) => hit).length };
  };
  return Object.fromEntries(FAULT_KINDS.map((kind) => [kind, count(kind)])) as Record<FaultKind, FaultCount>;
}

function duringOf({ fromMs, toMs }: { fromMs: number; toMs: number }, done: readonly Done[]): FaultKind[] {
  return done.filter((each) => each.fromMs < toMs && each.toMs > fromMs).map(({ kind }) => kind);
}

/** Beyond it the machine is too slow for what was planned, and the faults that are left are not carried out. */
function secondsMax({ minutes }: Schedule): number {
  return (2 * minutes + 10) * 60;
}

/** minutes:seconds */
function clockOf(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}
