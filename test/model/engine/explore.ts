/**
 * Explores every state that a model can reach, breadth first, and checks each.
 *
 * A model is a set of atomic steps over a state of small integers. A step is fair, part of the system that runs as soon as it can, or a
 * fault, which need never happen. What is checked:
 *
 *   safety    in every state, and within a step where the model says so; the first breach ends the exploration, and because the
 *             search is breadth first its trace is a shortest one
 *   L1        from every state the end can be reached without a further fault
 *   L2        without faults there is no cycle, and a state without a step is an end: the end IS reached, whatever the scheduler does
 */
import type { Layout } from "./layout.ts";
import { findLoop, findStuck } from "./liveness.ts";
import { Ints, StateStore } from "./store.ts";

export type StepKind = "fair" | "fault";

/** Says that `next` is a successor of `current`: what happened, who did it (0, 1, or -1: nobody), and to which commit. */
export type Emit = (kind: StepKind, text: string, who?: number, what?: number) => void;

export interface Model {
  readonly layout: Layout;
  /** The state that is expanded; not to be changed. */
  readonly current: Uint8Array;
  /** The successor under construction. */
  readonly next: Uint8Array;
  /** Writes the first state to `next`. */
  begin(): void;
  /** For each step that `current` allows: writes the successor to `next`, and emits it. */
  expand(emit: Emit): void;
  /** Brings states that cannot be told apart to one form. */
  normalise(): void;
  /** What the step that made `next` broke by itself, "" when nothing. Reading it clears it. */
  takeFault(): string;
  /** What `next` breaks as a state: the id of a property and a sentence, "" when nothing. */
  breach(): string;
  /** Nothing needs to happen any more. */
  isEnd(state: Uint8Array): boolean;
  /** Name of an actor, for traces. */
  nameOf(who: number): string;
}

export interface Exploration {
  readonly states: number;
  readonly steps: number;
  readonly seconds: number;
  /** Every state was expanded. */
  readonly complete: boolean;
  /** Id of the property that does not hold, and how it shows. */
  readonly breach: { readonly property: string; readonly text: string; readonly trace: readonly string[] } | null;
  /** States in which nothing needs to happen any more. */
  readonly ends: number;
  /** What happened in some step: a run that never takes a step says nothing of it. */
  readonly taken: ReadonlySet<string>;
}

export interface ExploreOptions {
  readonly statesMax?: number;
}

export function explore(model: Model, { statesMax = 60_000_000 }: ExploreOptions = {}): Exploration {
  const began = performance.now();
  const store = new StateStore(model.layout.packing(), model.next);
  const parents = new Ints();
  const edges = new Ints();
  const edgesFrom = new Ints();
  const taken = new Set<string>();
  let steps = 0;
  let at = -1;
  let breach: { text: string; last: string } | null = null;

  const emit: Emit = (kind, text, who = -1, what = -1) => {
    if (breach !== null) return;
    steps += 1;
    taken.add(text);
    const fault = model.takeFault();
    model.normalise();
    const before = store.count;
    const number = store.add();
    if (number === before) parents.push(at);
    const broken = fault !== "" ? fault : number === before ? model.breach() : "";
    if (broken !== "") breach = { text: broken, last: sentence(model, text, who, what) };
    else if (kind === "fair" && number !== at) edges.push(number);
  };

  model.next.fill(0);
  model.begin();
  model.normalise();
  store.add();
  parents.push(-1);
  for (at = 0; at < store.count && breach === null && store.count < statesMax; at += 1) {
    store.load(at, model.current);
    edgesFrom.push(edges.length);
    model.expand(emit);
  }
  const expanded = at;
  const result = (found: Exploration["breach"], ends: number): Exploration => ({
    states: store.count,
    steps,
    seconds: (performance.now() - began) / 1000,
    complete: expanded === store.count,
    breach: found,
    ends,
    taken,
  });

  const traceTo = (number: number): string[] => {
    const trace: string[] = [];
    for (let to = number; parents.values[to]! >= 0; to = parents.values[to]!)
      trace.unshift(nameStep(model, store, parents.values[to]!, to));
    return trace;
  };

  // Assigned in a closure, which the compiler does not see.
  const broken = breach as { text: string; last: string } | null;
  if (broken !== null) {
    const trace = [...traceTo(expanded - 1), broken.last];
    return result({ property: broken.text.slice(0, broken.text.indexOf(" ")), text: broken.text, trace }, 0);
  }
  if (expanded < store.count) return result(null, 0);

  edgesFrom.push(edges.length);
  const graph = { states: store.count, from: edgesFrom.values, to: edges.values };
  const isEnd = new Uint8Array(store.count);
  let ends = 0;
  const state = model.layout.newState();
  for (let number = 0; number < store.count; number += 1) {
    store.load(number, state);
    if (!model.isEnd(state)) continue;
    isEnd[number] = 1;
    ends += 1;
  }
  const stuck = findStuck(graph, isEnd);
  if (stuck >= 0) {
    const text = "L1 the end cannot be reached any more, even without a further fault";
    return result({ property: "L1", text, trace: traceTo(stuck) }, ends);
  }
  const loop = findLoop(graph);
  if (loop !== null) {
    const text = `L2 without faults the last ${loop.length - 1} steps can go on for ever`;
    const around = loop.slice(1).map((to, n) => nameStep(model, store, loop[n]!, to));
    return result({ property: "L2", text, trace: [...traceTo(loop[0]!), ...around] }, ends);
  }
  return result(null, ends);
}

/** Expands the state once more and says which step leads to the other. */
function nameStep(model: Model, store: StateStore, from: number, to: number): string {
  let name = "";
  store.load(from, model.current);
  model.expand((_kind, text, who = -1, what = -1) => {
    model.takeFault();
    model.normalise();
    if (name === "" && store.find() === to) name = sentence(model, text, who, what);
  });
  return name;
}

function sentence(model: Model, text: string, who: number, what: number): string {
  return `${who < 0 ? "" : `${model.nameOf(who)} `}${text}${what < 0 ? "" : ` ${what}`}`;
}
