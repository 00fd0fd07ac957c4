/**
 * The instances of a soak: `node dist/main.js run`, as many as are wanted at the moment, each behind proxies of its own to Kafka and to
 * Postgres. What they do is read from their logs, which are written synchronously and so survive a SIGKILL.
 *
 * A process that ends by itself is a defect, but for one case: a server could not be reached when it started, and its exit code says
 * so. It is started again, as a service manager would do.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { EXIT } from "../../src/cli/output.ts";
import { type LogLine, RunProcess } from "../../src/cli/processes.ts";
import { systemClock } from "../../src/clock.ts";
import { MAIN } from "../support/deployment-settings.ts";
import { openKafkaProxies, openPostgresProxy } from "../support/fault-proxies.ts";
import { until } from "../support/until.ts";
import { type Counting, type Counts, noCounts } from "./counts.ts";
import { Line } from "./line.ts";

export interface InstancesOptions {
  /** Settings of every process but the addresses of its servers. */
  readonly env: NodeJS.ProcessEnv;
  /** Folder of the logs. */
  readonly dir: string;
  /** Each host:port. */
  readonly brokers: readonly string[];
  readonly databaseUrl: string;
  /** ms a process may take to drain after SIGTERM */
  readonly drainMs: number;
  readonly say: (text: string) => void;
  /** Aborted: whatever waits ends with an error. */
  readonly signal: AbortSignal;
}

export interface Instance {
  readonly name: string;
  readonly process: RunProcess;
  readonly kafka: Line;
  readonly postgres: Line;
  /** Shards that it says it runs. */
  readonly shards: Set<number>;
  /** Its relay works. */
  relay: boolean;
  /** No other fault may meet it: it is stopped, or about to end. */
  busy: boolean;
  endExpected: boolean;
}

/** Until something comes about that a loaded machine takes its time for: a start, a rebalance, a take-over. */
const PATIENCE_MS = 90_000;
const POLL_MS = 20;

/** Something that a busy machine may take too long for: not a defect yet. */
export class GaveUp extends Error {}

export class Instances {
  readonly #counts: Counting = noCounts();
  readonly #options: InstancesOptions;
  readonly #all = new Set<Instance>();
  /** Owners whose shards were taken over, by pid: how many shards. */
  readonly #takenOver = new Map<number, number>();
  readonly #lines = new Set<Line>();
  #made = 0;
  #relayOf: string | null = null;
  #failure: string | null = null;

  constructor(options: InstancesOptions) {
    this.#options = options;
  }

  get counts(): Counts {
    return this.#counts;
  }

  get all(): readonly Instance[] {
    return [...this.#all];
  }

  /** Processes so far. */
  get started(): number {
    return this.#made;
  }

  /** Shards in state running, over all instances. */
  running(): number {
    return new Set(this.all.flatMap(({ shards }) => [...shards])).size;
  }

  /** Shards that others took over from this process so far. */
  takenOver({ process }: Instance): number {
    return this.#takenOver.get(process.pid) ?? 0;
  }

  rssBytes(): number {
    return this.all.reduce((sum, { process }) => sum + process.rssBytes(), 0);
  }

  /** @throws {Error} a shard or the relay halted, or a process ended that nobody ended: nothing good will come any more */
  check(): true {
    if (this.#failure !== null) throw new Error(this.#failure);
    this.#options.signal.throwIfAborted();
    return true;
  }

  /** Something outside has failed: the next check throws it. */
  fail(why: string): void {
    this.#failure ??= why;
  }

  async start(): Promise<Instance> {
    const { env, dir, brokers, databaseUrl } = this.#options;
    this.#made += 1;
    const name = `instance-${this.#made}`;
    const toKafka = await openKafkaProxies(brokers);
    const toPostgres = await openPostgresProxy(databaseUrl);
    const [kafka, postgres] = [new Line(toKafka.proxies), new Line([toPostgres.proxy])];
    this.#lines.add(kafka).add(postgres);
    const startedMs = performance.now();
    const process = new RunProcess({
      name,
      main: MAIN,
      env: { ...env, LOCKSTEP_KAFKA_BROKERS: brokers.join(","), ...toKafka.env, ...toPostgres.env },
      logFile: join(dir, `${name}.log`),
      onLine: (line) => this.#onLine(instance, line),
    });
    const instance: Instance = {
      name,
      process,
      kafka,
      postgres,
      shards: new Set(),
      relay: false,
      busy: false,
      endExpected: false,
    };
    this.#all.add(instance);
    void process.exited.then(({ code, signal }) => this.#onEnd(instance, { code, signal, startedMs }));
    return instance;
  }

  /** Until one that no fault meets now fits, chosen by the lot. */
  async choose(lot: number, what: string, fits: (instance: Instance) => boolean): Promise<Instance> {
    const fitting = () => this.all.filter((instance) => !instance.busy && !instance.endExpected && fits(instance));
    await this.until(() => fitting().length > 0, what);
    const found = fitting();
    return found[Math.floor(lot * found.length)]!;
  }

  /**
   * Waits, and ends as soon as something has failed.
   * @throws {GaveUp} it did not come about in time
   */
  async until(condition: () => boolean | Promise<boolean>, what: string, timeoutMs = PATIENCE_MS): Promise<void> {
    const ended = () => this.#failure !== null || this.#options.signal.aborted;
    const endMs = performance.now() + timeoutMs;
    let isMet = false;
    while (!ended() && !isMet && performance.now() < endMs) {
      isMet = await condition();
      if (!isMet) await systemClock.sleep(POLL_MS);
    }
    this.check();
    if (!isMet) throw new GaveUp(`waited ${Math.round(timeoutMs / 1000)} s for ${what}`);
  }

  /** SIGKILL. @returns it was that which ended it */
  async kill(instance: Instance): Promise<boolean> {
    instance.busy = true;
    instance.endExpected = true;
    instance.process.signal("SIGKILL");
    const { signal } = await instance.process.exited;
    return signal === "SIGKILL";
  }

  /** SIGTERM. @returns it drained everything and ended with 0 */
  async stop(instance: Instance): Promise<boolean> {
    instance.busy = true;
    instance.endExpected = true;
    instance.process.signal("SIGTERM");
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(), this.#options.drainMs + 30_000);
    const late = new Promise<null>((resolve) => {
      deadline.signal.addEventListener("abort", () => resolve(null), { once: true });
    });
    const end = await Promise.race([instance.process.exited, late]);
    clearTimeout(timer);
    return end?.code === 0;
  }

  /** SIGSTOP, until the kernel says that it stands still. */
  async pause(instance: Instance): Promise<void> {
    instance.busy = true;
    instance.process.signal("SIGSTOP");
    await until(() => stateOf(instance.process.pid) === "T", { what: `${instance.name} to stand still` });
  }

  resume(instance: Instance): void {
    instance.process.signal("SIGCONT");
    instance.busy = false;
  }

  /** Ends everything at once. */
  async close(): Promise<void> {
    for (const instance of this.#all) {
      instance.endExpected = true;
      instance.process.signal("SIGCONT");
      instance.process.signal("SIGKILL");
    }
    await Promise.all(this.all.map(({ process }) => process.exited));
    for (const line of this.#lines) await line.close();
  }

  #onLine(instance: Instance, line: LogLine): void {
    const { event, shard } = line;
    const error = line["err"] as { code?: unknown; message?: unknown } | undefined;
    if (event === "took-over") {
      this.#counts.takeovers += 1;
      const pid = Number(String(line["from"]).split("/")[1]);
      this.#takenOver.set(pid, (this.#takenOver.get(pid) ?? 0) + 1);
    }
    if (event === "redo-published") this.#counts.redoPublished += Number(line["to"]) - Number(line["from"]) + 1;
    if (event === "fenced" || (event === "lost" && error?.code === "SHARD_LOST")) this.#counts.fenced += 1;
    if (event === "restoring") this.#counts.restored += 1;
    if (event === "replaying") this.#counts.replays += 1;
    if (event === "verdict") this.#counts.verdicts += 1;
    if (event === "worker-died" || event === "worker-ended") this.#counts.workersReplaced += 1;
    if (event === "halted" || event === "relay-halted")
      this.#failure ??= `${instance.name}, ${shard === undefined ? "the relay" : `shard ${shard}`}, halted: ${String(error?.message ?? line.msg)}`;
    if (event === "relay-running") {
      if (this.#relayOf !== null && this.#relayOf !== instance.name) this.#counts.relayTakeovers += 1;
      this.#relayOf = instance.name;
      // One that has lost its lock while it tried to reach Kafka says nothing of it.
      for (const other of this.#all) other.relay = other === instance;
    }
    if (["relay-lost", "relay-fenced", "relay-retrying"].includes(event ?? "")) instance.relay = false;
    if (shard === undefined) return;
    if (event === "running") instance.shards.add(shard);
    else if (["released", "lost", "halted", "restoring", "fenced"].includes(event ?? "")) instance.shards.delete(shard);
  }

  #onEnd(instance: Instance, end: { code: number | null; signal: NodeJS.Signals | null; startedMs: number }): void {
    this.#all.delete(instance);
    instance.shards.clear();
    instance.relay = false;
    void Promise.all([instance.kafka.close(), instance.postgres.close()]);
    this.#lines.delete(instance.kafka);
    this.#lines.delete(instance.postgres);
    if (instance.endExpected) return;
    if (end.code === EXIT.unavailable) {
      this.#counts.refusedStarts += 1;
      this.#options.say(`${instance.name} could not reach its servers when it started; starting another`);
      this.start().catch((error) => this.fail(String(error)));
      return;
    }
    this.#failure ??= `${instance.name} ended by itself (${end.signal ?? `code ${end.code}`}) after ${Math.round(
      (performance.now() - end.startedMs) / 1000,
    )} s:\n${instance.process.stderr || "(it said nothing on stderr; see its log)"}`;
  }
}

/** One letter, as /proc has it; null where there is no such process. */
function stateOf(pid: number): string | null {
  try {
    return /^\d+ \(.*\) (\w)/s.exec(readFileSync(`/proc/${pid}/stat`, "utf8"))?.[1] ?? null;
  } catch {
    return null; // it has ended
  }
}
