/**
 * What a shard takes next: one queue of judged records per input, merged by event time.
 *
 * The record with the smallest time is taken, ties in order of definition, but only once no other input can have an earlier
 * one: each has a record queued, or was found empty by a request sent after this one arrived. An input that says nothing is given
 * up after `inputWaitMsMax`, so that one that cannot be fetched does not stop the others.
 *
 * Which record is taken therefore depends on chance; the journal writes the outcome down.
 *
 * Invariants
 *   IQ1 Records of one input are taken in order of offset, each once.
 *   IQ2 A rejected record (time -Infinity) never waits.
 *   IQ3 An input is paused only while it has a record to take, and resumed at the latest when it has none.
 *   IQ4 An input is given up for its silence alone, counted from when it was last heard of or began to be wanted: a backlog that
 *       waited long for its own turn is no reason to be impatient with the others.
 *   IQ5 A record that readers could see before another one was written is never taken after it for lack of knowledge: only its
 *       own later time, or an input given up, puts it behind. (A broker reads the partitions of one request one after the
 *       other, so what an answer found empty may have been written before the rest of that answer.)
 */
import { assert } from "../errors.ts";
import type { Judged } from "./judge.ts";
import { memoryOf } from "./queue-budget.ts";

/** `forced`: the wait for the other inputs was given up. Times are monotonic ms. */
export type Next =
  | { readonly kind: "take"; readonly topic: string; readonly forced: boolean }
  | { readonly kind: "wait"; readonly untilMs: number | null }
  | { readonly kind: "idle" };

export interface InputQueuesOptions {
  /** Input topics in order of definition. */
  readonly topics: readonly string[];
  /** How long a head waits for an input that is silent; Infinity: for ever. */
  readonly inputWaitMsMax: number;
  /** Per input: pause at either mark, resume at half of both. Bytes are of memory, and their mark may change: see QueueBudget. */
  readonly recordsHigh: number;
  readonly bytesHigh: () => number;
}

/** Of the high marks. */
const LOW_SHARE = 0.5;

/** Taken records that may stay in front of a queue's array before it is cut. */
const COMPACT_AT = 1_024;

interface Queue {
  readonly topic: string;
  judged: Judged[];
  /** When each record was fetched, beside `judged`. */
  arrivedAtMs: number[];
  /** Index of the head in both. */
  head: number;
  /** Of memory, about. */
  bytes: number;
  /** Next offset to be fetched; null before the first answer. */
  nextOffset: bigint | null;
  /** When the answer came that found it empty; -1 when the latest answer left something behind. */
  caughtUpAtMs: number;
  /** When that was asked. Since then it may have got more, before then it had nothing more. */
  emptyAtMs: number;
  /** When it last answered, was emptied, or was resumed; -1 before all of these. */
  quietSinceMs: number;
  paused: boolean;
}

export class InputQueues {
  readonly #options: InputQueuesOptions;
  readonly #queues: Queue[];
  readonly #byTopic: ReadonlyMap<string, Queue>;

  constructor(options: InputQueuesOptions) {
    this.#options = options;
    this.#queues = options.topics.map(emptyQueue);
    this.#byTopic = new Map(this.#queues.map((queue) => [queue.topic, queue]));
  }

  /** Records queued, of one input or of all. */
  records(topic?: string): number {
    return this.#sum(topic, length);
  }

  /** Memory of what is queued, about. */
  bytes(topic?: string): number {
    return this.#sum(topic, (queue) => queue.bytes);
  }

  /** Inputs that were paused and not resumed. */
  get pausedInputs(): number {
    return this.#queues.reduce((sum, { paused }) => sum + (paused ? 1 : 0), 0);
  }

  nextOffset(topic: string): bigint | null {
    return this.#queue(topic).nextOffset;
  }

  /**
   * Adds what one answer of the broker brought for an input, perhaps nothing.
   * @param answer.nextOffset   where the next fetch goes on
   * @param answer.caughtUp     nothing was left to fetch at some moment between `askedAtMs` and `answeredAtMs` (monotonic)
   */
  enqueue(
    topic: string,
    judged: readonly Judged[],
    answer: { nextOffset: bigint; caughtUp: boolean; askedAtMs: number; answeredAtMs: number },
  ): void {
    const queue = this.#queue(topic);
    for (const one of judged) {
      const { offset } = one.record;
      assert(
        queue.nextOffset === null || offset >= queue.nextOffset,
        `offset ${offset} of ${topic} was queued when ${queue.nextOffset} was to come`,
        "POSITION_FELL",
      );
      queue.nextOffset = offset + 1n;
      queue.judged.push(one);
      queue.arrivedAtMs.push(answer.answeredAtMs);
      queue.bytes += memoryOf(one);
    }
    assert(
      queue.nextOffset === null || answer.nextOffset >= queue.nextOffset,
      `${topic} goes on at ${answer.nextOffset}, before ${queue.nextOffset}`,
      "POSITION_FELL",
    );
    queue.nextOffset = answer.nextOffset;
    queue.caughtUpAtMs = answer.caughtUp ? answer.answeredAtMs : -1;
    queue.emptyAtMs = answer.caughtUp ? answer.askedAtMs : -1;
    queue.quietSinceMs = answer.answeredAtMs;
  }

  /** What may be taken at `nowMs` (monotonic). Changes nothing. */
  next(nowMs: number): Next {
    let first: Queue | null = null;
    for (const queue of this.#queues) {
      if (length(queue) > 0 && (first === null || headTime(queue) < headTime(first))) first = queue;
    }
    if (first === null) return { kind: "idle" };
    const { topic } = first;
    const arrivedAtMs = first.arrivedAtMs[first.head]!;
    const unknown = this.#queues.filter((queue) => length(queue) === 0 && queue.emptyAtMs < arrivedAtMs);
    if (unknown.length === 0 || headTime(first) === Number.NEGATIVE_INFINITY)
      return { kind: "take", topic, forced: false };
    const sinceMs = Math.max(arrivedAtMs, ...unknown.map((queue) => queue.quietSinceMs)); // IQ4
    const untilMs = sinceMs + this.#options.inputWaitMsMax;
    if (nowMs >= untilMs) return { kind: "take", topic, forced: true };
    return { kind: "wait", untilMs: Number.isFinite(untilMs) ? untilMs : null };
  }

  /** Takes the head of an input that `next` named at `nowMs`. */
  take(topic: string, nowMs: number): Judged {
    const queue = this.#queue(topic);
    const judged = queue.judged[queue.head];
    assert(judged !== undefined, `nothing of ${topic} is queued`);
    queue.head += 1;
    queue.bytes -= memoryOf(judged);
    if (queue.head === queue.judged.length) {
      drop(queue, queue.head);
      queue.quietSinceMs = nowMs;
    } else if (queue.head >= COMPACT_AT && queue.head * 2 >= queue.judged.length) drop(queue, queue.head);
    return judged;
  }

  /** Nothing is queued, and every input was found empty within the last `freshMs`. */
  caughtUp(nowMs: number, freshMs: number): boolean {
    return this.#queues.every(
      (queue) => length(queue) === 0 && queue.caughtUpAtMs >= 0 && queue.caughtUpAtMs >= nowMs - freshMs,
    );
  }

  /** True once when an input has reached a high mark: the caller pauses it. */
  pausable(topic: string): boolean {
    const queue = this.#queue(topic);
    const { recordsHigh, bytesHigh } = this.#options;
    if (queue.paused || length(queue) === 0) return false;
    if (length(queue) < recordsHigh && queue.bytes < bytesHigh()) return false;
    queue.paused = true;
    return true;
  }

  /** True once when a paused input has come down to its low marks: the caller resumes it, at `nowMs`. */
  resumable(topic: string, nowMs: number): boolean {
    const queue = this.#queue(topic);
    const { recordsHigh, bytesHigh } = this.#options;
    if (!queue.paused) return false;
    if (length(queue) > recordsHigh * LOW_SHARE || queue.bytes > bytesHigh() * LOW_SHARE) return false;
    queue.paused = false;
    queue.quietSinceMs = nowMs;
    return true;
  }

  /** Forgets everything, marks included. */
  clear(): void {
    for (const queue of this.#queues) Object.assign(queue, emptyQueue(queue.topic));
  }

  #queue(topic: string): Queue {
    const queue = this.#byTopic.get(topic);
    assert(queue !== undefined, `"${topic}" is not an input`);
    return queue;
  }

  #sum(topic: string | undefined, of: (queue: Queue) => number): number {
    return topic === undefined ? this.#queues.reduce((sum, queue) => sum + of(queue), 0) : of(this.#queue(topic));
  }
}

function emptyQueue(topic: string): Queue {
  return {
    topic,
    judged: [],
    arrivedAtMs: [],
    head: 0,
    bytes: 0,
    nextOffset: null,
    caughtUpAtMs: -1,
    emptyAtMs: -1,
    quietSinceMs: -1,
    paused: false,
  };
}

function length(queue: Queue): number {
  return queue.judged.length - queue.head;
}

function headTime(queue: Queue): number {
  return queue.judged[queue.head]!.timeMs;
}

/** Cuts the taken records off. Seldom enough that each record is moved about once. */
function drop(queue: Queue, count: number): void {
  queue.judged.splice(0, count);
  queue.arrivedAtMs.splice(0, count);
  queue.head = 0;
}
