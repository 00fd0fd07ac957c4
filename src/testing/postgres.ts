/**
 * Postgres in memory, as far as the commit protocol needs it: shard rows with locks, journal, redo, snapshots, rows of the app.
 *
 * One session at a time holds a shard's row, from its first statement until COMMIT, rollback or the end of the session; others wait
 * for it, in order, and see what it left. What a session did shows at COMMIT, whole, or never.
 *
 * Invariants, asserted at every COMMIT (docs/protocol.md has their meaning)
 *   I1   seq rises by one.
 *   I3   Redo rows are exactly c+1..P.
 *   I4   A write happens only under the current token and epoch.
 *   I12  Positions, stream time and confirmed never fall.
 */
import type { RowEffect } from "../actors/effects.ts";
import type { CommitRequest, JournalRow, Ownership, RedoRow, ShardRow, SnapshotManifest } from "../actors/ports.ts";
import { assert, LockstepError } from "../errors.ts";
import type { Faults } from "./faults.ts";
import type { Schedule } from "./schedule.ts";
import { checkRow, keysOf, type TableShape } from "./tables.ts";

/** As src/storage/pool.ts has them, in virtual time. */
export const LOCK_TIMEOUT_MS = 3_000;
export const IDLE_IN_TRANSACTION_MS = 5_000;

export interface StoredSnapshot {
  readonly manifest: SnapshotManifest;
  readonly publishedAtMs: number;
}

/** A row of the app, and the commit that inserted it. */
export interface StoredRow extends RowEffect {
  readonly shard: number;
  readonly seq: number;
}

export interface ShardTables {
  row: ShardRow;
  journal: (JournalRow & { readonly writtenAtMs: number })[];
  redo: RedoRow[];
  snapshots: StoredSnapshot[];
  /** Every commit there ever was, also those that were pruned from the journal: for whoever judges a run. */
  readonly history: CommitRequest[];
  appVersion: number | null;
}

export interface PostgresOptions {
  readonly schedule: Schedule;
  readonly faults: Faults;
  readonly shards: number;
  /** Shapes of the app's tables, by name. A table that is not there takes every row. */
  readonly tables?: Readonly<Record<string, TableShape>>;
}

export class MemoryPostgres {
  readonly schedule: Schedule;
  readonly shards: ReadonlyMap<number, ShardTables>;
  readonly pieces = new Map<string, Buffer>();
  readonly rows: StoredRow[] = [];
  /** Unique keys in use: table, columns and values. */
  readonly keys = new Set<string>();
  readonly tables: Readonly<Record<string, TableShape>>;
  readonly #faults: Faults;
  readonly #sessions = new Set<Session>();
  readonly #holders = new Map<number, Session>();
  readonly #waiting = new Map<number, { readonly session: Session; readonly granted: () => void }[]>();

  constructor({ schedule, faults, shards, tables = {} }: PostgresOptions) {
    this.schedule = schedule;
    this.tables = tables;
    this.#faults = faults;
    this.shards = new Map(Array.from({ length: shards }, (_, shard) => [shard, emptyTables(shard)]));
  }

  open(): Session {
    const session = new Session(this, this.#faults);
    this.#sessions.add(session);
    return session;
  }

  /** Ends every session: whatever was not committed is gone. */
  restart(): void {
    for (const session of [...this.#sessions]) session.end();
  }

  of(shard: number): ShardTables {
    const tables = this.shards.get(shard);
    if (tables) return tables;
    throw new LockstepError("NOT_MIGRATED", `There is no shard ${shard}.`, { details: { shard } });
  }

  get waiting(): number {
    return [...this.#waiting.values()].reduce((sum, queue) => sum + queue.length, 0);
  }

  /** Takes the lock of a row, now, or when it is free: then `granted` is called. @returns whether now */
  lock(shard: number, session: Session, granted: () => void): boolean {
    const holder = this.#holders.get(shard);
    if (holder === undefined || holder === session) {
      this.#holders.set(shard, session);
      return true;
    }
    const queue = this.#waiting.get(shard) ?? [];
    this.#waiting.set(shard, queue);
    queue.push({ session, granted });
    return false;
  }

  stopWaiting(shard: number, granted: () => void): void {
    const queue = this.#waiting.get(shard) ?? [];
    const index = queue.findIndex((one) => one.granted === granted);
    if (index >= 0) queue.splice(index, 1);
  }

  closed(session: Session): void {
    this.#sessions.delete(session);
    for (const [shard, holder] of [...this.#holders]) {
      if (holder !== session) continue;
      this.#holders.delete(shard);
      const next = this.#waiting.get(shard)?.shift();
      if (!next) continue;
      this.#holders.set(shard, next.session);
      next.granted();
    }
  }
}

/** What a transaction has done and not yet committed, of one shard. */
export interface Draft {
  readonly tables: ShardTables;
  row: ShardRow;
  /** Takes effect at COMMIT, in order. */
  readonly effects: (() => void)[];
  /** Unique keys of its own rows. */
  readonly keys: Set<string>;
  committed: CommitRequest | null;
}

export class Session {
  readonly #postgres: MemoryPostgres;
  readonly #faults: Faults;
  #ended = false;
  #draft: Draft | null = null;
  #cancelIdle: () => void = () => {};
  #stopWaiting: () => void = () => {};

  constructor(postgres: MemoryPostgres, faults: Faults) {
    this.#postgres = postgres;
    this.#faults = faults;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** A statement that locks the shard's row, or has locked it before. Its error ends the transaction. */
  execute<T>(shard: number, statement: (draft: Draft) => T): T | Promise<T> {
    this.#assertOpen();
    this.#cancelIdle();
    const run = (): T => {
      const tables = this.#postgres.of(shard);
      this.#draft ??= { tables, row: tables.row, effects: [], keys: new Set(), committed: null };
      try {
        const result = statement(this.#draft);
        this.#startIdle();
        return result;
      } catch (error) {
        this.end();
        throw error;
      }
    };
    return new Promise<T>((resolve, reject) => {
      const attempt = () => {
        try {
          resolve(run());
        } catch (error) {
          reject(error);
        }
      };
      const granted = () => {
        this.#stopWaiting = () => {};
        cancelTimeout();
        attempt();
      };
      let cancelTimeout = () => {};
      if (this.#postgres.lock(shard, this, granted)) return attempt();
      this.#stopWaiting = () => {
        cancelTimeout();
        this.#postgres.stopWaiting(shard, granted);
        reject(sessionEnded());
      };
      cancelTimeout = this.#postgres.schedule.after(LOCK_TIMEOUT_MS, () => {
        this.#faults.count("lock wait over");
        reject(unavailable("canceling statement due to lock timeout", "55P03"));
        this.end();
      });
    });
  }

  commit(): void {
    this.#assertOpen();
    const draft = this.#draft;
    if (draft) {
      checkDraft(draft);
      draft.tables.row = draft.row;
      for (const effect of draft.effects) effect();
      const { row, redo } = draft.tables;
      assert(
        redo.length === row.seq - row.confirmed && redo.every(({ seq }, i) => seq === row.confirmed + 1 + i),
        `I3: redo of shard ${row.shard} is ${redo.map(({ seq }) => seq)}, and should be ${row.confirmed + 1}..${row.seq}`,
      );
    }
    this.end();
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#draft = null;
    this.#cancelIdle();
    this.#stopWaiting();
    this.#postgres.closed(this);
  }

  #assertOpen(): void {
    if (this.#ended) throw sessionEnded();
  }

  #startIdle(): void {
    this.#cancelIdle = this.#postgres.schedule.after(IDLE_IN_TRANSACTION_MS, () => {
      this.#faults.count("session ended");
      this.end();
    });
  }
}

function sessionEnded(): LockstepError {
  return unavailable("terminating connection due to idle-in-transaction timeout", "25P03");
}

function unavailable(message: string, sqlstate: string): LockstepError {
  return new LockstepError("STORE_UNAVAILABLE", `Postgres answered ${sqlstate}: ${message}`, { details: { sqlstate } });
}

// ------------------------------------------------------------------------------------------------------------- statements

/** @throws {LockstepError} SHARD_LOST, STORE_WENT_BACK: as lockstep.guard and lockstep.refuse do */
export function guard({ row }: Draft, ownership: Ownership, seq: number): void {
  if (row.token !== ownership.token)
    throw new LockstepError("SHARD_LOST", `Shard ${row.shard} is held under another token since epoch ${row.epoch}.`);
  if (row.epoch === ownership.epoch && row.seq === seq) return;
  throw new LockstepError(
    "STORE_WENT_BACK",
    `Shard ${row.shard} stands at epoch ${row.epoch}, seq ${row.seq}; its owner was told epoch ${ownership.epoch}, seq ${seq}.`,
  );
}

/** First statement of a commit. */
export function commitShard(
  draft: Draft,
  request: CommitRequest,
  options: { appVersion: number; nowMs: number },
): void {
  const { seq, positions, streamTimeMs, code, journal, digest, ownership } = request;
  const { row, tables } = draft;
  guard(draft, ownership, seq - 1);
  const falls = row.positions === null || positionsFall(row.positions, positions);
  if (falls || (row.seq > 0 && streamTimeMs < row.streamTimeMs) || request.confirmed >= seq) {
    throw new LockstepError("INVARIANT_BROKEN", `Shard ${row.shard}: commit ${seq} would let positions or time fall.`);
  }
  const confirmed = Math.max(row.confirmed, request.confirmed);
  draft.row = { ...row, seq, positions, streamTimeMs, code, confirmed };
  draft.committed = request;
  draft.effects.push(() => {
    const stored = { seq, token: ownership.token, code, journal, digest, streamTimeMs, writtenAtMs: options.nowMs };
    tables.journal.push(stored);
    tables.redo = [...tables.redo, { seq, payload: request.redo }].filter((one) => one.seq > confirmed);
    tables.history.push(request);
    tables.appVersion = options.appVersion;
  });
}

/** @throws {LockstepError} ROW_REFUSED, ID_COLLISION */
export function insertRows(postgres: MemoryPostgres, draft: Draft, request: CommitRequest): void {
  for (const effect of request.rows) {
    const shape = postgres.tables[effect.table];
    if (!shape) continue;
    checkRow(effect, shape);
    for (const key of keysOf(effect, shape)) {
      if (!postgres.keys.has(key.text) && !draft.keys.has(key.text)) {
        draft.keys.add(key.text);
        continue;
      }
      const ours = key.values.some(
        (value) => typeof value === "string" && [...request.ids].some((id) => value.includes(id)),
      );
      throw new LockstepError(ours ? "ID_COLLISION" : "ROW_REFUSED", `Key ${key.text} already exists.`, {
        details: { sqlstate: "23505" },
      });
    }
  }
  draft.effects.push(() => {
    for (const key of draft.keys) postgres.keys.add(key);
    for (const row of request.rows) postgres.rows.push({ ...row, shard: draft.row.shard, seq: request.seq });
  });
}

function positionsFall(old: Readonly<Record<string, bigint>>, next: Readonly<Record<string, bigint>>): boolean {
  const topics = new Set([...Object.keys(old), ...Object.keys(next)]);
  return [...topics].some((topic) => {
    const [from, to] = [old[topic], next[topic]];
    return from === undefined || to === undefined || to < from;
  });
}

function checkDraft({ tables, row, committed }: Draft): void {
  const before = tables.row;
  assert(row.confirmed >= before.confirmed && row.confirmed <= row.seq, `I12: confirmed of shard ${row.shard} fell`);
  if (committed)
    assert(row.seq === before.seq + 1, `I1: shard ${row.shard} went from commit ${before.seq} to ${row.seq}`);
}

function emptyTables(shard: number): ShardTables {
  const row: ShardRow = {
    shard,
    epoch: 0,
    token: null,
    owner: null,
    seq: 0,
    confirmed: 0,
    positions: null,
    streamTimeMs: 0,
    snapshotSeq: 0,
    snapshotToken: null,
    transactionalIds: [],
    code: null,
  };
  return { row, journal: [], redo: [], snapshots: [], history: [], appVersion: null };
}
