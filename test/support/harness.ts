/**
 * A whole deployment for tests: fresh topics, a fresh database, processes of `node dist/main.js run` on the servers of the test
 * run, and the audit as the judge of what they left. Given by `withDeployment`, which takes all of it back.
 *
 * Every wait is for a condition, and ends at once with the reason when the condition can no longer come true: a process that
 * ended by a fault, a shard that halted, nobody left to do the work. Logs are kept when the test fails.
 */
import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import { join } from "node:path";

import pg from "pg";

import type { CommittedOffset } from "../../src/actors/ports.ts";
import type { AuditReport } from "../../src/audit/report.ts";
import { type AppTools, type LoadOptions, loadTools, type Manifest } from "../../src/cli/app-tools.ts";
import { runAudit } from "../../src/cli/audit.ts";
import { type LagMeter, openLagMeter } from "../../src/cli/lag.ts";
import { migrateAll } from "../../src/cli/migrate.ts";
import { type LogLine, RunProcess } from "../../src/cli/processes.ts";
import { loadConfig } from "../../src/config.ts";
import { createKafkaClient } from "../../src/kafka/client.ts";
import { createPublisher, type Publisher } from "../../src/kafka/publisher.ts";
import { openSender, type Sender, type SentRecord } from "../../src/kafka/sender.ts";
import type { WantedTopic } from "../../src/kafka/topics.ts";
import { type LoadedApp, loadApp } from "../../src/runtime/code.ts";
import { groupIdOf } from "../../src/runtime/deployment.ts";
import { createLog } from "../../src/telemetry/log.ts";
import { openDatabase, type TestDatabase } from "./database.ts";
import { APPS, FAST, inheritedEnv, MAIN, ROOT } from "./deployment-settings.ts";
import { recreateTopics } from "./recreate-topics.ts";
import { type TestStack, testStack } from "./stack.ts";
import { until } from "./until.ts";

/** Longer than any wait that ends well; only against hanging. */
const WAIT_MS = 180_000;
/** Longer than LOCKSTEP_DRAIN_MS, after which a process ends itself with code 1. */
const STOP_MS = 60_000;

export interface DeploymentOptions {
  readonly app: keyof typeof APPS;
  /** Threads a process; default 2. */
  readonly workers?: number;
  /** Settings of every process, over the fast ones. */
  readonly env?: Readonly<Record<string, string>>;
  /** Default: the servers of the test run. */
  readonly stack?: TestStack;
  /** The app's topics as this test wants them; default as its tools say. */
  readonly topics?: (topic: WantedTopic) => WantedTopic;
  /** Without topics, tables and instance, for tests of what is said about that; default true. */
  readonly prepared?: boolean;
}

/** A log line, and the process that wrote it. */
export type ProcessEvent = LogLine & { readonly process: string };

/**
 * Gives a deployment that is ready for its first process.
 * @throws what the work throws; the log folder is told on stderr then
 */
export async function withDeployment<T>(
  options: DeploymentOptions,
  work: (deployment: Deployment) => Promise<T>,
): Promise<T> {
  const deployment = await Deployment.open(options);
  let failed = true;
  try {
    const result = await work(deployment);
    failed = false;
    return result;
  } finally {
    await deployment.close();
    if (failed) console.error(`logs of the processes: ${deployment.logFolder}`);
    else await rm(deployment.logFolder, { recursive: true, force: true });
  }
}

export class Deployment {
  readonly instance = `t${randomBytes(4).toString("hex")}`;
  readonly logFolder = join(ROOT, ".lockstep/tests", this.instance);
  /** Environment of every process: complete, nothing of the caller's settings is in it. */
  readonly env: NodeJS.ProcessEnv;
  /** All lines of all processes so far, in the order in which they came in. */
  readonly events: ProcessEvent[] = [];
  readonly loaded: LoadedApp;
  readonly tools: AppTools;
  readonly groupId: string;
  readonly topics: readonly WantedTopic[];
  /** Shards of the instance = partitions of each input. */
  readonly shardCount: number;
  readonly stack: TestStack;
  readonly #database: TestDatabase;
  readonly #processes = new Map<string, { process: RunProcess; held: Map<number, unknown> }>();
  #generation = 0;
  #sender: Promise<Sender> | null = null;
  #meter: LagMeter | null = null;
  #publisher: Publisher | null = null;
  #pool: pg.Pool | null = null;

  private constructor(
    options: DeploymentOptions,
    made: { loaded: LoadedApp; tools: AppTools; database: TestDatabase; stack: TestStack },
  ) {
    this.loaded = made.loaded;
    this.tools = made.tools;
    this.stack = made.stack;
    this.#database = made.database;
    this.topics = options.topics ? made.tools.topics.map(options.topics) : made.tools.topics;
    const first = made.loaded.app.inputs[0]!.topic;
    this.shardCount = this.topics.find(({ name }) => name === first)!.partitions;
    this.env = {
      ...inheritedEnv(),
      ...FAST,
      ...(options.workers === undefined ? {} : { LOCKSTEP_WORKERS: String(options.workers) }),
      LOCKSTEP_APP: APPS[options.app],
      LOCKSTEP_INSTANCE: this.instance,
      LOCKSTEP_KAFKA_BROKERS: made.stack.brokers.join(","),
      LOCKSTEP_DATABASE_URL: made.database.url,
      LOCKSTEP_KAFKA_LIBS: made.stack.kafkaLibs,
      ...options.env,
    };
    this.groupId = groupIdOf(this.config, made.loaded);
  }

  static async open(options: DeploymentOptions): Promise<Deployment> {
    const stack = options.stack ?? testStack();
    const loaded = await loadApp(APPS[options.app]);
    const tools = await loadTools(loaded);
    const database = await openDatabase(stack.postgresUrl);
    const deployment = new Deployment(options, { loaded, tools, database, stack });
    try {
      await recreateTopics(
        stack.brokers,
        options.prepared === false ? [] : deployment.topics,
        deployment.topics.map(({ name }) => name),
      );
      if (options.prepared !== false) await deployment.migrate();
      return deployment;
    } catch (error) {
      await deployment.close();
      throw error;
    }
  }

  get config() {
    return loadConfig(this.env);
  }

  /** Id of the instance, a UUID. */
  async instanceId(): Promise<string> {
    return String((await this.query<{ id: string }>("SELECT id::text FROM lockstep.instance"))[0]!.id);
  }

  async migrate(): Promise<void> {
    await migrateAll(this.config, this.loaded, createLog({ level: "error", fd: 2 }));
  }

  // ------------------------------------------------------------------------------------------------------- processes

  /** Starts a process; a name may be taken again after its process has ended. Does not wait: see `untilRunning`. */
  start(
    name: string,
    options: { env?: Readonly<Record<string, string>>; command?: readonly string[] } = {},
  ): RunProcess {
    const before = this.#processes.get(name);
    if (before && !before.process.ended) throw new Error(`${name} is still there`);
    this.#generation += 1;
    const held = new Map<number, unknown>();
    const process = new RunProcess({
      name,
      main: MAIN,
      env: { ...this.env, ...options.env },
      ...(options.command ? { command: options.command } : {}),
      logFile: join(this.logFolder, `${String(this.#generation).padStart(2, "0")}-${name}.log`),
      onLine: (line) => {
        this.events.push({ ...line, process: name });
        follow(line, held);
      },
    });
    this.#processes.set(name, { process, held });
    void process.exited.then(() => held.clear());
    return process;
  }

  process(name: string): RunProcess {
    const found = this.#processes.get(name);
    if (!found) throw new Error(`${name} was never started`);
    return found.process;
  }

  /** Shards in state running, ascending, over all processes that live; or of one. */
  running(name?: string): number[] {
    const shards = [...this.#processes]
      .filter(([each]) => name === undefined || each === name)
      .flatMap(([, { held }]) => [...held.keys()]);
    return [...new Set(shards)].sort((a, b) => a - b);
  }

  /** Events of one name, of one process when it is given. */
  eventsOf(event: string, process?: string): ProcessEvent[] {
    return this.events.filter((each) => each.event === event && (process === undefined || each.process === process));
  }

  /** Until every shard runs. */
  async untilRunning(options: { timeoutMs?: number } = {}): Promise<void> {
    await this.#until(() => this.running().length === this.shardCount, {
      what: `all ${this.shardCount} shards to run`,
      ...options,
    });
  }

  /** Until Kafka's committed offsets have reached the ends of all inputs. */
  async untilDrained(options: { timeoutMs?: number } = {}): Promise<void> {
    await this.#until(async () => (await this.lag()) === 0, { what: "all inputs to be drained", ...options });
  }

  /** Until a process has written a line with this event. */
  async untilEvent(event: string, options: { process?: string; from?: number; timeoutMs?: number } = {}) {
    const { from = 0, process, timeoutMs } = options;
    return this.#until(
      () =>
        this.events
          .slice(from)
          .find((each) => each.event === event && (process === undefined || each.process === process)),
      { what: `a line "${event}"`, ...(timeoutMs === undefined ? {} : { timeoutMs }), halts: event === "halted" },
    );
  }

  /** Until a condition of the test's own is true. @returns what it gave */
  async untilTrue<R>(condition: () => R | Promise<R>, what: string, options: { timeoutMs?: number } = {}) {
    return this.#until(condition, { what, ...options });
  }

  /** SIGKILL, and waits for the end. */
  async kill(name: string): Promise<void> {
    const process = this.process(name);
    process.signal("SIGKILL");
    await process.exited;
  }

  /** SIGTERM. @throws {Error} it did not drain and exit with code 0 */
  async stop(name: string): Promise<void> {
    const process = this.process(name);
    process.signal("SIGTERM");
    const ended = await Promise.race([process.exited, timeOut(STOP_MS)]);
    if (ended === null) throw new Error(`${name} did not end within ${STOP_MS} ms after SIGTERM`);
    if (ended.code !== 0)
      throw new Error(`${name} ended with code ${ended.code}, signal ${ended.signal}\n${process.stderr}`);
  }

  /**
   * SIGTERM to a process that may be in the middle of losing its shards, when it cannot say "drained". Waits for the end.
   * @throws {Error} it did not end by itself with code 0 or 1
   */
  async retire(name: string): Promise<void> {
    const process = this.process(name);
    process.signal("SIGTERM");
    const ended = await Promise.race([process.exited, timeOut(STOP_MS)]);
    if (ended === null) throw new Error(`${name} did not end within ${STOP_MS} ms after SIGTERM`);
    if (ended.code !== 0 && ended.code !== 1)
      throw new Error(`${name} ended with code ${ended.code}, signal ${ended.signal}\n${process.stderr}`);
    this.#processes.delete(name);
  }

  /** Of a process that ended as it should, with whatever code: the waits do not give up because of it. */
  forget(name: string): void {
    this.#processes.delete(name);
    this.events.length = 0;
  }

  /** SIGTERM to all that live. @throws {Error} one of them did not drain and exit with code 0 */
  async stopAll(): Promise<void> {
    const living = [...this.#processes].filter(([, { process }]) => !process.ended);
    await Promise.all(living.map(([name]) => this.stop(name)));
  }

  // ----------------------------------------------------------------------------------------------------- input, output

  /** In order, acknowledged when it resolves. */
  async send(records: readonly SentRecord[]): Promise<void> {
    this.#sender ??= openSender(
      this.stack.brokers,
      this.topics.map(({ name }) => name),
    );
    await (await this.#sender).send(records);
  }

  /** The app's generated load, as fast as possible when `total` is given. */
  load(options: Partial<LoadOptions> = {}): Promise<Manifest> {
    const load = this.tools.load({
      seconds: 5,
      rate: 500,
      symbols: 20,
      speed: 60,
      duplicates: 0.05,
      late: 0.02,
      bad: 0.02,
      seed: 1,
      ...options,
    });
    const sent = load.run({
      send: (batch) => this.send(batch),
      onProgress: () => this.#assertAlive({ idle: true }),
      signal: new AbortController().signal,
    });
    sent.catch(() => {}); // who waits for it hears of it; a test that has failed before waits no more
    return sent;
  }

  /** Records below the ends of the inputs that no committed offset covers. */
  async lag(): Promise<number> {
    const { stack, groupId, shardCount: shards } = this;
    const topics = this.loaded.app.inputs.map(({ topic }) => topic);
    this.#meter ??= openLagMeter({ brokers: stack.brokers, groupId, topics, shards });
    return this.#meter.measure();
  }

  /** Kafka's offsets and metadata of one shard, by input. */
  async committed(shard: number): Promise<Record<string, CommittedOffset>> {
    this.#publisher ??= createPublisher({
      client: createKafkaClient({ brokers: this.stack.brokers, clientId: "lockstep-test" }),
      groupId: this.groupId,
      topics: this.loaded.app.inputs.map(({ topic }) => topic),
    });
    return this.#publisher.committed(shard);
  }

  async query<R extends pg.QueryResultRow>(sql: string, params: readonly unknown[] = []): Promise<R[]> {
    if (this.#pool === null) {
      this.#pool = new pg.Pool({ connectionString: this.#database.url, max: 1 });
      this.#pool.on("error", () => {}); // a test has broken the idle connection; the next query opens another
    }
    return (await this.#pool.query<R>(sql, [...params])).rows;
  }

  /** Judges what all processes have left. Outputs are read by Kafka's own Java consumer. */
  async audit(manifest?: Manifest): Promise<AuditReport> {
    const { report } = await runAudit({
      config: this.config,
      loaded: this.loaded,
      tools: this.tools,
      manifest,
      env: this.env,
      say: (line) => console.error(line),
    });
    return report;
  }

  /** Ends what is left (SIGKILL) and drops the database. */
  async close(): Promise<void> {
    for (const { process } of this.#processes.values()) process.signal("SIGKILL");
    await Promise.all([...this.#processes.values()].map(({ process }) => process.exited));
    await this.#pool?.end();
    await this.#meter?.close();
    await this.#publisher?.close();
    await (await this.#sender)?.close();
    await this.#database.close();
  }

  // ------------------------------------------------------------------------------------------------------------- waits

  async #until<R>(
    condition: () => R | Promise<R>,
    { what, timeoutMs = WAIT_MS, halts = false }: { what: string; timeoutMs?: number; halts?: boolean },
  ) {
    let hopeless: unknown = null;
    const value = await until(
      async () => {
        const met = await condition();
        if (met) return { met };
        try {
          this.#assertAlive({ halts });
        } catch (error) {
          hopeless = error;
          return { met };
        }
        return false;
      },
      { what, timeoutMs },
    );
    if (hopeless !== null) throw new Error(`waiting for ${what}: ${(hopeless as Error).message}`);
    return value.met as NonNullable<Exclude<R, false>>;
  }

  /** @throws {Error} a process ended by a fault of its own, a shard halted, or (unless `idle`) no process lives */
  #assertAlive(options: { idle?: boolean; halts?: boolean }): void {
    for (const [name, { process }] of this.#processes) {
      const code = process.exitCode;
      if (code !== null && code !== 0) throw new Error(`${name} ended by itself with code ${code}:\n${process.stderr}`);
    }
    const halted = options.halts ? undefined : this.events.find(({ event }) => event === "halted");
    if (halted) throw new Error(`shard ${halted.shard} of ${halted.process} halted: ${JSON.stringify(halted["err"])}`);
    const living = [...this.#processes.values()].some(({ process }) => !process.ended);
    if (!living && !options.idle) throw new Error("no process lives");
  }
}

/**
 * Which shards a process runs, and in which of its workers, from its own lines. When a shard goes from one worker to another, the first may
 * say that it lost it after the second has said that it runs it.
 */
function follow({ event, shard, worker }: LogLine, held: Map<number, unknown>): void {
  if (shard === undefined) return;
  if (event === "running") held.set(shard, worker);
  else if (event !== undefined && ["released", "lost", "halted", "restoring", "fenced", "draining"].includes(event))
    if (held.get(shard) === worker) held.delete(shard);
}

function timeOut(ms: number): Promise<null> {
  return new Promise((resolve) => {
    setTimeout(() => resolve(null), ms).unref();
  });
}
