/**
 * `npm run test:overload`: what a deployment does with more than it can take, while Postgres answers late.
 *
 *   1. stack      Kafka and Postgres; between the processes and Postgres a proxy that holds back every byte
 *   2. capacity   what is committed a second while four times as much is offered
 *   3. steady     a new process, half the capacity, until its memory no longer rises: what the work itself needs
 *   4. overload   four times the capacity, for `--seconds`
 *   5. recovery   nothing more is sent; until the lag is 0
 *   6. stop       SIGTERM: everything drained, exit code 0
 *   7. audit      of every record of the run, with the sender's manifest
 *
 * Postgres is as far away from the first phase on, and each way: a statement is answered twice `--delay-ms` later.
 *
 * Capacity is measured as it is met in the overload: behind the same delay, with sender, broker and database busy on the same machine.
 * Only then are four times as much four times what this deployment can take. That matters for the recovery: four times the capacity C
 * for T seconds leaves 3CT records, so to be through with them in 2T it has to go one and a half times as fast as C once nobody sends
 * any more.
 *
 * Steady memory is that of the process which meets the overload then, at rest, at a load that it keeps up with (figures.ts judges that it
 * did): less than at full load, where queues are already full and nothing could be seen to grow. A process that has just started
 * is not at rest: for half a minute and more heaps grow to the size that their load makes them, arenas fill, code is compiled, and what
 * is measured meanwhile says how long one waited. So the phase goes on until memory no longer rises (rest.ts has the rule), for two
 * minutes at most; a process that rises on is a failure, whatever the overload does to it.
 *
 * Exit code 0 only if the load was offered, memory and recovery stayed within their limits (figures.ts) and the audit is clean.
 */
import { randomBytes } from "node:crypto";
import { rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { loadTools } from "../../src/cli/app-tools.ts";
import { runAudit } from "../../src/cli/audit.ts";
import { type Fleet, startFleet } from "../../src/cli/fleet.ts";
import { type LagMeter, openLagMeter } from "../../src/cli/lag.ts";
import { migrateAll } from "../../src/cli/migrate.ts";
import { createProgress, EXIT, type Progress, printJson } from "../../src/cli/output.ts";
import { systemClock } from "../../src/clock.ts";
import { loadConfig } from "../../src/config.ts";
import { createKafkaClient } from "../../src/kafka/client.ts";
import { applyTopics } from "../../src/kafka/topics.ts";
import { loadApp } from "../../src/runtime/code.ts";
import { groupIdOf } from "../../src/runtime/deployment.ts";
import { freePorts } from "../../src/stack/free-ports.ts";
import { type Stack, startStack } from "../../src/stack/index.ts";
import { createLog } from "../../src/telemetry/log.ts";
import { inheritedEnv, MAIN } from "../support/deployment-settings.ts";
import { TcpProxy } from "../support/tcp-proxy.ts";
import { until } from "../support/until.ts";
import { type Figures, faultsOf, ratioOf, table } from "./figures.ts";
import { Load, UNLIMITED } from "./load.ts";
import { Rest } from "./rest.ts";

interface Options {
  readonly seconds: number;
  readonly delayMs: number;
  readonly workers: number;
  readonly keep: boolean;
  readonly json: boolean;
}

const USAGE = `Usage: npm run test:overload -- [options]

  --seconds <n>    length of the overload (default 60)
  --delay-ms <n>   what is sent to Postgres, and what it answers, is held back for so long (default 200)
  --workers <n>    threads of the process under test (default 2)
  --keep           keep logs when all went well (they are kept when something failed)
  --json           print one JSON object on stdout`;

/** Records that wait while everything gets warm: more than one full commit of every shard. */
const BACKLOG = 20_000;
const WARM_RECORDS = 40_000;
/** What was committed in so long is the rate. */
const CAPACITY_MS = 10_000;
const STEADY_SHARE = 0.5;
/** Memory that rises for longer, under a load that it keeps up with, is a leak. */
const STEADY_MS_MAX = 120_000;
const OVERLOAD_FACTOR = 4;
const SAMPLE_MS = 250;
const START_MS = 120_000;
/** A drain during which nothing is committed for so long has stalled. */
const STALL_MS = 60_000;

interface Bed {
  readonly options: Options;
  readonly progress: Progress;
  readonly fleet: Fleet;
  readonly load: Load;
  readonly meter: LagMeter;
}

export async function main(args: readonly string[]): Promise<number> {
  const options = optionsOf(args);
  if (typeof options === "string") {
    process.stderr.write(`${options}\n`);
    return args.includes("--help") ? EXIT.ok : EXIT.usage;
  }
  for (const [signal, number] of [
    ["SIGINT", 2],
    ["SIGTERM", 15],
  ] as const)
    process.once(signal, () => process.exit(128 + number));
  const progress = createProgress(process.stderr, process.env);
  const dir = resolve(".lockstep", `overload-${randomBytes(3).toString("hex")}`);
  let stack: Stack | null = null;
  let proxy: TcpProxy | null = null;
  let failed = true;
  try {
    progress.say("starting Kafka and Postgres");
    stack = await startStack({ log: (line) => progress.say(line) });
    const server = new URL(stack.postgres!.url);
    proxy = await TcpProxy.open({ host: server.hostname, port: Number(server.port || 5432) });
    const figures = await run(options, { stack, proxy, dir, progress });
    const faults = faultsOf(figures);
    progress.end();
    if (options.json) printJson({ ...figures, ratio: ratioOf(figures), ok: faults.length === 0, faults });
    else process.stdout.write(`${table(figures)}\n`);
    for (const fault of faults) process.stderr.write(`FAILED: ${fault}\n`);
    failed = faults.length > 0;
    return failed ? EXIT.failure : EXIT.ok;
  } finally {
    progress.end();
    await proxy?.close();
    await stack?.stop();
    if (failed) progress.say(`logs of the process: ${dir}`);
    else if (!options.keep) await rm(dir, { recursive: true, force: true });
  }
}

async function run(
  options: Options,
  made: { stack: Stack; proxy: TcpProxy; dir: string; progress: Progress },
): Promise<Figures> {
  const { stack, proxy, dir, progress } = made;
  const env: NodeJS.ProcessEnv = {
    ...inheritedEnv(),
    LOCKSTEP_APP: "trading",
    LOCKSTEP_KAFKA_BROKERS: stack.kafka!.brokers.join(","),
    LOCKSTEP_DATABASE_URL: stack.postgres!.url,
    LOCKSTEP_WORKERS: String(options.workers),
    // A take that does not wait for the other inputs would make signals late that nobody sent late.
    LOCKSTEP_INPUT_WAIT_MS_MAX: "20000",
    LOG_LEVEL: process.env["LOG_LEVEL"] ?? "info",
  };
  const config = loadConfig(env);
  const loaded = await loadApp(config.app);
  const tools = await loadTools(loaded);
  const log = createLog({ level: "error", fd: 2 });
  const client = createKafkaClient({ brokers: config.brokers, clientId: "lockstep-overload", logger: log });
  await applyTopics(client, tools.topics);
  const { instance } = await migrateAll(config, loaded, log);
  const delayed = new URL(config.databaseUrl);
  delayed.hostname = "127.0.0.1";
  delayed.port = String(proxy.port);
  proxy.toxics.latencyMs = options.delayMs;

  const topics = loaded.app.inputs.map((definition) => definition.topic);
  const shards = instance.shards;
  const meter = openLagMeter({ brokers: config.brokers, groupId: groupIdOf(config, loaded), topics, shards });
  const load = await Load.start(env);
  const start = async <T>(name: string, work: (bed: Bed) => Promise<T>): Promise<T> => {
    const fleet = startFleet({
      processes: 1,
      main: MAIN,
      env: { ...env, LOCKSTEP_DATABASE_URL: delayed.href },
      httpPorts: await freePorts(1),
      relay: true,
      dir: join(dir, name),
      clock: systemClock,
    });
    const bed: Bed = { options, progress, fleet, load, meter };
    const kill = () => fleet.kill();
    process.once("exit", kill); // by a signal: nothing below is reached then
    try {
      await until(() => check(bed) && fleet.running() === shards, { what: "all shards to run", timeoutMs: START_MS });
      const result = await work(bed);
      progress.say("stopping the process (SIGTERM)");
      drained &&= await fleet.stop(config.drainMs + 10_000);
      return result;
    } finally {
      fleet.kill();
      process.off("exit", kill);
    }
  };
  let drained = true;
  try {
    progress.say(`Postgres answers ${2 * options.delayMs} ms late; logs in ${dir}`);
    const capacity = await start("capacity", measureCapacity);
    // A process of its own: what the measurement has left in memory would make "steady" look larger than it is.
    const measured = await start("overload", (bed) => measure(bed, capacity));
    const manifest = await load.finish();
    await writeFile(join(dir, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
    progress.say(`auditing ${manifest.sent.total} records`);
    const say = (line: string) => progress.say(line);
    const { report } = await runAudit({ config, loaded, tools, manifest, env, say });
    const { lost, doubled, outOfOrder } = report.figures as Record<"lost" | "doubled" | "outOfOrder", number>;
    return {
      ...measured,
      records: manifest.sent.total,
      lost,
      doubled,
      outOfOrder,
      auditClean: report.ok,
      findings: report.findings.map(({ kind, text, where }) => `${kind}: ${text} (${where})`),
      drained,
    };
  } finally {
    await load.close();
    await meter.close();
  }
}

type Measured = Pick<
  Figures,
  | "capacityPerSecond"
  | "offeredPerSecond"
  | "wantedPerSecond"
  | "committedPerSecond"
  | "seconds"
  | "delayMs"
  | "steadyPerSecond"
  | "steadyLag"
  | "steadyMb"
  | "steadySeconds"
  | "atRest"
  | "peakMb"
  | "lagMax"
  | "secondsToLagZero"
  | "drainedPerSecond"
>;

async function measure(bed: Bed, capacity: number): Promise<Measured> {
  const { options, fleet, load, meter } = bed;
  const steadyRate = capacity * STEADY_SHARE;
  load.pace(steadyRate);
  const rest = new Rest();
  const steady = await watch(bed, STEADY_MS_MAX, `steady, ${Math.round(steadyRate)} records/s`, (rss, atMs) => {
    rest.add(rss, atMs);
    return rest.isReached;
  });

  const wanted = capacity * OVERLOAD_FACTOR;
  load.pace(wanted);
  const before = load.sent;
  const { committed: committedBefore } = await meter.offsets();
  const beginMs = performance.now();
  const overload = await watch(bed, options.seconds * 1000, `overload, ${Math.round(wanted)} records/s`);
  const offeredMs = performance.now() - beginMs;
  const offered = load.sent - before;
  load.pace(0);
  const { ends, committed } = await meter.offsets();
  const recovery = await drain(bed, "recovering");
  const peak = Math.max(...overload.rss, ...recovery.rss, fleet.rssBytes());
  return {
    capacityPerSecond: Math.round(capacity),
    wantedPerSecond: Math.round(wanted),
    offeredPerSecond: Math.round((offered * 1000) / offeredMs),
    committedPerSecond: Math.round((Number(committed - committedBefore) * 1000) / offeredMs),
    seconds: options.seconds,
    delayMs: options.delayMs,
    steadyPerSecond: Math.round(steadyRate),
    steadyLag: steady.lags.at(-1)!,
    steadyMb: megabytes(rest.bytes),
    steadySeconds: Math.round(steady.ms / 1000),
    atRest: rest.isReached,
    peakMb: megabytes(peak),
    lagMax: Math.max(...overload.lags, Number(ends - committed)),
    secondsToLagZero: Math.round(recovery.ms / 100) / 10,
    drainedPerSecond: Math.round((Number(ends - committed) * 1000) / recovery.ms),
  };
}

/**
 * Records committed a second while four times as much is offered: the pace follows what is committed until the two agree, and then
 * the counting begins. First a backlog is held until the code is compiled and the broker is warm.
 */
async function measureCapacity(bed: Bed): Promise<number> {
  const { load, meter, progress } = bed;
  let warmAtMs: number | null = null;
  const recent: { atMs: number; committed: bigint }[] = [];
  for (;;) {
    check(bed);
    const { ends, committed } = await meter.offsets();
    const nowMs = performance.now();
    recent.push({ atMs: nowMs, committed });
    while (nowMs - recent[0]!.atMs > CAPACITY_MS) recent.shift();
    const from = recent[0]!;
    const rate = (Number(committed - from.committed) * 1000) / Math.max(1, nowMs - from.atMs);
    if (warmAtMs === null) {
      load.pace(UNLIMITED, Number(committed) + BACKLOG);
      if (committed >= WARM_RECORDS) warmAtMs = nowMs;
    } else if (nowMs - warmAtMs < 2 * CAPACITY_MS) {
      load.pace(OVERLOAD_FACTOR * rate);
    } else {
      load.pace(0);
      if (rate < 1)
        throw new Error(`nothing was committed for ${CAPACITY_MS / 1000} s: there is no capacity to measure`);
      progress.say(`capacity: ${Math.round(rate)} records/s`);
      await drain(bed, "draining what was sent to measure it");
      return rate;
    }
    progress.update(`measuring the capacity: ${Math.round(rate)} records/s committed, lag ${ends - committed}`);
    await systemClock.sleep(SAMPLE_MS);
  }
}

/** Samples for so long, or until `isEnough`: `rss` in bytes, `lags` in records. */
async function watch(
  bed: Bed,
  ms: number,
  what: string,
  isEnough: (rss: number, atMs: number) => boolean = () => false,
): Promise<{ rss: number[]; lags: number[]; ms: number }> {
  const { fleet, load, meter, progress } = bed;
  const rss: number[] = [];
  const lags: number[] = [];
  const beginMs = performance.now();
  const endMs = beginMs + ms;
  while (performance.now() < endMs) {
    check(bed);
    const lag = await meter.measure();
    lags.push(lag);
    rss.push(fleet.rssBytes());
    if (isEnough(rss.at(-1)!, performance.now() - beginMs)) break;
    progress.update(
      `${what}: ${Math.ceil((endMs - performance.now()) / 1000)} s left, sent ${load.sent}, lag ${lag}, ${megabytes(rss.at(-1)!)} MB`,
    );
    await systemClock.sleep(Math.min(SAMPLE_MS, Math.max(0, endMs - performance.now())));
  }
  return { rss, lags, ms: performance.now() - beginMs };
}

/** Until the lag is 0. */
async function drain(bed: Bed, what: string): Promise<{ ms: number; rss: number[] }> {
  const { fleet, meter, progress } = bed;
  const beginMs = performance.now();
  const rss: number[] = [];
  let best = { committed: -1n, atMs: beginMs };
  for (;;) {
    check(bed);
    const { ends, committed } = await meter.offsets();
    const nowMs = performance.now();
    rss.push(fleet.rssBytes());
    if (ends === committed) return { ms: nowMs - beginMs, rss };
    if (committed > best.committed) best = { committed, atMs: nowMs };
    if (nowMs - best.atMs > STALL_MS)
      throw new Error(`${ends - committed} records are left and nothing has moved for ${STALL_MS / 1000} s`);
    progress.update(
      `${what}: ${((nowMs - beginMs) / 1000).toFixed(0)} s, lag ${ends - committed}, ${megabytes(rss.at(-1)!)} MB`,
    );
    await systemClock.sleep(SAMPLE_MS);
  }
}

/** @throws {Error} something ended or halted: nothing more will come of waiting */
function check({ fleet, load }: Bed): true {
  fleet.check();
  load.check();
  const [halt] = fleet.halts();
  if (halt !== undefined) throw new Error(`a shard halted: ${halt}`);
  return true;
}

function megabytes(bytes: number): number {
  return Math.round(bytes / 1_048_576);
}

function optionsOf(args: readonly string[]): Options | string {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        seconds: { type: "string", default: "60" },
        "delay-ms": { type: "string", default: "200" },
        workers: { type: "string", default: "2" },
        keep: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    });
    if (values.help) return USAGE;
    const number = (name: string, text: string, min: number): number => {
      const value = Number(text);
      if (!Number.isInteger(value) || value < min) throw new Error(`--${name} is a whole number of ${min} or more`);
      return value;
    };
    return {
      seconds: number("seconds", values.seconds, 5),
      delayMs: number("delay-ms", values["delay-ms"], 0),
      workers: number("workers", values.workers, 1),
      keep: values.keep,
      json: values.json,
    };
  } catch (error) {
    return `${(error as Error).message}\n\n${USAGE}`;
  }
}
