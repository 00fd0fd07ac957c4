/**
 * A snapshot of a shard as bytes: lines of JSON, cut into pieces anywhere, so that no piece exceeds its size.
 *
 *   {"v":1,"app":"trading","shard":0,"streamTimeMs":...,"counters":{...},"actors":2,"timers":1,"sources":0,"refusedRuns":{"<topic>":3}}
 *   ["s","<topic>","<source>",seq,ordinal]
 *   ["a","<actor type>","<key>",{...}]                         XState's persisted snapshot
 *   ["t","<actor type>","<key>","<timer id>",dueMs,{...}]
 *
 * Invariants
 *   SC1  The bytes are a function of the state alone: everything is sorted.
 *   SC2  Encoding is lazy: a capture holds references to immutable values, and a line is made when its piece is asked for.
 */
import type { AnyMachineSnapshot } from "xstate";

import { LockstepError } from "../errors.ts";
import type { MachineEvent } from "./machine-host.ts";
import { compareText, compareTimers, type Timer } from "./timers.ts";

const VERSION = 1;
const NEWLINE = 0x0a;

/** The state of a shard as of one moment. */
export interface SnapshotCapture {
  readonly streamTimeMs: number;
  readonly counters: Readonly<Record<string, number>>;
  readonly actorCount: number;
  readonly timerCount: number;
  /** The snapshot in pieces of at most `maxBytes`. May be called again, with the same bytes. */
  pieces(maxBytes: number): Iterable<Buffer>;
}

export interface SeenSource {
  readonly topic: string;
  readonly key: string;
  readonly seq: number;
  readonly ordinal: number;
}

/** What `ShardModel.capture` gathers: references, not copies. */
export interface CapturedState {
  readonly app: string;
  readonly shard: number;
  readonly streamTimeMs: number;
  readonly counters: Readonly<Record<string, number>>;
  /** Per actor type, its actors in any order, and how one is persisted. */
  readonly actors: ReadonlyArray<{
    readonly type: string;
    readonly entries: Array<[string, AnyMachineSnapshot]>;
    readonly persist: (snapshot: AnyMachineSnapshot) => unknown;
  }>;
  readonly timers: Timer[];
  readonly sources: SeenSource[];
  /** Per input, how many of its records could not be taken since the last one that could; only those above 0. */
  readonly refusedRuns: ReadonlyArray<readonly [topic: string, length: number]>;
}

export interface DecodedSnapshot {
  readonly streamTimeMs: number;
  readonly refusedRuns: ReadonlyArray<readonly [topic: string, length: number]>;
  readonly counters: Readonly<Record<string, number>>;
  readonly sources: readonly SeenSource[];
  readonly actors: ReadonlyArray<{ readonly type: string; readonly key: string; readonly persisted: unknown }>;
  readonly timers: readonly Timer[];
}

export function toCapture(state: CapturedState): SnapshotCapture {
  const { streamTimeMs, counters, timers } = state;
  const actorCount = state.actors.reduce((sum, { entries }) => sum + entries.length, 0);
  return {
    streamTimeMs,
    counters,
    actorCount,
    timerCount: timers.length,
    pieces: (maxBytes) => cut(lines(state, actorCount), maxBytes),
  };
}

/** @throws {LockstepError} SNAPSHOT_BROKEN the pieces are not a whole snapshot of this app and shard */
export function decodeSnapshot(pieces: readonly Buffer[], expected: { app: string; shard: number }): DecodedSnapshot {
  const sources: SeenSource[] = [];
  const actors: Array<{ type: string; key: string; persisted: unknown }> = [];
  const timers: Timer[] = [];
  let header: Header | null = null;
  for (const line of joinLines(pieces)) {
    if (header === null) {
      header = readHeader(line, expected);
      continue;
    }
    if (!Array.isArray(line)) throw broken("a line is not a list");
    const fields: readonly unknown[] = line;
    const [kind] = fields;
    if (kind === "s") {
      const [, topic, key, seq, ordinal] = fields as [string, string, string, number, number];
      sources.push({ topic, key, seq, ordinal });
    } else if (kind === "a") {
      const [, type, key, persisted] = fields as [string, string, string, unknown];
      actors.push({ type, key, persisted });
    } else if (kind === "t") {
      const [, actorType, key, timerId, dueMs, event] = fields as [
        string,
        string,
        string,
        string,
        number,
        MachineEvent,
      ];
      timers.push({ actorType, key, timerId, dueMs, event });
    } else {
      throw broken(`a line begins with ${JSON.stringify(kind)}`);
    }
  }
  if (header === null) throw broken("it is empty");
  if (header.actors !== actors.length || header.timers !== timers.length || header.sources !== sources.length) {
    throw broken(
      `it should hold ${header.actors} actors, ${header.timers} timers and ${header.sources} sources, and holds ${actors.length}, ${timers.length} and ${sources.length}`,
    );
  }
  const { streamTimeMs, counters, refusedRuns = {} } = header;
  return { streamTimeMs, counters, refusedRuns: Object.entries(refusedRuns), sources, actors, timers };
}

interface Header {
  readonly v: number;
  readonly app: string;
  readonly shard: number;
  readonly streamTimeMs: number;
  readonly counters: Readonly<Record<string, number>>;
  readonly actors: number;
  readonly timers: number;
  readonly sources: number;
  /** Absent when there is none, and in snapshots of before it was kept. */
  readonly refusedRuns?: Readonly<Record<string, number>>;
}

function* lines(state: CapturedState, actorCount: number): Iterable<unknown> {
  const { app, shard, streamTimeMs, counters, timers, sources } = state;
  const sorted = Object.fromEntries(Object.entries(counters).sort(([a], [b]) => compareText(a, b)));
  const header: Header = {
    v: VERSION,
    app,
    shard,
    streamTimeMs,
    counters: sorted,
    actors: actorCount,
    timers: timers.length,
    sources: sources.length,
    ...(state.refusedRuns.length === 0
      ? {}
      : { refusedRuns: Object.fromEntries([...state.refusedRuns].sort(([a], [b]) => compareText(a, b))) }),
  };
  yield header;
  sources.sort((a, b) => compareText(a.topic, b.topic) || compareText(a.key, b.key));
  for (const { topic, key, seq, ordinal } of sources) yield ["s", topic, key, seq, ordinal];
  for (const { type, entries, persist } of state.actors) {
    entries.sort(([a], [b]) => compareText(a, b));
    for (const [key, snapshot] of entries) yield ["a", type, key, persist(snapshot)];
  }
  timers.sort(compareTimers);
  for (const { actorType, key, timerId, dueMs, event } of timers) yield ["t", actorType, key, timerId, dueMs, event];
}

function* cut(values: Iterable<unknown>, maxBytes: number): Iterable<Buffer> {
  let held: Buffer[] = [];
  let heldBytes = 0;
  for (const value of values) {
    let rest = Buffer.from(`${JSON.stringify(value)}\n`);
    while (heldBytes + rest.length >= maxBytes) {
      const room = maxBytes - heldBytes;
      yield Buffer.concat([...held, rest.subarray(0, room)]);
      rest = rest.subarray(room);
      held = [];
      heldBytes = 0;
    }
    if (rest.length > 0) held.push(rest);
    heldBytes += rest.length;
  }
  if (heldBytes > 0) yield Buffer.concat(held);
}

function* joinLines(pieces: readonly Buffer[]): Iterable<unknown> {
  let begun: Buffer[] = [];
  for (const piece of pieces) {
    let start = 0;
    for (let end = piece.indexOf(NEWLINE); end >= 0; end = piece.indexOf(NEWLINE, start)) {
      const part = piece.subarray(start, end);
      yield parseLine(begun.length === 0 ? part : Buffer.concat([...begun, part]));
      begun = [];
      start = end + 1;
    }
    if (start < piece.length) begun.push(piece.subarray(start));
  }
  if (begun.length > 0) throw broken("its last line is cut off");
}

function parseLine(line: Buffer): unknown {
  let parsed: unknown;
  try {
    parsed = JSON.parse(line.toString("utf8"));
  } catch (error) {
    throw broken("a line is not JSON", error);
  }
  if (typeof parsed !== "object" || parsed === null) throw broken("a line is neither a list nor an object");
  return parsed;
}

function readHeader(line: unknown, expected: { app: string; shard: number }): Header {
  const header = line as Header;
  if (header.v !== VERSION) throw broken(`its version is ${JSON.stringify(header.v)}, not ${VERSION}`);
  if (header.app !== expected.app || header.shard !== expected.shard) {
    throw broken(
      `it is of shard ${header.shard} of "${header.app}", not of shard ${expected.shard} of "${expected.app}"`,
    );
  }
  return header;
}

function broken(reason: string, cause?: unknown): LockstepError {
  return new LockstepError("SNAPSHOT_BROKEN", `A snapshot cannot be read: ${reason}.`, { cause });
}
