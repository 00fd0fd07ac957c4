/**
 * One run from one seed: the real runtime over Kafka, Postgres, group, clock and network in memory, under faults; then without
 * faults, until it has caught up; then stopped in order, and judged.
 *
 *   1. load and faults   records come in, and everything in faults.ts happens to the processes and the servers
 *   2. liveness          no new faults; every shard must have taken all of its input, and published all of its commits
 *   3. stop              every worker drains
 *   4. judgement         oracle.ts
 *
 * Invariants
 *   SI1  The same seed gives the same run, line by line of its trace, on any machine.
 *   SI2  A run ends with all input taken, or it failed.
 */
import type { App } from "../actors/app.ts";
import { partitionFor } from "../actors/partition.ts";
import type { OutputRecord } from "../actors/record.ts";
import type { Config } from "../config.ts";
import { isLockstepError } from "../errors.ts";
import { Cluster, type Halt, type Running } from "./cluster.ts";
import { createFaults, drawWeather, type FaultKind, NO_FAULTS, type Plan, type Weather } from "./faults.ts";
import { type Judgement, judgeCluster } from "./oracle.ts";
import { stillToDo } from "./progress.ts";
import { createRandom, type Random } from "./random.ts";
import type { TableShape } from "./tables.ts";

/** A record of the load, and when it is sent, in virtual ms from the start. */
export interface LoadRecord {
  readonly atMs: number;
  readonly topic: string;
  readonly key: string | Buffer | null;
  readonly value: string | Buffer | null;
  /** Kafka's timestamp. */
  readonly timestampMs: number;
}

export interface SimulationOptions {
  readonly app: App;
  readonly seed: number;
  /** The input, drawn from the seed. Default: none. */
  readonly load: (random: Random) => readonly LoadRecord[];
  readonly tables?: Readonly<Record<string, TableShape>>;
  readonly config?: Partial<Config>;
  /** What goes wrong; default: drawn from the seed. */
  readonly weather?: Weather;
  /** Further checks on the deployment at rest, each fault a sentence. */
  readonly check?: (cluster: Cluster) => readonly string[];
  readonly keepTrace?: boolean;
}

export interface SimulationOutcome {
  readonly seed: number;
  readonly app: string;
  /** Empty: the run passed. */
  readonly faults: readonly string[];
  readonly figures: Judgement["figures"];
  /** Faults that took effect, by kind. */
  readonly injected: Readonly<Partial<Record<FaultKind, number>>>;
  /** Changes of shards' lives, by the event of their log line. */
  readonly events: Readonly<Record<string, number>>;
  readonly hash: string;
  readonly virtualMs: number;
  readonly steps: number;
  /** The latest lines of the trace; all of them with `keepTrace`. */
  readonly trace: readonly string[];
}

const FAULTS_MS = 12_000;
/** Longer than every time-out there is, several times over. */
const LIVENESS_MS = 180_000;
/** Longer than every deadline of a request and every back-off. */
const QUIET_MS = 10_000;
const STOP_MS = 60_000;
const PROCESSES_MAX = 4;

/** Runs one seed. Never rejects for what the run did: that is in `faults`. */
export async function simulate(options: SimulationOptions): Promise<SimulationOutcome> {
  const random = createRandom(options.seed);
  const shape = random.fork("shape");
  const shards = shape.between(1, 3);
  const config = { ...drawConfig(shape), ...options.config };
  const weather =
    options.weather ??
    drawWeather(random.fork("weather"), { durationMs: FAULTS_MS, sessionTimeoutMs: config.sessionTimeoutMs });
  const faults = createFaults(weather, random.fork("faults"));
  const cluster = new Cluster({
    app: options.app,
    shards,
    random,
    faults,
    config,
    outputPartitions: shape.between(1, 4),
    ...(options.tables ? { tables: options.tables } : {}),
    ...(options.keepTrace ? { keepTrace: true } : {}),
  });
  const run = new Run(cluster, random.fork("run"));
  const found: string[] = [];
  let figures: Judgement["figures"] = { taken: 0, commits: 0, published: 0, rows: 0, ticks: 0, verdicts: 0 };
  try {
    run.sendLoad(options.load(random.fork("load")), shards);
    const processes = weather === NO_FAULTS ? 1 : shape.between(1, 3);
    run.keepRunning(processes);
    for (const plan of faults.plans) cluster.schedule.after(plan.atMs, () => run.carryOut(plan));
    await run.underFaults(FAULTS_MS);
    found.push(...(await run.catchUp(LIVENESS_MS)));
    if (found.length === 0) found.push(...(await run.stopAll(STOP_MS)));
    if (found.length === 0) {
      const judgement = judgeCluster(cluster);
      figures = judgement.figures;
      found.push(...judgement.faults, ...(options.check?.(cluster) ?? []));
    }
  } catch (error) {
    found.push(`the run broke off: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  }
  return {
    seed: options.seed,
    app: options.app.name,
    faults: found,
    figures,
    injected: Object.fromEntries(faults.counts),
    events: Object.fromEntries(cluster.events),
    hash: cluster.trace.hash(),
    virtualMs: cluster.schedule.nowMs,
    steps: cluster.schedule.ran,
    trace: cluster.trace.lines(),
  };
}

/** Sizes and times that bring out other interleavings. */
function drawConfig(random: Random) {
  return {
    batchRecordsMax: random.pick([1, 2, 5, 20, 100]),
    snapshotCommits: random.pick([1, 3, 10, 50]),
    snapshotMs: random.pick([500, 3_000, 60_000]),
    journalKeepMs: random.pick([0, 0, 2_000, 86_400_000]),
    handoverMs: random.pick([0, 100, 500]),
    idleMs: random.pick([50, 250, 1_000]),
    inputWaitMsMax: random.pick([0, 50, 200, 1_000]),
    sessionTimeoutMs: random.pick([1_500, 3_000]),
    transactionTimeoutMs: random.pick([2_000, 3_000, 6_000]),
  };
}

class Run {
  readonly #cluster: Cluster;
  readonly #random: Random;
  #wanted = 0;
  #starting = 0;
  readonly #heal = new Set<() => void>();

  constructor(cluster: Cluster, random: Random) {
    this.#cluster = cluster;
    this.#random = random;
  }

  /** Appends the load, some of it in transactions of other producers, some of which are aborted and sent again. */
  sendLoad(load: readonly LoadRecord[], shards: number): void {
    const { kafka, schedule } = this.#cluster;
    load.forEach((one, i) => {
      const key = typeof one.key === "string" ? Buffer.from(one.key) : one.key;
      const partition = key === null || key.length === 0 ? i % shards : partitionFor(key, shards);
      const value = typeof one.value === "string" ? Buffer.from(one.value) : one.value;
      const { topic } = one;
      const record: OutputRecord = { topic, partition, key, value, headers: [], timestampMs: BigInt(one.timestampMs) };
      const log = kafka.log(topic, partition);
      schedule.after(one.atMs, () => {
        if (!this.#random.chance(TRANSACTIONAL)) return log.append([record], null);
        const isAborted = this.#random.chance(0.3);
        const mark = { state: "open" as const };
        log.append([record], mark);
        schedule.after(this.#random.next() * TRANSACTION_MS_MAX, () => {
          log.endTransaction(mark, isAborted ? "aborted" : "committed");
          if (isAborted) log.append([record], null);
        });
      });
    });
  }

  keepRunning(processes: number): void {
    this.#wanted = processes;
    for (let i = 0; i < processes; i += 1) this.#startLater(this.#random.between(0, 50));
    this.#superviseAgain();
  }

  async underFaults(ms: number): Promise<void> {
    const { schedule, halts } = this.#cluster;
    await schedule.runUntil(() => halts.length > 0, { timeoutMs: ms });
  }

  carryOut({ kind, lastsMs }: Plan): void {
    const { faults, running, trace, network, postgres, group, schedule } = this.#cluster;
    if (faults.ended) return;
    const victim: Running | undefined = running.length > 0 ? this.#random.pick(running) : undefined;
    trace.note("faults", kind, `${lastsMs} ms, ${victim?.process.name ?? "nobody"}`);
    const later = (heal: () => void) => {
      this.#heal.add(heal);
      schedule.after(lastsMs, () => {
        if (this.#heal.delete(heal)) heal();
      });
    };
    switch (kind) {
      case "worker added":
        if (running.length >= PROCESSES_MAX) return;
        this.#wanted += 1;
        this.#startLater(0);
        break;
      case "rebalance":
        if (group.size < 2) return;
        group.rebalance();
        break;
      case "postgres down":
        postgres.restart();
        later(network.cut("postgres", null));
        break;
      case "kafka down":
        later(network.cut("kafka", null));
        break;
      default:
        if (victim?.process.state !== "running") return;
        this.#harm(kind, victim, later);
    }
    faults.count(kind);
  }

  #harm(kind: Plan["kind"], victim: Running, later: (heal: () => void) => void): void {
    const { network } = this.#cluster;
    const { process } = victim;
    switch (kind) {
      case "killed":
        this.#cluster.kill(process);
        break;
      case "stopped":
      case "zombie":
        process.stop();
        later(() => process.resume());
        break;
      case "graceful stop":
        this.#cluster.stop(victim).catch((error: unknown) => this.#cluster.schedule.fail(error));
        break;
      case "cut from postgres":
        later(network.cut("postgres", process));
        break;
      case "cut from kafka":
        later(network.cut("kafka", process));
        break;
    }
  }

  /** Faults are over. @returns why it did not catch up, or nothing */
  async catchUp(timeoutMs: number): Promise<string[]> {
    const { faults, schedule, halts } = this.#cluster;
    faults.end();
    for (const heal of this.#heal) heal();
    this.#heal.clear();
    for (const { process } of this.#cluster.running) process.resume();
    let lookAgainMs = schedule.nowMs;
    const isDone = () => {
      if (halts.length > 0) return true;
      if (schedule.nowMs < lookAgainMs) return false;
      lookAgainMs = schedule.nowMs + LOOK_MS;
      return stillToDo(this.#cluster).length === 0;
    };
    const done = await schedule.runUntil(isDone, { timeoutMs });
    if (halts.length > 0) return halts.map(textOfHalt);
    // What was caught up may still be in the middle of acquiring a shard anew: the last answers of the faults are under way.
    await schedule.runFor(QUIET_MS);
    return done ? [] : [`not live: ${timeoutMs} ms after the last fault ${stillToDo(this.#cluster).join("; ")}`];
  }

  async stopAll(timeoutMs: number): Promise<string[]> {
    const { running, schedule, halts } = this.#cluster;
    this.#wanted = 0;
    const stops = running.map((one) => ({ name: one.process.name, outcome: null as boolean | null, one }));
    for (const stop of stops)
      this.#cluster.stop(stop.one).then(
        (drained) => {
          stop.outcome = drained;
        },
        (error: unknown) => schedule.fail(error),
      );
    await schedule.runUntil(() => stops.every(({ outcome }) => outcome !== null), { timeoutMs });
    if (halts.length > 0) return halts.map(textOfHalt);
    return stops
      .filter(({ outcome }) => outcome !== true)
      .map(({ name, outcome }) => `${name} ${outcome === null ? "did not stop" : "stopped without draining"}`);
  }

  /** Starts processes in place of those that died. */
  #superviseAgain(): void {
    this.#cluster.schedule.after(SUPERVISE_MS, () => {
      const { running } = this.#cluster;
      const missing = this.#wanted - running.length - this.#starting;
      for (let i = 0; i < missing; i += 1) this.#startLater(this.#random.between(0, RESTART_MS_MAX));
      this.#superviseAgain();
    });
  }

  #startLater(ms: number): void {
    this.#starting += 1;
    this.#cluster.schedule.after(ms, () => {
      this.#starting -= 1;
      if (this.#wanted > 0) this.#cluster.start();
    });
  }
}

function textOfHalt({ process, shard, error }: Halt): string {
  const code = isLockstepError(error) ? error.code : "an unknown error";
  return `shard ${shard} halted in ${process}: ${code}: ${error.message}`;
}

const LOOK_MS = 50;
const TRANSACTIONAL = 0.1;
const TRANSACTION_MS_MAX = 300;
const SUPERVISE_MS = 100;
const RESTART_MS_MAX = 1_500;
