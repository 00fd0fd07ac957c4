/**
 * What every phase of one shard's life shares: the app, the ports, the clock, and the settings that bound it.
 */
import type { App } from "../actors/app.ts";
import type { Fetcher, PublisherPort, RangeReader, ShardStore, SuspectStore } from "../actors/ports.ts";
import type { QueueBudget } from "../actors/queue-budget.ts";
import type { ModelOptions } from "../actors/shard-model.ts";
import type { Clock, IdSource } from "../clock.ts";
import type { Hook } from "./failpoints.ts";
import type { LifeLog } from "./life-log.ts";
import type { ShardMeter } from "./shard-meter.ts";
import type { ShardSteps } from "./step-seat.ts";

/** Settings of the commit loop; defaults, ranges and reasons stand in src/config.ts. */
export interface ShardSettings {
  readonly handoverMs: number;
  readonly batchRecordsMax: number;
  readonly batchBytesMax: number;
  readonly inputWaitMsMax: number;
  readonly idleMs: number;
  readonly confirmIdleMs: number;
  readonly ownerCheckMs: number;
  readonly snapshotCommits: number;
  readonly snapshotRecords: number;
  readonly snapshotMs: number;
  readonly journalKeepMs: number;
  readonly queueRecordsHigh: number;
  readonly timersPerCommit: number;
  /** Output of one commit, at most, beyond which the batch ends early: it must be published well within the transaction's time. */
  readonly outputBytesMax: number;
  readonly outputRecordsMax: number;
  /** Records of one input in a row, or timers, that may be set aside; one more halts the shard. 0 or absent: any number. */
  readonly refusedRunMax?: number;
  /** Budget of one step, ms: for the words of a verdict. Who keeps it is watchdog.ts. */
  readonly stepMsMax?: number;
}

export interface ShardContext {
  readonly app: App;
  readonly shard: number;
  /** Recorded number of shards: partitions of every input. */
  readonly shardCount: number;
  /** Id of the instance (a UUID). */
  readonly instance: string;
  /** Of the Kafka cluster that the instance was made with. */
  readonly clusterId: string;
  /** `host/pid/worker`. */
  readonly owner: string;
  /** Digest of app definition, machines and schemas. */
  readonly code: string;
  readonly transactionalId: string;
  readonly store: ShardStore;
  readonly publisher: PublisherPort;
  readonly fetcher: Fetcher;
  /** Shared by all shards of a worker. */
  readonly queueBudget: QueueBudget;
  readonly openReader: () => RangeReader;
  readonly model: ModelOptions;
  readonly clock: Clock;
  readonly ids: IdSource;
  readonly log: LifeLog;
  readonly meter: ShardMeter;
  readonly hook: Hook;
  readonly settings: ShardSettings;
  /** Where steps can be seen from outside, and what came of it; absent where nobody watches. */
  readonly watch?: { readonly steps: ShardSteps; readonly suspects: SuspectStore };
}

/** Input topics in order of definition. */
export function inputTopics(context: ShardContext): string[] {
  return context.app.inputs.map((definition) => definition.topic);
}
