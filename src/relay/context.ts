/** What a relay works with: its settings, and the adapters that open.ts makes. */
import type { Clock } from "../clock.ts";
import type { Writer } from "../kafka/transactional-writer.ts";
import type { Log } from "../log.ts";
import type { LockSession } from "../storage/relay-lock.ts";
import type { Ask } from "../storage/relay-store.ts";
import type { ReplicationStream } from "../storage/replication-stream.ts";
import type { OutboxTargets } from "./outbox-record.ts";
import type { CommittedPosition } from "./position.ts";
import type { RelayObserver } from "./status.ts";

/** Fail-points of tests: `relay.` and a name below. */
export type RelayHook = (point: string) => void | Promise<void>;

export interface RelaySettings {
  readonly batchRecordsMax: number;
  readonly batchBytesMax: number;
  /** At least so long from the begin of one Kafka transaction to the next, unless a limit above is reached. */
  readonly lingerMs: number;
  /** After which the position follows a log without rows for us. */
  readonly positionMs: number;
  /** After which an unchanged position is written again: Kafka forgets it after seven days. */
  readonly refreshMs: number;
  readonly lockPollMs: number;
  /** After which a halted relay looks again whether somebody has cured it. */
  readonly haltMs: number;
  readonly measureMs: number;
  /** 0: nothing is pruned. */
  readonly keepMs: number;
}

/** Everything is idempotent or fenced; failures are LockstepErrors. */
export interface RelayPorts {
  openSession(): Promise<LockSession>;
  /** InitProducerId, once; null: try again. */
  fence(): Promise<Writer | null>;
  /** The committed offset; final only after a fence. */
  committed(): Promise<CommittedPosition | null>;
  /** The same from the log that it should come from; null: that has none, or may not be read. @throws {LockstepError} KAFKA_UNAVAILABLE */
  committedInLog(): Promise<CommittedPosition | null>;
  targets(): Promise<OutboxTargets>;
  openStream(
    at: { slot: string; publication: string; startLsn: bigint },
    signal: AbortSignal,
  ): Promise<ReplicationStream>;
  /** A statement of the pruning, on a connection of its own. @throws {LockstepError} */
  prune: Ask;
  close(): Promise<void>;
}

export interface RelayContext {
  readonly app: string;
  readonly groupId: string;
  readonly settings: RelaySettings;
  readonly ports: RelayPorts;
  readonly observer: RelayObserver;
  readonly log: Log;
  readonly clock: Clock;
  readonly hook: RelayHook;
}

/** Of the group that holds the position, and of its transactions. */
export function relayGroupId(groupId: string): string {
  return `${groupId}-relay`;
}
