/**
 * What the runtime needs of Kafka and Postgres. The core owns these interfaces; src/kafka and src/storage implement them
 * on the real servers, test/support on memory. "Shard", "epoch", "token", "seq", "redo" are the words of docs/protocol.md.
 *
 * Every method says what its failure means. A failure whose outcome is unknown is never reported as one that can be retried.
 */
import type { ErrorCode, LockstepError } from "../errors.ts";
import type { RowEffect } from "./effects.ts";
import type { Journal } from "./journal.ts";
import type { InputRecord, OutputRecord, Positions } from "./record.ts";

// ---------------------------------------------------------------------------------------------------------------- storage

export interface ShardRow {
  readonly shard: number;
  readonly epoch: number;
  /** UUID of the current ownership; null before the first. */
  readonly token: string | null;
  /** Who holds the shard (`host/pid/worker`), null after a graceful release. */
  readonly owner: string | null;
  /** P: number of the latest commit, 0 before the first. */
  readonly seq: number;
  /** c: greatest seq known to be in Kafka. */
  readonly confirmed: number;
  /** Positions after commit `seq`; null until the first owner has fixed the start. */
  readonly positions: Positions | null;
  readonly streamTimeMs: number;
  /** S: seq of the published snapshot, 0 when there is none. */
  readonly snapshotSeq: number;
  readonly snapshotToken: string | null;
  /** Every transactional id that ever published for this shard. */
  readonly transactionalIds: readonly string[];
  /** Code that made commit `seq`. */
  readonly code: string | null;
}

/** One ownership: what every write is guarded by. */
export interface Ownership {
  readonly shard: number;
  readonly epoch: number;
  readonly token: string;
}

export interface RedoRow {
  readonly seq: number;
  /** The records, in order, as `encodeRedo` packed them. */
  readonly payload: Buffer;
}

export interface JournalRow {
  readonly seq: number;
  readonly token: string;
  readonly code: string;
  readonly journal: Journal;
  readonly digest: string;
  readonly streamTimeMs: number;
}

export interface CommitRequest {
  readonly ownership: Ownership;
  /** b: exactly one more than the row's seq. */
  readonly seq: number;
  readonly positions: Positions;
  readonly streamTimeMs: number;
  readonly code: string;
  readonly journal: Journal;
  /** Records taken by this commit, verdicts included. */
  readonly taken: number;
  readonly digest: string;
  readonly redo: Buffer;
  readonly rows: readonly RowEffect[];
  /** Ids made for these rows, to tell a conflict on one of them (ID_COLLISION) from one on the app's own keys (ROW_REFUSED). */
  readonly ids: ReadonlySet<string>;
  /** Confirmed so far: rides along, and lets redo rows up to it be deleted. */
  readonly confirmed: number;
}

/**
 * The shard rows and what hangs on them, of one instance.
 *
 * "Guarded" methods carry the WHERE (token, epoch, and seq where said) in SQL, and throw SHARD_LOST when it matched no row
 * because another token stands there, STORE_WENT_BACK when token and epoch are the caller's and yet no row matched.
 */
export interface ShardStore {
  readShard(shard: number): Promise<ShardRow>;
  readShards(): Promise<ShardRow[]>;

  /**
   * F1: one own transaction that makes a new epoch and token.
   * @param expectedToken null: unconditional (on assignment); else only while this token stands in the row
   * @returns the row as it was before (its token is the replaced one) and the new ownership; null when the condition matched no row
   * @throws {LockstepError} COMMIT_UNKNOWN the outcome is unknown; STORE_UNAVAILABLE nothing happened
   */
  acquire(request: {
    shard: number;
    owner: string;
    token: string;
    expectedToken: string | null;
    transactionalId: string;
  }): Promise<{ before: ShardRow; ownership: Ownership } | null>;

  /** Guarded, seq 0: fixes the start positions of a shard that never committed. */
  fixStart(ownership: Ownership, positions: Positions): Promise<void>;

  /** Redo rows with seq > `after`, ascending. */
  readRedo(shard: number, after: number): Promise<RedoRow[]>;
  /** Journal rows with after < seq <= upTo, ascending, at most `limit`. */
  readJournal(shard: number, range: { after: number; upTo: number; limit: number }): Promise<JournalRow[]>;

  /**
   * The commit point: ONE transaction, first statement the guarded update of the shard row.
   * @throws {LockstepError} SHARD_LOST, STORE_WENT_BACK as above; nothing was written
   * @throws {LockstepError} ROW_REFUSED SQLSTATE class 22 or 23 caused by a row of the app (`details.sqlstate`); nothing was written
   * @throws {LockstepError} ID_COLLISION 23505 on one of `ids`; SCHEMA_REFUSED class 42; nothing was written
   * @throws {LockstepError} STORE_UNAVAILABLE the connection broke before COMMIT was sent; nothing was written
   * @throws {LockstepError} COMMIT_UNKNOWN COMMIT was sent and its answer never came
   */
  commit(request: CommitRequest): Promise<void>;

  /** Guarded, with seq: records what Kafka has, when there is nothing to commit. */
  confirm(ownership: Ownership, seq: number, confirmed: number): Promise<void>;

  /** Guarded, with seq: graceful release, owner = null. */
  release(ownership: Ownership, seq: number): Promise<void>;

  /** Writes one piece of snapshot (seq, token); invisible until published. Guarded by token. */
  writeSnapshotPiece(ownership: Ownership, seq: number, piece: number, data: Buffer): Promise<void>;
  /** Guarded, with seq = `currentSeq`: flips the pointer, keeps the last two, prunes what is older (journal rows < confirmed only). */
  publishSnapshot(
    ownership: Ownership,
    request: SnapshotManifest & { currentSeq: number; journalKeepMs: number },
  ): Promise<void>;
  /** The published snapshot. @throws {LockstepError} SNAPSHOT_BROKEN when count, bytes or digest differ */
  loadSnapshot(shard: number): Promise<{ manifest: SnapshotManifest; pieces: Buffer[] } | null>;
}

/** A record or timer whose step did not come to its end: it took its worker, or the process, with it. */
export interface Suspect {
  /** `targetText` of it. */
  readonly target: string;
  /** It was stepped by a replay, so it is committed. */
  readonly replay: boolean;
  readonly attempts: number;
  /** How the latest attempt ended. */
  readonly code: ErrorCode;
}

/** Attempts at steps, of one instance. @throws {LockstepError} each method: STORE_UNAVAILABLE nothing happened */
export interface SuspectStore {
  read(shard: number): Promise<Suspect[]>;
  /** Counts an attempt for a thread that is dead, on whoever's behalf. @param attempt.add 0 when its owner has counted it before */
  count(attempt: { shard: number; target: string; replay: boolean; code: ErrorCode; add: 0 | 1 }): Promise<void>;
  /** Guarded, with seq: counts an attempt before it begins. @throws {LockstepError} COMMIT_UNKNOWN it may be counted or not */
  begin(ownership: Ownership, attempt: { seq: number; target: string }): Promise<void>;
  /** Guarded, with seq: it came to its end. @throws {LockstepError} COMMIT_UNKNOWN */
  survived(ownership: Ownership, attempt: { seq: number; target: string }): Promise<void>;
  /** It is committed, or gone. */
  forget(shard: number, target: string): Promise<void>;
  forgetReplay(shard: number): Promise<void>;
  /** Counts that a shard was taken over at `seq` from an owner that had not released it. @returns how often in a row at this seq */
  countUncleanEnd(shard: number, seq: number): Promise<number>;
}

export interface SnapshotManifest {
  readonly seq: number;
  readonly token: string;
  readonly pieces: number;
  readonly bytes: number;
  /** SHA-256 over the pieces in order, hex. */
  readonly digest: string;
  readonly code: string;
  readonly appVersion: number;
  readonly streamTimeMs: number;
  readonly positions: Positions;
  readonly counters: Readonly<Record<string, number>>;
}

// ------------------------------------------------------------------------------------------------------------------ Kafka

/** What stands in the metadata of a committed offset. */
export interface OffsetMetadata {
  readonly instance: string;
  readonly seq: number;
  /** Token of the commit, not of whoever published it. */
  readonly token: string;
}

export interface CommittedOffset {
  /** null: the group has no offset for this partition. */
  readonly offset: bigint | null;
  readonly metadata: string;
}

/**
 * Publishes the commits of one shard: a transactional producer on one transactional id, used for one ownership.
 * After any error the object is useless, and a new one must be made (F2).
 */
export interface TransactionalWriter {
  /**
   * One transaction: records in order, then the offsets of ALL inputs with metadata, then the commit. The commit is never retried.
   * @param request.again an earlier owner may have written the records and not come to the end: its copy must not show beside this one
   * @throws {LockstepError} PUBLISH_FAILED outcome unknown, or fenced (`details.fenced`); acquire again
   * @throws {LockstepError} PUBLISH_REFUSED Kafka will never take it (authorization, unknown topic, invalid record); nothing a new producer can cure
   */
  publish(request: {
    records: readonly OutputRecord[];
    positions: Positions;
    metadata: OffsetMetadata;
    again?: boolean;
  }): Promise<void>;
  close(): Promise<void>;
}

export interface PublisherPort {
  /**
   * F2 on one transactional id: InitProducerId ONCE on a new producer.
   * @returns null when the broker is still completing the predecessor's transaction: the caller reads the row, then tries again
   * @throws {LockstepError} KAFKA_UNAVAILABLE
   */
  fence(transactionalId: string): Promise<TransactionalWriter | null>;
  /** R2. Offsets of one partition number of all inputs, of the app's group. @throws {LockstepError} KAFKA_UNAVAILABLE */
  committed(shard: number): Promise<Record<string, CommittedOffset>>;
  /**
   * The same, read from the log that the coordinator's answer should come from. Slower; asked when the answer needs a second witness.
   * @returns null where that log may not be read
   * @throws {LockstepError} KAFKA_UNAVAILABLE
   */
  committedInLog(shard: number): Promise<Record<string, CommittedOffset> | null>;
  /** Partition count of each input, as the cluster has it now. @throws {LockstepError} KAFKA_UNAVAILABLE */
  partitionCounts(): Promise<Record<string, number>>;
  /** Of the cluster that answers now. @throws {LockstepError} KAFKA_UNAVAILABLE */
  clusterId(): Promise<string>;
  /** Low and high (last stable) offsets of one partition number of all inputs. @throws {LockstepError} KAFKA_UNAVAILABLE */
  watermarks(shard: number): Promise<Record<string, { low: bigint; high: bigint }>>;
}

/** Receives what was fetched of one shard. Called synchronously; it must return at once. */
export interface FetchSink {
  /**
   * @param batch.records     data records, ascending; aborted and control records are left out
   * @param batch.nextOffset  where the next fetch goes on, past control records
   * @param batch.caughtUp    nextOffset had reached the last stable offset, at some moment between `batch.askedAtMs` and
   *                          `batch.answeredAtMs` (monotonic)
   */
  onFetched(batch: {
    topic: string;
    records: InputRecord[];
    nextOffset: bigint;
    lastStableOffset: bigint;
    /** First offset that is still there; null when it is not known. */
    logStartOffset: bigint | null;
    caughtUp: boolean;
    askedAtMs: number;
    answeredAtMs: number;
  }): void;
  /** The position is below the low watermark or above the end: the log was trimmed or recreated. */
  onOutOfRange(topic: string, position: bigint): void;
  /** The partition cannot be read at all (a codec that is missing); it is not fetched any more. */
  onUnreadable?(topic: string, error: LockstepError): void;
}

/** Fetches input partitions, outside the group: positions are the caller's alone. One a worker. */
export interface Fetcher {
  open(shard: number, positions: Positions, sink: FetchSink): void;
  /** Until resumed, nothing of this partition is fetched; what was under way is dropped and fetched again. */
  pause(shard: number, topic: string): void;
  resume(shard: number, topic: string): void;
  close(shard: number): void;
  stop(): Promise<void>;
}

/** Reads a range of one input partition once, in order, for replay. */
export interface RangeReader {
  /** The next `count` data records of `topic`, from `first` on; they must end at `next` - 1. Calls per topic ascend. */
  read(topic: string, first: bigint, next: bigint, count: number): Promise<InputRecord[]>;
  close(): Promise<void>;
}

/** One member of the consumer group: assignment only, nothing is fetched through it. */
export interface Membership {
  /** Monotonic count of heartbeats and joins that the coordinator has answered. */
  answered(): number;
  memberId(): string | null;
  /** Leaves the group and stops. */
  stop(): Promise<void>;
}

export interface MembershipListener {
  onAssigned(shards: readonly number[], details: { memberId: string; isLeader: boolean; durationMs: number }): void;
  onRebalancing(): void;
  /** The member cannot go on by itself. */
  onFailed(error: unknown): void;
}
