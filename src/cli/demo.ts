/**
 * `lockstep demo`: the main job on real Kafka and Postgres, started by one line, and judged by the audit.
 *
 *   1. stack     from the environment, or embedded
 *   2. topics, tables, instance
 *   3. fleet     `node dist/main.js run`, the file an operator starts; one process, with --chaos two
 *   4. load      open loop, or, with --backlog, all of it before the fleet starts
 *   5. drain     until Kafka has all of it, and the relay has passed the last row of the outbox
 *   6. stop      SIGTERM: everything drained, exit code 0
 *   7. audit     with the load's manifest; then the table, or one JSON object
 *
 * Exit code 0 only if lost, doubled and outOfOrder are 0, the audit has no finding, and every figure that must be above 0 is.
 */
import { randomBytes } from "node:crypto";
import { rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { outboxOf } from "../actors/app.ts";
import { systemClock } from "../clock.ts";
import { type Config, loadConfig } from "../config.ts";
import { LockstepError } from "../errors.ts";
import { createKafkaClient } from "../kafka/client.ts";
import { openSender } from "../kafka/sender.ts";
import { applyTopics } from "../kafka/topics.ts";
import { type LoadedApp, loadApp } from "../runtime/code.ts";
import { groupIdOf } from "../runtime/deployment.ts";
import { freePorts } from "../stack/free-ports.ts";
import { type Stack, startStack } from "../stack/index.ts";
import { createLog } from "../telemetry/log.ts";
import { type AppTools, type LoadOptions, loadTools, type Manifest } from "./app-tools.ts";
import { runAudit } from "./audit.ts";
import { planChaos } from "./chaos.ts";
import { judge, type Outcome, show } from "./demo-outcome.ts";
import { type Fleet, startFleet } from "./fleet.ts";
import { type LagWatch, watchLag } from "./lag.ts";
import { type MeasuredLatency, progressOf, watchLatencies } from "./latency-watch.ts";
import { migrateAll } from "./migrate.ts";
import { createProgress, EXIT, type Progress } from "./output.ts";
import { untilRelayed } from "./relay-wait.ts";

export interface DemoOptions extends Omit<LoadOptions, "total"> {
  readonly chaos: boolean;
  readonly kills: number;
  readonly backlog?: number;
  readonly workers: number;
  readonly dir: string;
  readonly keep: boolean;
  readonly json: boolean;
}

/** Short, so that a killed owner's shards are taken over within seconds; an operator's default is longer. */
const CHAOS_SESSION_MS = 3_000;
const MAIN = fileURLToPath(new URL("../main.js", import.meta.url));
const START_MS = 60_000;
/** For the last records to reach the consumer that measures latency. */
const LAST_RECORDS_MS = 10_000;
/** A drain that makes no progress for so long is a failure. */
const STALL_MS = 60_000;

interface Demo {
  readonly options: DemoOptions;
  readonly config: Config;
  readonly loaded: LoadedApp;
  readonly tools: AppTools;
  readonly progress: Progress;
  readonly dir: string;
  readonly env: NodeJS.ProcessEnv;
  readonly shardCount: number;
  /** The processes host relays, and what they publish is measured and judged. */
  readonly relayed: boolean;
}

export async function demo(options: DemoOptions, env: NodeJS.ProcessEnv): Promise<number> {
  const progress = createProgress(process.stderr, env);
  const dir = resolve(options.dir, `demo-${randomBytes(3).toString("hex")}`);
  const stop = stopOnSignals();
  let stack: Stack | null = null;
  let ok = false;
  try {
    progress.say("starting Kafka and Postgres");
    stack = await startStack({
      dir: options.dir,
      env,
      log: (line) => progress.say(line),
      kafkaConfig: { "group.min.session.timeout.ms": "1000" },
    });
    const ready = await prepare(options, env, { stack, progress, dir });
    const outcome = await carryOut(ready, stop);
    progress.end();
    const faults = judge(ready, outcome);
    ok = faults.length === 0;
    show(ready, outcome, faults);
    if (!ok) progress.say(`logs of the processes: ${dir}`);
    return ok ? EXIT.ok : EXIT.failure;
  } finally {
    progress.end();
    await stack?.stop();
    if (ok && !options.keep) await rm(dir, { recursive: true, force: true });
  }
}

async function prepare(
  options: DemoOptions,
  env: NodeJS.ProcessEnv,
  made: { stack: Stack; progress: Progress; dir: string },
): Promise<Demo> {
  const { stack, progress, dir } = made;
  // One forced take at 60 times the clock would make signals late that nobody sent late: wait for inputs longer than any fault lasts.
  const patience = { LOCKSTEP_INPUT_WAIT_MS_MAX: "60000" };
  const session = options.chaos
    ? {
        LOCKSTEP_SESSION_TIMEOUT_MS: String(CHAOS_SESSION_MS),
        LOCKSTEP_HEARTBEAT_INTERVAL_MS: "500",
        LOCKSTEP_RELAY_TIMEOUT_MS: String(CHAOS_SESSION_MS),
      }
    : {};
  const runEnv: NodeJS.ProcessEnv = {
    ...env,
    ...patience,
    ...session,
    // The end of the log is waited for: let the position follow it soon.
    LOCKSTEP_RELAY_POSITION_MS: "1000",
    LOCKSTEP_KAFKA_BROKERS: stack.kafka!.brokers.join(","),
    LOCKSTEP_DATABASE_URL: stack.postgres!.url,
    LOCKSTEP_WORKERS: String(options.workers),
  };
  const config = loadConfig(runEnv);
  const loaded = await loadApp(config.app);
  const tools = await loadTools(loaded);
  const log = createLog({ level: "error", fd: 2 });
  const client = createKafkaClient({ brokers: config.brokers, clientId: "lockstep-demo", logger: log });
  await applyTopics(client, tools.topics);
  const { instance } = await migrateAll(config, loaded, log);
  if (!instance.created) {
    throw new LockstepError(
      "IDENTITY_CHANGED",
      `Instance "${config.instance}" is in this database already. The demo counts from zero: give it an empty database and empty topics, or leave LOCKSTEP_KAFKA_BROKERS and LOCKSTEP_DATABASE_URL unset.`,
    );
  }
  progress.say(
    `Kafka ${config.brokers.join(",")}, Postgres, ${tools.topics.length} topics, ${instance.shards} shards; logs in ${dir}`,
  );
  const withRelay = config.relay && outboxOf(loaded.app) !== null;
  return {
    options,
    config,
    loaded,
    tools,
    progress,
    dir,
    env: runEnv,
    shardCount: instance.shards,
    relayed: withRelay,
  };
}

async function carryOut(ready: Demo, stop: AbortSignal): Promise<Outcome> {
  const { options, config, tools, progress } = ready;
  const load = tools.load({ ...options, ...(options.backlog === undefined ? {} : { total: options.backlog }) });
  const measured = tools.demo.latencies.filter(({ relayed: byRelay = false }) => ready.relayed || !byRelay);
  const latencies = options.backlog === undefined ? await watchLatencies(config.brokers, measured, load) : [];
  const lag = watchLag({
    brokers: config.brokers,
    groupId: groupIdOf(config, ready.loaded),
    topics: ready.loaded.app.inputs.map((definition) => definition.topic),
    shards: ready.shardCount,
  });
  const sender = await openSender(
    config.brokers,
    tools.topics.map(({ name }) => name),
  );
  let fleet: Fleet | null = null;
  try {
    const backlog =
      options.backlog === undefined ? null : await send(ready, { load, sender, stop, fleet: null, latencies, lag });
    const processes = options.chaos ? 2 : 1;
    const httpPorts = await freePorts(processes);
    fleet = startFleet({
      processes,
      main: MAIN,
      env: ready.env,
      httpPorts,
      dir: ready.dir,
      clock: systemClock,
      relay: ready.relayed,
    });
    if (config.http)
      progress.say(`metrics: ${httpPorts.map((port) => `http://${config.httpHost}:${port}/metrics`).join(", ")}`);
    const startedMs = systemClock.monotonicMs();
    await allRunning(fleet, ready, stop);
    const memory = watchMemory(fleet);
    const runningMs = systemClock.monotonicMs();
    const manifest = backlog ?? (await loadWithChaos(ready, { load, sender, stop, fleet, latencies, lag }));
    await drained(ready, { fleet, lag, stop, total: manifest.sent.total });
    if (ready.relayed) await relayed(ready, fleet, stop);
    const drain = backlog ? { records: manifest.sent.total, ms: systemClock.monotonicMs() - runningMs } : null;
    if (drain)
      progress.say(
        `drained ${drain.records} records in ${(drain.ms / 1000).toFixed(1)} s (start of the processes: ${((runningMs - startedMs) / 1000).toFixed(1)} s)`,
      );
    const rssMb = memory.stop();
    progress.say("stopping the processes (SIGTERM)");
    const drainedCleanly = await fleet.stop(config.drainMs + 5_000);
    progress.say("auditing");
    await writeFile(join(ready.dir, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
    const { report, reader } = await runAudit({
      config,
      loaded: ready.loaded,
      tools,
      manifest,
      env: ready.env,
      say: (line) => progress.say(line),
    });
    for (const { output, watch } of latencies) await watch.until(report.figures[output.figure] ?? 0, LAST_RECORDS_MS);
    return {
      report,
      reader,
      latencies: latencies.map(({ output, watch }) => ({
        ...output,
        received: watch.received,
        percentiles: watch.percentiles(),
      })),
      rssMb,
      fleet,
      drainedCleanly,
      drain,
    };
  } finally {
    fleet?.kill();
    lag.stop();
    await sender.close();
    for (const { watch } of latencies) await watch.close();
  }
}

interface Load {
  readonly load: ReturnType<AppTools["load"]>;
  readonly sender: Awaited<ReturnType<typeof openSender>>;
  readonly stop: AbortSignal;
  readonly fleet: Fleet | null;
  readonly latencies: readonly MeasuredLatency[];
  readonly lag: LagWatch;
}

async function send(ready: Demo, { load, sender, stop, fleet, latencies, lag }: Load): Promise<Manifest> {
  const { progress } = ready;
  return load.run({
    signal: stop,
    send: sender.send,
    onProgress: ({ sent, total, behindMs }) => {
      fleet?.check();
      progress.update(
        [
          `sent ${sent}/${total}`,
          fleet ? `lag ${lag.value()}` : "",
          fleet ? `shards ${fleet.running()}/${ready.shardCount}` : "",
          ...latencies.map(progressOf),
          fleet && ready.options.chaos
            ? `kills ${fleet.counts.kills}, takeovers ${fleet.counts.takeovers} + relay ${fleet.counts.relayTakeovers}, redo ${fleet.counts.redoPublished}, fenced ${fleet.counts.fenced}`
            : "",
          behindMs > 250 ? `sender ${Math.round(behindMs)} ms behind` : "",
        ]
          .filter((part) => part !== "")
          .join(" | "),
      );
    },
  });
}

async function loadWithChaos(ready: Demo, parts: Load & { fleet: Fleet }): Promise<Manifest> {
  const { options, progress, config } = ready;
  if (!options.chaos) return send(ready, parts);
  const plan = planChaos({
    seed: options.seed,
    durationMs: options.seconds * 1000,
    kills: options.kills,
    processes: 2,
    sessionTimeoutMs: config.sessionTimeoutMs,
  });
  const ended = new AbortController();
  const chaos = parts.fleet.chaos(plan, {
    lag: () => parts.lag.value(),
    signal: AbortSignal.any([parts.stop, ended.signal]),
    say: (text) => progress.say(text),
  });
  try {
    const manifest = await send(ready, parts);
    await Promise.race([chaos, systemClock.sleep(plan.pauseMs + 5_000)]); // a pause that began before the end is seen through
    return manifest;
  } finally {
    ended.abort();
    await chaos;
  }
}

async function allRunning(fleet: Fleet, ready: Demo, stop: AbortSignal): Promise<void> {
  const until = systemClock.monotonicMs() + START_MS;
  while (fleet.running() < ready.shardCount) {
    fleet.check();
    if (stop.aborted) throw new Error("stopped");
    if (systemClock.monotonicMs() > until)
      throw new Error(
        `only ${fleet.running()} of ${ready.shardCount} shards run after ${START_MS / 1000} s; logs in ${ready.dir}${fleet
          .halts()
          .map((h) => `\n${h}`)
          .join("")}`,
      );
    ready.progress.update(`waiting for the shards: ${fleet.running()}/${ready.shardCount}`);
    await systemClock.sleep(50, stop);
  }
  ready.progress.say(`all ${ready.shardCount} shards are running`);
}

/** Until the relay has published every row that stands in the outbox now. */
async function relayed(ready: Demo, fleet: Fleet, stop: AbortSignal): Promise<void> {
  const { config, loaded, progress, dir } = ready;
  const reached = await untilRelayed({
    config,
    app: loaded.app,
    groupId: groupIdOf(config, loaded),
    stallMs: STALL_MS,
    signal: stop,
    onProgress: (behindBytes) => {
      fleet.check();
      if (fleet.halts().length > 0) throw new Error(`halted: ${fleet.halts()[0]}`);
      progress.update(`waiting for the relay: ${behindBytes} bytes of log behind`);
    },
  });
  if (!reached)
    throw new Error(stop.aborted ? "stopped" : `the relay has not moved for ${STALL_MS / 1000} s; logs in ${dir}`);
}

/** Until Kafka has the positions of all that was sent. */
async function drained(
  ready: Demo,
  parts: { fleet: Fleet; lag: LagWatch; stop: AbortSignal; total: number },
): Promise<void> {
  const { fleet, lag, stop } = parts;
  const startMs = systemClock.monotonicMs();
  let best = Number.POSITIVE_INFINITY;
  let bestMs = startMs;
  for (;;) {
    const left = await lag.measure();
    const now = systemClock.monotonicMs();
    if (left === 0) return;
    if (left < best) {
      best = left;
      bestMs = now;
    }
    fleet.check();
    if (stop.aborted) throw new Error("stopped");
    if (fleet.halts().length > 0) throw new Error(`halted: ${fleet.halts()[0]}`);
    if (now - bestMs > STALL_MS)
      throw new Error(`${left} records are left and nothing has moved for ${STALL_MS / 1000} s; logs in ${ready.dir}`);
    ready.progress.update(
      `draining: ${left} records left, shards ${fleet.running()}/${ready.shardCount}, ${((now - startMs) / 1000).toFixed(0)} s`,
    );
    await systemClock.sleep(100, stop);
  }
}

function watchMemory(fleet: Fleet): { stop(): number } {
  let peak = 0;
  const timer = setInterval(() => {
    peak = Math.max(peak, fleet.rssBytes());
  }, 500);
  return {
    stop() {
      clearInterval(timer);
      return Math.round(Math.max(peak, fleet.rssBytes()) / 1_048_576);
    },
  };
}

function stopOnSignals(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => controller.abort());
  return controller.signal;
}
