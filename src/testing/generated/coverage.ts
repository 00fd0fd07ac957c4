/**
 * What there is to cover in a machine, and what of it was: states, transitions, and both outcomes of each guard.
 *
 * A transition is named by its state, event and number: `visit.idle seen #2` is the second one for that event in that state.
 */
import { type AnyMachineSnapshot, type AnyStateMachine, and, or } from "xstate";

/** Names, by what they are of. A guard has its transition's name. */
export interface Names {
  readonly states: Set<string>;
  readonly transitions: Set<string>;
  readonly guardsTaken: Set<string>;
  readonly guardsNotTaken: Set<string>;
}

export interface WatchedMachine {
  /** Another instance of the machine, which notes what its guards say. */
  readonly machine: AnyStateMachine;
  readonly all: Names;
  readonly covered: Names;
  /** Notes the states that are active. */
  enter(snapshot: AnyMachineSnapshot): void;
  /** Notes a transition that was taken, as XState's inspection shows it. */
  take(transition: Transition): void;
}

/** What is used of XState's definition of a transition. */
export interface Transition {
  readonly source: Node;
  readonly eventType: string;
  guard?: unknown;
}

interface Node {
  readonly id: string;
  readonly transitions: ReadonlyMap<string, readonly Transition[]>;
  readonly always?: readonly Transition[];
  readonly states: Readonly<Record<string, Node>>;
}

export function watchMachine(original: AnyStateMachine): WatchedMachine {
  // `provide` builds every node anew, so that the guards of the original stay as they are.
  const machine = original.provide({});
  const all = noNames();
  const covered = noNames();
  for (const node of nodesOf(machine.root as unknown as Node)) {
    all.states.add(node.id);
    for (const transition of transitionsOf(node)) {
      const name = nameOf(transition);
      all.transitions.add(name);
      if (transition.guard === undefined) continue;
      all.guardsTaken.add(name);
      all.guardsNotTaken.add(name);
      const note = (names: Set<string>, outcome: boolean) => () => {
        names.add(name);
        return outcome;
      };
      const isTaken = and([transition.guard as never, note(covered.guardsTaken, true)]);
      transition.guard = or([isTaken as never, note(covered.guardsNotTaken, false)]);
    }
  }
  return {
    machine,
    all,
    covered,
    enter: ({ _nodes }) => {
      for (const { id } of _nodes) covered.states.add(id);
    },
    take: (transition) => {
      covered.transitions.add(nameOf(transition));
    },
  };
}

function nodesOf(node: Node): Node[] {
  return [node, ...Object.values(node.states).flatMap(nodesOf)];
}

function transitionsOf({ transitions, always = [] }: Node): Transition[] {
  return [...[...transitions.values()].flat(), ...always];
}

function nameOf(transition: Transition): string {
  const { source, eventType } = transition;
  const siblings = (eventType === "" ? source.always : source.transitions.get(eventType)) ?? [];
  return `${source.id} ${eventType === "" ? "always" : eventType} #${siblings.indexOf(transition) + 1}`;
}

function noNames(): Names {
  return { states: new Set(), transitions: new Set(), guardsTaken: new Set(), guardsNotTaken: new Set() };
}
