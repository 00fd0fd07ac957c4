/**
 * One actor on the real machine host, strict, with its timers: `given(...).when(...).then(...)`.
 *
 * After every step the snapshot goes through JSON and back, as in a restart, so whatever does not survive a snapshot fails
 * in all of these tests.
 */
import { expect } from "vitest";
import type { AnyMachineSnapshot, AnyStateMachine, EmittedFrom, EventFromLogic } from "xstate";

import {
  createMachineHost,
  type MachineEvent,
  type MachineHost,
  type StepResult,
} from "../../../../src/actors/machine-host.ts";

export interface Timer {
  readonly id: string;
  readonly dueMs: number;
  readonly event: MachineEvent;
}

export class Stepper<M extends AnyStateMachine> {
  readonly #host: MachineHost;
  readonly #restarts: boolean;
  #snapshot: AnyMachineSnapshot;
  #timers: Timer[] = [];

  constructor(machine: M, key: string, { restarts }: { restarts: boolean } = { restarts: true }) {
    this.#host = createMachineHost(machine, { strict: true });
    this.#restarts = restarts;
    this.#snapshot = this.#host.start({ key, type: machine.id }).snapshot;
  }

  /** One step. @returns what it emitted */
  send(event: EventFromLogic<M>): EmittedFrom<M>[] {
    const { snapshot, effects } = this.#host.step(this.#snapshot, event);
    this.#snapshot = this.#restarts
      ? this.#host.restore(JSON.parse(JSON.stringify(this.#host.persist(snapshot))))
      : snapshot;
    return this.#collect(effects, (event as MachineEvent & { streamTimeMs: number }).streamTimeMs);
  }

  /** Fires what is due at `streamTimeMs`, in order, each at its due. @returns what that emitted */
  tick(streamTimeMs: number): EmittedFrom<M>[] {
    const due = this.#timers.filter((timer) => timer.dueMs <= streamTimeMs).sort((a, b) => a.dueMs - b.dueMs);
    this.#timers = this.#timers.filter((timer) => timer.dueMs > streamTimeMs);
    return due.flatMap(({ event, dueMs }) =>
      this.send({ ...event, streamTimeMs: dueMs } as unknown as EventFromLogic<M>),
    );
  }

  get context(): ReturnType<M["resolveState"]>["context"] {
    return this.#snapshot.context;
  }

  get timers(): readonly Pick<Timer, "id" | "dueMs">[] {
    return this.#timers.map(({ id, dueMs }) => ({ id, dueMs }));
  }

  #collect(effects: StepResult["effects"], nowMs: number): EmittedFrom<M>[] {
    const emitted: MachineEvent[] = [];
    for (const effect of effects) {
      if (effect.kind === "emit") emitted.push(effect.event);
      if (effect.kind !== "schedule") continue;
      const { id, delayMs, event } = effect;
      this.#timers = [...this.#timers.filter((timer) => timer.id !== id), { id, dueMs: nowMs + delayMs, event }];
    }
    return emitted as EmittedFrom<M>[];
  }
}

/** `given(desk, "BTC-USD", [...past events]).when(event).then([...emitted])`: fields that are not named are not compared. */
export function given<M extends AnyStateMachine>(machine: M, key: string, events: readonly EventFromLogic<M>[]) {
  const stepper = new Stepper(machine, key);
  for (const event of events) stepper.send(event);
  return {
    when: (event: EventFromLogic<M>) => {
      const emitted = stepper.send(event);
      return {
        // biome-ignore lint/suspicious/noThenProperty: the word of the trade; nobody awaits it.
        then(expected: readonly object[]): Stepper<M> {
          expect(emitted).toHaveLength(expected.length);
          expect(emitted).toMatchObject(expected);
          return stepper;
        },
      };
    },
  };
}
