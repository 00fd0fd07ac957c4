/**
 * The timers of a shard: a heap by due time, and an index by actor.
 *
 * Invariants
 *   TQ1  At most one timer per (actor type, key, timer id); scheduling it again replaces it.
 *   TQ2  The order (due, actor type, key, timer id) is total, so what is due next does not depend on how the heap came about.
 *   TQ3  Every change stands in the undo log.
 */
import type { MachineEvent } from "./machine-host.ts";
import type { UndoLog } from "./undo.ts";

export interface Timer {
  readonly actorType: string;
  readonly key: string;
  readonly timerId: string;
  /** Stream time at which it fires, ms since the Unix epoch. */
  readonly dueMs: number;
  readonly event: MachineEvent;
}

export class TimerQueue {
  readonly #undo: UndoLog;
  readonly #heap: Node[] = [];
  readonly #byActor = new Map<string, Map<string, Node>>();

  constructor(undo: UndoLog) {
    this.#undo = undo;
  }

  get size(): number {
    return this.#heap.length;
  }

  /** The timer that fires next, or null. */
  peekDue(): Timer | null {
    return this.#heap[0]?.timer ?? null;
  }

  schedule(timer: Timer): void {
    this.cancel(timer);
    const node = { timer, position: -1 };
    this.#insert(node);
    this.#undo.record({ takeBack: () => this.#remove(node) });
  }

  get({ actorType, key, timerId }: Pick<Timer, "actorType" | "key" | "timerId">): Timer | null {
    return this.#byActor.get(actorId(actorType, key))?.get(timerId)?.timer ?? null;
  }

  /** Removes the timer of this id, if there is one. */
  cancel({ actorType, key, timerId }: Pick<Timer, "actorType" | "key" | "timerId">): void {
    const node = this.#byActor.get(actorId(actorType, key))?.get(timerId);
    if (node) this.#cancel(node);
  }

  /** Removes the timers of an actor that has ended. */
  cancelAllOf(actorType: string, key: string): void {
    const nodes = this.#byActor.get(actorId(actorType, key));
    if (nodes) for (const node of [...nodes.values()]) this.#cancel(node);
  }

  /** All timers, in no particular order. */
  entries(): Timer[] {
    return this.#heap.map((node) => node.timer);
  }

  #cancel(node: Node): void {
    this.#remove(node);
    this.#undo.record({ takeBack: () => this.#insert(node) });
  }

  #insert(node: Node): void {
    const { actorType, key, timerId } = node.timer;
    const actor = actorId(actorType, key);
    const nodes = this.#byActor.get(actor);
    if (nodes) nodes.set(timerId, node);
    else this.#byActor.set(actor, new Map([[timerId, node]]));
    this.#place(node, this.#heap.length);
    this.#up(node);
  }

  #remove(node: Node): void {
    const { actorType, key, timerId } = node.timer;
    const actor = actorId(actorType, key);
    const nodes = this.#byActor.get(actor)!;
    nodes.delete(timerId);
    if (nodes.size === 0) this.#byActor.delete(actor);
    const last = this.#heap.pop()!;
    if (last === node) return;
    this.#place(last, node.position);
    this.#up(last);
    this.#down(last);
  }

  #place(node: Node, position: number): void {
    this.#heap[position] = node;
    node.position = position;
  }

  #up(node: Node): void {
    while (node.position > 0) {
      const parent = this.#heap[(node.position - 1) >> 1]!;
      if (compareTimers(parent.timer, node.timer) <= 0) return;
      this.#swap(parent, node);
    }
  }

  #down(node: Node): void {
    for (;;) {
      const left = this.#heap[node.position * 2 + 1];
      const right = this.#heap[node.position * 2 + 2];
      const child = left && right && compareTimers(right.timer, left.timer) < 0 ? right : left;
      if (!child || compareTimers(node.timer, child.timer) <= 0) return;
      this.#swap(node, child);
    }
  }

  #swap(a: Node, b: Node): void {
    const { position } = a;
    this.#place(a, b.position);
    this.#place(b, position);
  }
}

interface Node {
  readonly timer: Timer;
  /** Index in the heap. */
  position: number;
}

/** Order of firing. Strings by UTF-16 code units, which no locale changes. */
export function compareTimers(a: Timer, b: Timer): number {
  return (
    a.dueMs - b.dueMs ||
    compareText(a.actorType, b.actorType) ||
    compareText(a.key, b.key) ||
    compareText(a.timerId, b.timerId)
  );
}

export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Actor types hold no NUL, so this is unambiguous. */
function actorId(actorType: string, key: string): string {
  return `${actorType}\0${key}`;
}
