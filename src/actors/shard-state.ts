/**
 * The state of one shard: actors, timers, counters, seen sources and stream time. Every change stands in one undo log.
 *
 * Invariants
 *   SS1  A change that is rolled back leaves no trace: capture() gives the same bytes as before it.
 *   SS2  What a capture holds is never changed in place, so it stays that of its moment while the fold goes on.
 *   SS3  State of newer code is never loaded; state of older code only as its actor type's `migrate` gives it.
 */
import type { AnyMachineSnapshot } from "xstate";

import { LockstepError } from "../errors.ts";
import type { App } from "./app.ts";
import type { Judged } from "./judge.ts";
import { createMachineHost, type MachineEvent, type MachineHost } from "./machine-host.ts";
import { decodeSnapshot, type SnapshotCapture, toCapture } from "./snapshot-codec.ts";
import { TimerQueue } from "./timers.ts";
import { UndoLog, UndoMap } from "./undo.ts";

/** One actor type of the app, with its actors of this shard. */
export interface ActorKind {
  readonly type: string;
  readonly on: Readonly<Record<string, (value: MachineEvent) => string>>;
  readonly host: MachineHost;
  readonly actors: UndoMap<string, AnyMachineSnapshot>;
}

export interface ShardStateOptions {
  readonly app: App;
  readonly shard: number;
  readonly strict: boolean;
}

export class ShardState {
  readonly undo = new UndoLog();
  readonly timers = new TimerQueue(this.undo);
  /** In order of definition. */
  readonly kinds: ReadonlyMap<string, ActorKind>;
  readonly #options: ShardStateOptions;
  readonly #counters = new UndoMap<string, number>(this.undo);
  /** Latest record seen of each source, per input: `<topic>\0<source>`. */
  readonly #sources = new UndoMap<string, { readonly seq: number; readonly ordinal: number }>(this.undo);
  /** Per input, "" for timers: how many could not be taken since the last that could. Only those above 0. */
  readonly #refusedRuns = new UndoMap<string, number>(this.undo);
  #streamTimeMs = 0;

  constructor(options: ShardStateOptions) {
    this.#options = options;
    const { app, strict } = options;
    this.kinds = new Map(
      Object.entries(app.actors).map(([type, { machine, on }]) => {
        const host = createMachineHost(machine, { strict });
        return [type, { type, on, host, actors: new UndoMap<string, AnyMachineSnapshot>(this.undo) }];
      }),
    );
  }

  get streamTimeMs(): number {
    return this.#streamTimeMs;
  }

  get actorCount(): number {
    let count = 0;
    for (const { actors } of this.kinds.values()) count += actors.size;
    return count;
  }

  get counters(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#counters.entries());
  }

  count(name: string): void {
    this.#counters.set(name, (this.#counters.get(name) ?? 0) + 1);
  }

  /**
   * @param topic "" for a timer
   * @returns how many in a row could not be taken now, this one included; 0: it was taken
   */
  noteOutcome(topic: string, { refused }: { refused: boolean }): number {
    if (!refused) {
      if (this.#refusedRuns.size > 0) this.#refusedRuns.delete(topic);
      return 0;
    }
    const length = (this.#refusedRuns.get(topic) ?? 0) + 1;
    this.#refusedRuns.set(topic, length);
    return length;
  }

  /** Stream time never falls: an earlier time changes nothing. */
  moveStreamTime(toMs: number): void {
    const before = this.#streamTimeMs;
    if (toMs <= before) return;
    this.#streamTimeMs = toMs;
    this.undo.record({
      takeBack: () => {
        this.#streamTimeMs = before;
      },
    });
  }

  /** Remembers the source of a record. @returns true when this record, or a later one of the source, was seen before */
  seenBefore({ source, record }: Judged): boolean {
    if (!source) return false;
    const { seq, ordinal } = source;
    const id = `${record.topic}\0${source.key}`;
    const last = this.#sources.get(id);
    if (last && (seq < last.seq || (seq === last.seq && ordinal <= last.ordinal))) return true;
    this.#sources.set(id, { seq, ordinal });
    return false;
  }

  /** The state of this moment, by reference. */
  capture(): SnapshotCapture {
    const { app, shard } = this.#options;
    return toCapture({
      app: app.name,
      shard,
      streamTimeMs: this.#streamTimeMs,
      counters: this.counters,
      actors: [...this.kinds.values()].map(({ type, host, actors }) => ({
        type,
        entries: actors.entries(),
        persist: host.persist,
      })),
      timers: this.timers.entries(),
      refusedRuns: this.#refusedRuns.entries(),
      sources: this.#sources.entries().map(([id, { seq, ordinal }]) => {
        const [topic, key] = id.split("\0") as [string, string];
        return { topic, key, seq, ordinal };
      }),
    });
  }

  /** @throws {LockstepError} SNAPSHOT_BROKEN, CODE_CHANGED */
  static restore(options: ShardStateOptions, pieces: readonly Buffer[], fromVersion: number): ShardState {
    const { app, shard } = options;
    if (fromVersion > app.version) {
      throw new LockstepError(
        "CODE_CHANGED",
        `The snapshot of shard ${shard} was made by version ${fromVersion} of "${app.name}"; this is version ${app.version}. Start the newer build.`,
        { details: { shard, fromVersion, version: app.version } },
      );
    }
    const { actors, timers, sources, counters, refusedRuns, streamTimeMs } = decodeSnapshot(pieces, {
      app: app.name,
      shard,
    });
    const state = new ShardState(options);
    for (const { type, key, persisted } of actors) state.#revive({ type, key, persisted, fromVersion });
    for (const timer of timers) state.timers.schedule(timer);
    for (const { topic, key, seq, ordinal } of sources) state.#sources.set(`${topic}\0${key}`, { seq, ordinal });
    for (const [name, value] of Object.entries(counters)) state.#counters.set(name, value);
    for (const [topic, length] of refusedRuns) state.#refusedRuns.set(topic, length);
    state.#streamTimeMs = streamTimeMs;
    state.undo.forget();
    return state;
  }

  #revive({ type, key, persisted, fromVersion }: Persisted): void {
    const { app, shard } = this.#options;
    const kind = this.kinds.get(type);
    const isOlder = fromVersion < app.version;
    try {
      if (!kind) throw new Error(`the app has no actor type "${type}"`);
      const migrate = isOlder ? app.actors[type]?.migrate : undefined;
      kind.actors.set(key, kind.host.restore(migrate ? migrate(persisted, fromVersion) : persisted));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new LockstepError(
        isOlder ? "CODE_CHANGED" : "SNAPSHOT_BROKEN",
        `The actor "${type}" "${key}" of shard ${shard}, as version ${fromVersion} of "${app.name}" left it, cannot be restored by version ${app.version}: ${reason}`,
        { details: { shard, type, key, fromVersion, version: app.version }, cause: error },
      );
    }
  }
}

interface Persisted {
  readonly type: string;
  readonly key: string;
  readonly persisted: unknown;
  readonly fromVersion: number;
}
