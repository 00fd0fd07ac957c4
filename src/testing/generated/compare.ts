/**
 * One path, run through the hosted actor and compared: with XState's own interpreter, and with itself after a restore.
 */
import { isDeepStrictEqual } from "node:util";

import type { MachineEvent } from "../../actors/machine-host.ts";
import type { WatchedMachine } from "./coverage.ts";
import type { TimedEvent } from "./events.ts";
import { ADVANCE, type HostedState, type Hosting, type OpenHost } from "./hosted.ts";
import { Interpreter } from "./interpreter.ts";
import { ADVANCED, type Path } from "./paths.ts";

/** How a path went. */
export interface Walk {
  /** What the two differ in, each a sentence; empty: nothing. */
  readonly faults: readonly string[];
  readonly emitted: readonly TimedEvent[];
  /** Steps of the path that the host set aside. */
  readonly refused: number;
  readonly steps: number;
}

export interface Walker {
  readonly hosting: Hosting;
  readonly watched: WatchedMachine;
  readonly open: OpenHost;
}

/**
 * State value, context and emitted events after each event and each timer. Where the machine throws, the host sets the event
 * aside and the interpreter ends; what comes after is not compared.
 */
export function compare({ hosting, watched, open }: Walker, path: Path): Walk {
  const hosted = open(hosting, null, { strict: true });
  const xstate = new Interpreter(watched, hosting.key);
  const faults: string[] = [];
  const emitted: TimedEvent[] = [];
  let steps = 0;
  let refused = 0;

  /** @returns whether the two can be compared further */
  const take = (step: TimedEvent, what: string, act: () => MachineEvent[]): boolean => {
    const ours = hosted.step(step);
    const theirs = act();
    steps += 1;
    if (ours.refusal !== null) {
      refused += 1;
      if (ours.refusal.includes("MACHINE_THREW") && xstate.status !== "error")
        faults.push(`${what} threw, and in XState it did not`);
      return false;
    }
    emitted.push(...ours.emitted.map((event) => ({ event, atMs: step.atMs })));
    if (!isDeepStrictEqual(ours.emitted, theirs))
      faults.push(`${what} emitted ${JSON.stringify(ours.emitted)}, in XState ${JSON.stringify(theirs)}`);
    const { persisted } = hosted.state();
    if (!isDeepStrictEqual(persisted, xstate.persisted))
      faults.push(`${what} led to ${JSON.stringify(persisted)}, in XState to ${JSON.stringify(xstate.persisted)}`);
    return faults.length === 0;
  };

  const walk = () => {
    for (const step of path) {
      // Timers one by one, as far as the step's time: each must be due at the same time in both.
      for (let due = hosted.state().nextDueMs; due !== null && due <= step.atMs; due = hosted.state().nextDueMs) {
        const dueMs = due;
        const early = xstate.advance(dueMs - 1);
        if (early.length > 0)
          faults.push(`XState emitted ${JSON.stringify(early)} before ${dueMs}, when a timer is due`);
        if (!take({ event: ADVANCED, atMs: dueMs }, `the timer due at ${dueMs}`, () => xstate.advance(dueMs))) return;
      }
      const late = xstate.advance(step.atMs);
      if (late.length > 0)
        faults.push(`XState emitted ${JSON.stringify(late)} by ${step.atMs}, when no timer is due in the host`);
      if (step.event.type === ADVANCE) continue;
      if (!take(step, `${step.event.type} at ${step.atMs}`, () => xstate.send(step.event))) return;
    }
  };
  walk();
  xstate.stop();
  return { faults, emitted, refused, steps };
}

/** From each prefix, through a snapshot, to the same end: the same state, byte for byte, and the same events emitted on the way. */
export function replay({ hosting, open }: Walker, path: Path): { faults: string[]; replays: number } {
  const hosted = open(hosting, null, { strict: false });
  const states: HostedState[] = [];
  const outputs = path.map((step) => {
    const { emitted, refusal } = hosted.step(step);
    states.push(hosted.state());
    return JSON.stringify([emitted, refusal]);
  });
  const end = Buffer.concat([...hosted.state().pieces]);
  for (let taken = 1; taken < path.length; taken += 1) {
    const restored = open(hosting, states[taken - 1]!, { strict: false });
    for (const [i, step] of path.entries()) {
      if (i < taken) continue;
      const { emitted, refusal } = restored.step(step);
      const output = JSON.stringify([emitted, refusal]);
      if (output !== outputs[i])
        return {
          faults: [
            `restored after ${taken} events, event ${i + 1} gave ${output}, and without a restore ${outputs[i]}`,
          ],
          replays: taken,
        };
    }
    const found = Buffer.concat([...restored.state().pieces]);
    if (!found.equals(end))
      return {
        faults: [`restored after ${taken} events it ended as\n${found}\nand without a restore as\n${end}`],
        replays: taken,
      };
  }
  return { faults: [], replays: Math.max(0, path.length - 1) };
}
