/**
 * One worker: one thread, one member of the consumer group, the host of its shards.
 *
 * The group says which shards are ours; that is a hint to acquire or release, never a fence. A shard that stays ours through a
 * rebalance is not touched: it goes on committing while the group talks.
 *
 *   assigned, not held   -> acquire (after an earlier hold of the same shard has ended)
 *   held, not assigned   -> revoke: drain, snapshot, release
 *
 * Stop: every shard is drained first, then the group is left, so that who comes next finds rows without owner.
 */
import type {
  Fetcher,
  Membership,
  MembershipListener,
  PublisherPort,
  RangeReader,
  ShardStore,
  SuspectStore,
} from "../actors/ports.ts";
import { QueueBudget } from "../actors/queue-budget.ts";
import type { Clock, IdSource } from "../clock.ts";
import type { Config } from "../config.ts";
import type { Log } from "../log.ts";
import type { LoadedApp } from "./code.ts";
import type { Hook } from "./failpoints.ts";
import { createLifeLog } from "./life-log.ts";
import { Shard } from "./shard.ts";
import type { ShardContext } from "./shard-context.ts";
import type { StepSeat } from "./step-seat.ts";
import { WorkerMeter } from "./worker-meter.ts";

/** What `main` found out at start and every worker needs; plain data, it crosses a thread boundary. */
export interface Deployment {
  /** Id of the instance (a UUID). */
  readonly instance: string;
  readonly groupId: string;
  readonly shardCount: number;
  /** Recorded: of the Kafka cluster that it was made with. */
  readonly clusterId: string;
  /** Per output topic: partition count and greatest record size. */
  readonly outputs: Readonly<Record<string, { partitions: number; bytesMax: number }>>;
}

export interface WorkerPorts {
  readonly store: (hook: Hook) => ShardStore;
  readonly publisher: (hook: Hook) => PublisherPort;
  /** Absent where nobody watches the steps. */
  readonly suspects?: SuspectStore;
  readonly fetcher: Fetcher;
  readonly openReader: (shard: number) => RangeReader;
  readonly join: (listener: MembershipListener, held: () => number[]) => Promise<Membership>;
  readonly close: () => Promise<void>;
}

export interface WorkerOptions {
  readonly index: number;
  readonly config: Config;
  readonly deployment: Deployment;
  readonly loaded: LoadedApp;
  readonly ports: WorkerPorts;
  /** Where main sees what is stepped; with `ports.suspects`, or not at all. */
  readonly seat?: StepSeat;
  readonly clock: Clock;
  readonly ids: IdSource;
  /** Fail-points of one shard. */
  readonly hookOf: (shard: number) => Hook;
  readonly log: Log;
  readonly onMember: (memberId: string) => void;
}

export class Worker {
  readonly meter: WorkerMeter;
  readonly #options: WorkerOptions;
  readonly #owner: string;
  readonly #queueBudget: QueueBudget;
  readonly #held = new Map<number, Shard>();
  readonly #ending = new Map<number, Promise<boolean>>();
  /** Made once a shard: its connections and its count of fail-point hits outlive a hold. */
  readonly #contexts = new Map<number, ShardContext>();
  #assigned: ReadonlySet<number> = new Set();
  #membership: Membership | null = null;
  #stopping = false;
  #failed: (error: unknown) => void = () => {};
  /** Rejects when the worker cannot go on. */
  readonly failure: Promise<never>;

  constructor(options: WorkerOptions) {
    this.#options = options;
    this.#queueBudget = new QueueBudget(options.config.queueBytesMax);
    this.#owner = `${options.config.host}/${process.pid}/${options.index}`;
    this.meter = new WorkerMeter({
      worker: options.index,
      owner: this.#owner,
      group: options.deployment.groupId,
      topics: options.loaded.app.inputs.map(({ topic }) => topic),
      actorsMax: options.config.metricsActorsMax,
      clock: options.clock,
      log: options.log,
      answered: () => this.#membership?.answered() ?? 0,
    });
    this.failure = new Promise((_, reject) => {
      this.#failed = reject;
    });
    this.failure.catch(() => {}); // whoever waits for it sees it; nobody waiting is no crash
  }

  async start(): Promise<void> {
    const { ports, log, onMember } = this.#options;
    this.#membership = await ports.join(
      {
        onAssigned: (shards, details) => {
          log.info({ event: "assigned", shards, ...details }, "the group assigned shards");
          this.meter.assigned(shards, details.durationMs);
          onMember(details.memberId);
          this.#assign(shards);
        },
        onRebalancing: () => {
          this.meter.rebalancing();
          log.info({ event: "rebalancing" }, "the group is rebalancing");
        },
        onFailed: (error) => {
          this.meter.membershipFailed();
          log.error({ event: "membership-failed", err: error }, "membership of the group ended");
          this.#failed(error);
        },
      },
      () => this.holding(),
    );
  }

  /** Shards that are ours or about to be: what the assignor should leave where it is. */
  holding(): number[] {
    return [...this.#held]
      .filter(([, shard]) => shard.state !== "halted" && shard.state !== "lost")
      .map(([number]) => number);
  }

  /** Drains every shard, leaves the group, closes everything. @returns whether nothing of ours is left to be taken over */
  async stop(): Promise<boolean> {
    this.#stopping = true;
    this.#assigned = new Set();
    for (const number of this.#held.keys()) void this.#revoke(number, "the worker stops");
    const drained = await Promise.all(this.#ending.values());
    await this.#membership?.stop();
    await this.#options.ports.fetcher.stop();
    await this.#options.ports.close();
    return drained.every((one) => one);
  }

  #assign(shards: readonly number[]): void {
    if (this.#stopping) return;
    this.#assigned = new Set(shards);
    for (const number of this.#held.keys()) {
      if (!this.#assigned.has(number)) void this.#revoke(number, "assigned to another member"); // never rejects
    }
    for (const number of shards) if (!this.#held.has(number)) void this.#hold(number);
  }

  async #hold(number: number): Promise<void> {
    await this.#ending.get(number);
    // Meanwhile a further rebalance may have taken it away, or begun to hold it.
    if (this.#stopping || !this.#assigned.has(number) || this.#held.has(number)) return;
    const context = this.#contexts.get(number) ?? this.#context(number);
    this.#contexts.set(number, context);
    this.#held.set(number, new Shard({ context, answered: () => this.#membership?.answered() ?? 0 }));
  }

  #revoke(number: number, why: string): Promise<boolean> {
    const shard = this.#held.get(number);
    if (!shard) return Promise.resolve(true);
    this.#held.delete(number);
    const ended = shard.revoke(why).finally(() => this.#ending.delete(number));
    this.#ending.set(number, ended);
    return ended;
  }

  #context(shard: number): ShardContext {
    const { config, deployment, loaded, ports, clock, ids, hookOf, log } = this.#options;
    const { outputs, groupId, instance } = deployment;
    const hook = hookOf(shard);
    const publisher = ports.publisher(hook);
    const meter = this.meter.shard(shard, publisher);
    const steps = this.#options.seat?.shard(shard);
    return {
      ...(steps && ports.suspects ? { watch: { steps, suspects: ports.suspects } } : {}),
      app: loaded.app,
      shard,
      shardCount: deployment.shardCount,
      instance,
      clusterId: deployment.clusterId,
      owner: this.#owner,
      code: config.strict ? `${loaded.code}-strict` : loaded.code, // what throws in strict mode alone is another outcome
      transactionalId: `${groupId}-${shard}`,
      store: ports.store(hook),
      publisher,
      fetcher: ports.fetcher,
      queueBudget: this.#queueBudget,
      openReader: () => ports.openReader(shard),
      model: {
        app: loaded.app,
        shard,
        partitionsOf: (topic) => outputs[topic]!.partitions,
        strict: config.strict,
        ...(steps ? { watch: steps } : {}),
        limits: { timersPerCommit: TIMERS_PER_COMMIT, outputBytesMax: (topic) => outputs[topic]!.bytesMax },
      },
      clock,
      ids,
      log: meter.watch(createLifeLog(log.child({ shard }))),
      meter,
      hook,
      settings: {
        handoverMs: config.handoverMs,
        batchRecordsMax: config.batchRecordsMax,
        batchBytesMax: config.batchBytesMax,
        inputWaitMsMax: config.inputWaitMsMax,
        idleMs: config.idleMs,
        confirmIdleMs: 1_000,
        ownerCheckMs: 5_000,
        snapshotCommits: config.snapshotCommits,
        snapshotRecords: config.snapshotRecords,
        snapshotMs: config.snapshotMs,
        journalKeepMs: config.journalKeepMs,
        queueRecordsHigh: config.batchRecordsMax * 2,
        timersPerCommit: TIMERS_PER_COMMIT,
        outputBytesMax: OUTPUT_BYTES_PER_COMMIT,
        outputRecordsMax: OUTPUT_RECORDS_PER_COMMIT,
        refusedRunMax: config.refusedRunMax,
        stepMsMax: config.stepMsMax,
      },
    };
  }
}

/** Timers that one tick fires at most: at a few microseconds each, a commit stays in the milliseconds. */
const TIMERS_PER_COMMIT = 1_000;

/** Published by one commit at most: at 20 MB/s through one producer, 8 MiB take less than half a second. */
const OUTPUT_BYTES_PER_COMMIT = 8 * 1_048_576;
const OUTPUT_RECORDS_PER_COMMIT = 20_000;
