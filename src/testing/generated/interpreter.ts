/**
 * The same machine in XState's own interpreter, on its SimulatedClock: what the hosted one is compared with.
 *
 * Three things of a host are laid upon it, which docs/protocol.md promises and XState leaves open: a delayed event carries the time at
 * which it was due; a delay is at least 1 ms, and whole; a timer replaces the one of the same id, and of two that are due at once
 * the lesser id is first.
 */
import { type AnyActor, type AnyMachineSnapshot, createActor, SimulatedClock } from "xstate";

import type { MachineEvent } from "../../actors/machine-host.ts";
import { compareText } from "../../actors/timers.ts";
import type { Transition, WatchedMachine } from "./coverage.ts";

export class Interpreter {
  readonly #watched: WatchedMachine;
  readonly #key: string;
  readonly #clock = new OrderedClock();
  #nowMs = 0;
  #actor: AnyActor | null = null;
  #emitted: MachineEvent[] = [];

  constructor(watched: WatchedMachine, key: string) {
    this.#watched = watched;
    this.#key = key;
  }

  /** "active", "done", "error", or null while there is no actor. */
  get status(): string | null {
    return this.#actor === null ? null : (this.#actor.getSnapshot() as AnyMachineSnapshot).status;
  }

  /** XState's persisted snapshot, as JSON; null when there is no actor, or it has ended. */
  get persisted(): unknown {
    return this.status === "active" ? JSON.parse(JSON.stringify(this.#actor!.getPersistedSnapshot())) : null;
  }

  /** Moves the clock; what was due by then happens. @returns what was emitted */
  advance(toMs: number): MachineEvent[] {
    const byMs = toMs - this.#nowMs;
    if (byMs > 0) {
      this.#nowMs = toMs;
      this.#clock.increment(byMs);
    }
    return this.#takeEmitted();
  }

  /** An actor that has ended begins anew, as in a host. @returns what was emitted */
  send(event: MachineEvent): MachineEvent[] {
    if (this.status !== "active") this.#start();
    const withTime: MachineEvent = { ...event, streamTimeMs: this.#nowMs };
    this.#actor!.send(withTime);
    return this.#takeEmitted();
  }

  stop(): void {
    this.#actor?.stop();
  }

  #takeEmitted(): MachineEvent[] {
    const emitted = this.#emitted;
    this.#emitted = [];
    return JSON.parse(JSON.stringify(emitted)) as MachineEvent[];
  }

  #start(): void {
    const { machine, enter, take } = this.#watched;
    const timed = Object.create(machine) as typeof machine;
    timed.transition = (snapshot, event, scope) => {
      const isOfHost = event.type.startsWith("xstate.") && !event.type.startsWith("xstate.after.");
      const hasTime = "streamTimeMs" in event || isOfHost;
      const given = hasTime ? event : { ...event, streamTimeMs: this.#nowMs };
      return machine.transition.call(machine, snapshot, given, scope);
    };
    const actor = createActor(timed, {
      input: { key: this.#key, type: "machine" },
      clock: this.#clock,
      inspect: (inspected) => {
        if (inspected.type !== "@xstate.microstep") return;
        enter(inspected.snapshot as AnyMachineSnapshot);
        const { _transitions } = inspected as unknown as { _transitions: readonly Transition[] };
        for (const transition of _transitions) take(transition);
      },
    });
    this.#clock.follow(actor);
    actor.on("*", (event) => this.#emitted.push(event as MachineEvent));
    actor.subscribe({ error: () => {} }); // its status tells; without it XState would throw from a timer of its own
    actor.start();
    enter(actor.getSnapshot() as AnyMachineSnapshot);
    this.#actor = actor;
  }
}

type Schedule = (source: unknown, target: unknown, event: unknown, delay: number, id: string) => void;

/** XState's clock, with the host's rules for timers. */
class OrderedClock extends SimulatedClock {
  readonly #idOf = new Map<number, string>();
  #scheduling = "";

  /** Hears of the ids of an actor's timers, which XState does not tell its clock. */
  follow({ system }: AnyActor): void {
    const { scheduler } = system as unknown as {
      scheduler: { schedule: Schedule; cancel: (source: unknown, id: string) => void };
    };
    const { schedule, cancel } = scheduler;
    scheduler.schedule = (source, target, event, delay, id) => {
      cancel(source, id);
      this.#scheduling = id;
      schedule(source, target, event, Math.max(1, Math.ceil(delay)), id);
    };
  }

  override setTimeout(fn: (...args: unknown[]) => void, timeoutMs: number): number {
    const timer = super.setTimeout(fn, timeoutMs);
    this.#idOf.set(timer, this.#scheduling);
    // Timers that are due at once fire in the order of this map.
    const { timeouts } = this as unknown as { timeouts: Map<number, unknown> };
    const sorted = [...timeouts].sort(([a], [b]) => compareText(this.#idOf.get(a)!, this.#idOf.get(b)!));
    timeouts.clear();
    for (const [number, one] of sorted) timeouts.set(number, one);
    return timer;
  }
}
