/**
 * A whole deployment in memory: Kafka, Postgres, the group, and processes that each run the real Worker over ports to them.
 *
 * Every process has one worker. What dies is the process, with all its memory; what is started is a new one.
 */
import { type App, outputTopics } from "../actors/app.ts";
import { type Config, loadConfig } from "../config.ts";
import type { LockstepError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { Hook } from "../runtime/failpoints.ts";
import { Worker, type WorkerPorts } from "../runtime/worker.ts";
import type { Faults } from "./faults.ts";
import { createMemoryFetcher, createMemoryReader } from "./fetcher.ts";
import { joinMemoryGroup, MemoryGroup } from "./group.ts";
import { MemoryKafka } from "./kafka.ts";
import { createNetwork, type Network } from "./network.ts";
import { MemoryPostgres } from "./postgres.ts";
import { SimulatedProcess } from "./process.ts";
import { CLUSTER_ID, createMemoryPublisher } from "./publisher.ts";
import type { Random } from "./random.ts";
import { createSchedule, type Schedule } from "./schedule.ts";
import { createMemoryStore } from "./shard-store.ts";
import type { TableShape } from "./tables.ts";
import { createTrace, type Trace } from "./trace.ts";

export interface ClusterOptions {
  readonly app: App;
  readonly shards: number;
  readonly random: Random;
  readonly faults: Faults;
  readonly config?: Partial<Config>;
  readonly tables?: Readonly<Record<string, TableShape>>;
  /** Partitions of topics that the app writes to; default as many as shards. */
  readonly outputPartitions?: number;
  /** Greatest record batch that an output topic takes. */
  readonly outputBytesMax?: number;
  /** Passed at each fail-point of a process, after its own faults. */
  readonly onPoint?: (point: string, at: { process: SimulatedProcess; shard: number }) => void | Promise<void>;
  readonly keepTrace?: boolean;
}

export interface Running {
  readonly process: SimulatedProcess;
  readonly worker: Worker;
}

export interface Halt {
  readonly process: string;
  readonly shard: number;
  readonly error: LockstepError;
}

/** What every simulated deployment has, unless told otherwise: short waits, small batches, many snapshots. */
const CONFIG: Partial<Config> = {
  instance: "simulated",
  groupId: "simulated",
  sessionTimeoutMs: 3_000,
  heartbeatIntervalMs: 500,
  rebalanceTimeoutMs: 2_000,
  handoverMs: 100,
  transactionTimeoutMs: 3_000,
  batchRecordsMax: 20,
  inputWaitMsMax: 200,
  idleMs: 250,
  snapshotCommits: 10,
  snapshotMs: 3_000,
  strict: true,
};

const FETCH_WAIT_MS = 100;
const FETCH_RECORDS_MAX = 30;

export class Cluster {
  readonly app: App;
  readonly config: Config;
  readonly schedule: Schedule;
  readonly trace: Trace;
  readonly network: Network;
  readonly kafka: MemoryKafka;
  readonly postgres: MemoryPostgres;
  readonly group: MemoryGroup;
  readonly faults: Faults;
  readonly outputBytesMax: number;
  /** Those that run, in the order of their start. */
  readonly running: Running[] = [];
  readonly halts: Halt[] = [];
  /** How often each change of a shard's life was logged. */
  readonly events = new Map<string, number>();
  readonly #options: ClusterOptions;
  readonly #random: Random;
  /** How long processes are stopped. */
  readonly #stops: Random;
  #started = 0;

  constructor(options: ClusterOptions) {
    const { app, shards, random, faults, keepTrace = false } = options;
    this.#options = options;
    this.#random = random;
    this.#stops = random.fork("stops");
    this.app = app;
    this.faults = faults;
    this.outputBytesMax = options.outputBytesMax ?? 1_000_000;
    this.config = { ...loadConfig({}, []), ...CONFIG, ...options.config };
    const schedule = createSchedule();
    this.schedule = schedule;
    this.trace = createTrace(schedule, { keepAll: keepTrace });
    this.network = createNetwork({
      schedule,
      random: random.fork("network"),
      faults,
      trace: this.trace,
      onKill: (process) => this.kill(process),
      onStop: (process) => this.#makeZombie(process),
    });
    const outputs = outputTopics(app).map((topic) => [topic, options.outputPartitions ?? shards] as const);
    const inputs = app.inputs.map(({ topic }) => [topic, shards] as const);
    const topics = Object.fromEntries([...outputs, ...inputs]);
    this.kafka = new MemoryKafka({ schedule, faults, random: random.fork("kafka"), topics });
    this.postgres = new MemoryPostgres({
      schedule,
      faults,
      shards,
      ...(options.tables ? { tables: options.tables } : {}),
    });
    this.group = new MemoryGroup({
      schedule,
      trace: this.trace,
      shardCount: shards,
      sessionTimeoutMs: this.config.sessionTimeoutMs,
      rebalanceTimeoutMs: this.config.rebalanceTimeoutMs,
      snapshotVersions: () => this.#snapshotVersions(),
    });
  }

  /** Starts a process with one worker. */
  start(): Running {
    this.#started += 1;
    const process = new SimulatedProcess(`p${this.#started}`, this.schedule);
    const { app, config } = this;
    const { shards } = this.#options;
    const random = this.#random.fork(process.name);
    const outputs = Object.fromEntries(
      outputTopics(app).map((topic) => [
        topic,
        { partitions: this.kafka.partitions(topic), bytesMax: this.outputBytesMax },
      ]),
    );
    const worker = new Worker({
      index: 0,
      config: { ...config, host: process.name },
      deployment: {
        instance: "simulated",
        groupId: config.groupId,
        shardCount: shards,
        clusterId: CLUSTER_ID,
        outputs,
      },
      loaded: { app, path: "", code: "simulated" },
      ports: this.#ports(process, random),
      clock: process.clock,
      ids: { token: () => random.uuid() },
      hookOf: (shard) => this.#hookOf(process, shard),
      log: this.#logOf(process, {}),
      onMember: () => {},
    });
    const running = { process, worker };
    this.running.push(running);
    this.trace.note(process.name, "starts");
    worker.start().catch((error: unknown) => this.schedule.fail(error));
    worker.failure.catch((error: unknown) => {
      this.trace.note(process.name, "worker failed", String(error));
      this.kill(process);
    });
    return running;
  }

  kill(process: SimulatedProcess): void {
    if (process.state === "killed") return;
    this.trace.note(process.name, "killed");
    process.kill();
    this.#forget(process);
  }

  /** Stops a process for longer than its session lasts. */
  #makeZombie(process: SimulatedProcess): void {
    process.stop();
    this.schedule.after(this.config.sessionTimeoutMs * (1.2 + this.#stops.next() * 2), () => process.resume());
  }

  /** Drains a worker, and ends its process. @returns whether nothing of it is left to be taken over */
  async stop({ process, worker }: Running): Promise<boolean> {
    this.trace.note(process.name, "told to stop");
    const drained = await worker.stop();
    this.trace.note(process.name, "stopped", String(drained));
    process.kill();
    this.#forget(process);
    return drained;
  }

  #forget(process: SimulatedProcess): void {
    const index = this.running.findIndex((one) => one.process === process);
    if (index >= 0) this.running.splice(index, 1);
  }

  #ports(process: SimulatedProcess, random: Random): WorkerPorts {
    const { kafka, postgres, network, config, app } = this;
    const topics = app.inputs.map(({ topic }) => topic);
    return {
      store: (hook) =>
        createMemoryStore({ postgres, network, process, random: random.fork("store"), appVersion: app.version, hook }),
      publisher: (hook) =>
        createMemoryPublisher({
          kafka,
          network,
          process,
          topics,
          transactionTimeoutMs: config.transactionTimeoutMs,
          hook,
        }),
      fetcher: createMemoryFetcher({
        kafka,
        network,
        process,
        random: random.fork("fetcher"),
        topics,
        maxWaitMs: FETCH_WAIT_MS,
        recordsMax: FETCH_RECORDS_MAX,
      }),
      openReader: (shard) => createMemoryReader({ kafka, network, process, shard }),
      join: async (listener, held) =>
        joinMemoryGroup({
          group: this.group,
          network,
          process,
          version: app.version,
          heartbeatIntervalMs: config.heartbeatIntervalMs,
          rebalanceTimeoutMs: config.rebalanceTimeoutMs,
          held,
          listener,
          onError: (error) => this.schedule.fail(error),
        }),
      close: async () => {},
    };
  }

  #hookOf(process: SimulatedProcess, shard: number): Hook {
    return (point) => {
      if (this.faults.atPoint()) {
        this.faults.count("killed at a point");
        this.trace.note(process.name, `shard ${shard} at ${point}`, "killed");
        this.kill(process);
        return new Promise(() => {});
      }
      return this.#options.onPoint?.(point, { process, shard });
    };
  }

  #snapshotVersions(): ReadonlyMap<number, number> {
    const versions = new Map<number, number>();
    for (const [shard, { snapshots }] of this.postgres.shards) {
      const latest = snapshots.at(-1);
      if (latest) versions.set(shard, latest.manifest.appVersion);
    }
    return versions;
  }

  #logOf(process: SimulatedProcess, bindings: Readonly<Record<string, unknown>>): Log {
    const write = (object: object) => {
      const { event, err, ...details } = { ...bindings, ...object } as Record<string, unknown>;
      if (typeof event === "string") this.events.set(event, (this.events.get(event) ?? 0) + 1);
      const code = (err as { code?: string } | undefined)?.code;
      this.trace.note(
        process.name,
        `${event}${code === undefined ? "" : ` ${code}`}`,
        [...Object.entries(details)].map(([name, value]) => `${name} ${textOf(name, value)}`).join(", "),
      );
      if (event === "halted" && process.state === "running")
        this.halts.push({ process: process.name, shard: Number(details["shard"]), error: err as LockstepError });
    };
    return {
      debug: write,
      info: write,
      warn: write,
      error: write,
      child: (more) => this.#logOf(process, { ...bindings, ...more }),
    };
  }
}

/** An owner has the real process's id in it, which differs from run to run. */
function textOf(name: string, value: unknown): string {
  if (name === "from" && typeof value === "string") return value.split("/")[0]!;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
