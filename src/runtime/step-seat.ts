/**
 * What a worker thread is stepping, in memory that main can read when the thread can no longer answer: because it runs for ever,
 * or because it is dead.
 *
 *   idle -- begin(target) --> stepping -- begin(another) --> stepping -- end() --> idle
 *
 * Invariants
 *   W1  The serial is another one after every begin and every end: the same serial seen twice means the same step.
 *   W2  A target is whole once its kind is set, and the kind is set last, after the serial. Who reads the seat of a thread that hangs
 *       or is dead reads what it wrote last; when serial or kind have changed meanwhile, it was not dead yet, and is read again.
 *   W7  Of a thread that runs, nothing but serial and kind is read: the rest may be half of one target and half of the next.
 *
 * A begin costs about 50 ns for a record and 1 us for a timer, whose name is text; no clock is read here.
 */
import { getHeapStatistics } from "node:v8";

import { type StepTarget, type StepWatch, targetOf, targetText } from "../actors/step-target.ts";

const SERIAL = 0;
const KIND = 1;
const SHARD = 2;
const TOPIC = 3;
const TEXT_BYTES = 4;
const REPLAY = 5;
const COUNTED = 6;
const HEAP_USED = 7;
const HEAP_LIMIT = 8;
const OFFSET_AT_BYTE = 40;
const TEXT_AT_BYTE = 64;
/** A timer whose name is longer is not known by name: it cannot be set aside, only be seen to hang. */
const TEXT_BYTES_MAX = 4_096;
export const SEAT_BYTES = TEXT_AT_BYTE + TEXT_BYTES_MAX;

const IDLE = 0;
const RECORD = 1;
const TIMER = 2;
const NAMELESS = 3;

/** A thread that was told to end may come to the end of its step first; it is dead within the next two. */
const READS_MAX = 3;

const MIB = 1_048_576;

/** The worker's side: one seat a thread, a watch a shard. */
export interface StepSeat {
  shard(shard: number): ShardSteps;
}

export interface ShardSteps extends StepWatch {
  /** What is stepped from now on was committed before. */
  replaying(on: boolean): void;
  /** The attempt that begins now stands in Postgres already: who finds the thread dead need not count it. */
  counted(on: boolean): void;
  /** Before a fold: how full the heap is without it. */
  noteHeap(): void;
}

export function createStepSeat(memory: SharedArrayBuffer, topics: readonly string[]): StepSeat {
  const words = new Int32Array(memory, 0, OFFSET_AT_BYTE / 4);
  const offset = new BigInt64Array(memory, OFFSET_AT_BYTE, 1);
  const text = new Uint8Array(memory, TEXT_AT_BYTE, TEXT_BYTES_MAX);
  const encoder = new TextEncoder();
  let serial = 0;

  function write(kind: number): void {
    serial = (serial + 1) | 0;
    Atomics.store(words, SERIAL, serial);
    Atomics.store(words, KIND, kind); // W2
  }

  function name(target: StepTarget): number {
    if (target.kind === "record") {
      words[TOPIC] = topics.indexOf(target.topic);
      offset[0] = target.offset;
      return RECORD;
    }
    const line = targetText(target);
    // A UTF-16 unit is at most three bytes.
    if (line.length * 3 > TEXT_BYTES_MAX) return NAMELESS;
    words[TEXT_BYTES] = encoder.encodeInto(line, text).written;
    return TIMER;
  }

  return {
    shard(shard) {
      let replay = 0;
      let counted = 0;
      return {
        begin(target) {
          Atomics.store(words, KIND, IDLE);
          words[SHARD] = shard;
          words[REPLAY] = replay;
          words[COUNTED] = counted;
          write(name(target));
        },
        end: () => write(IDLE),
        replaying(on) {
          replay = on ? 1 : 0;
        },
        counted(on) {
          counted = on ? 1 : 0;
        },
        noteHeap() {
          const { used_heap_size: used, heap_size_limit: limit } = getHeapStatistics();
          words[HEAP_USED] = used / MIB;
          words[HEAP_LIMIT] = limit / MIB;
        },
      };
    },
  };
}

/** What a seat says. */
export interface SeatReading {
  readonly serial: number;
  readonly step: {
    readonly shard: number;
    /** null: a timer whose name is too long, or one that could not be read. */
    readonly target: StepTarget | null;
    readonly replay: boolean;
    readonly counted: boolean;
  } | null;
  /** Of the heap before the latest fold, 0 to 1; 0 when there was none. */
  readonly heapShare: number;
}

/** Main's side, while the thread runs (W7): whether it steps, and whether that is the step of the last look. */
export function lookAtSeat(memory: SharedArrayBuffer): { readonly serial: number; readonly stepping: boolean } {
  const words = new Int32Array(memory, 0, OFFSET_AT_BYTE / 4);
  const serial = Atomics.load(words, SERIAL);
  return { serial, stepping: Atomics.load(words, KIND) !== IDLE };
}

/** Main's side, once the thread is dead, or was told to end because it hangs. What does not hold still has no name. */
export function readSeat(memory: SharedArrayBuffer, topics: readonly string[]): SeatReading {
  const words = new Int32Array(memory, 0, OFFSET_AT_BYTE / 4);
  for (let triesLeft = READS_MAX; ; triesLeft -= 1) {
    const serial = Atomics.load(words, SERIAL);
    const kind = Atomics.load(words, KIND);
    const heapShare = words[HEAP_LIMIT] === 0 ? 0 : words[HEAP_USED]! / words[HEAP_LIMIT]!;
    if (kind === IDLE) return { serial, step: null, heapShare };
    const target = targetAt(memory, kind, topics);
    const step = { shard: words[SHARD]!, target, replay: words[REPLAY] === 1, counted: words[COUNTED] === 1 };
    const isWhole = Atomics.load(words, SERIAL) === serial && Atomics.load(words, KIND) === kind; // W2
    if (isWhole) return { serial, step, heapShare };
    if (triesLeft <= 1) return { serial, step: { ...step, target: null }, heapShare };
  }
}

/** @returns null when it has no name, or one that cannot be read */
function targetAt(memory: SharedArrayBuffer, kind: number, topics: readonly string[]): StepTarget | null {
  const words = new Int32Array(memory, 0, OFFSET_AT_BYTE / 4);
  switch (kind) {
    case RECORD: {
      const topic = topics[words[TOPIC]!];
      const offset = new BigInt64Array(memory, OFFSET_AT_BYTE, 1)[0]!;
      return topic === undefined ? null : { kind: "record", topic, offset };
    }
    case TIMER: {
      // Copied: a decoder takes no shared memory.
      const line = Buffer.from(new Uint8Array(memory, TEXT_AT_BYTE, words[TEXT_BYTES]).slice()).toString("utf8");
      try {
        return targetOf(line);
      } catch (error) {
        if (error instanceof SyntaxError) return null; // half of one name, half of another
        throw error;
      }
    }
    default:
      return null;
  }
}
