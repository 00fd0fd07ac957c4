/**
 * Hosts one machine: steps it without XState's actor system, and returns what it wants done as data.
 *
 * `machine.transition` hands every action to the scope's executor before it would run; ours writes down emits, delayed
 * raises and cancels, and runs nothing. So a step needs no actor, no clock and no scheduler, and can be undone by
 * forgetting its result.
 *
 * Invariants
 *   MH1  A step is a function of snapshot and event alone; strict mode finds those that are not.
 *   MH2  A snapshot that went through JSON behaves like the one that did not: contexts are checked, and the order of active
 *        states of a parallel machine, which XState derives from its history, is made canonical.
 *   MH3  What cannot be replayed (children, custom actions, delayed events without id) throws, also where it was enqueued dynamically.
 */
import type { AnyActorScope, AnyEventObject, AnyMachineSnapshot, AnyStateMachine, StateValue } from "xstate";

import { LockstepError } from "../errors.ts";
import { withoutChance } from "./chance.ts";
import { deepFreeze, jsonFault } from "./json-value.ts";
import { hasParallelStates } from "./machine-faults.ts";

export { emittedTypes, machineFaults } from "./machine-faults.ts";

/** An event as machines send and receive it. */
export type MachineEvent = Readonly<AnyEventObject>;

/** What a step wants done, in the order raised. */
export type HostEffect =
  | { readonly kind: "emit"; readonly event: MachineEvent }
  /** `delayMs` is finite; the queue makes it at least 1. */
  | { readonly kind: "schedule"; readonly id: string; readonly delayMs: number; readonly event: MachineEvent }
  | { readonly kind: "cancel"; readonly id: string };

export interface StepResult {
  readonly snapshot: AnyMachineSnapshot;
  readonly effects: readonly HostEffect[];
  /** The machine reached its final state. */
  readonly done: boolean;
}

export interface MachineHost {
  /** The initial snapshot. @throws {LockstepError} as `step` */
  start(input: { readonly key: string; readonly type: string }): StepResult;
  /** @throws {LockstepError} MACHINE_THREW, CONTEXT_NOT_JSON, EFFECT_REFUSED; the snapshot given stays good */
  step(snapshot: AnyMachineSnapshot, event: MachineEvent): StepResult;
  /** The snapshot as a JSON value. */
  persist(snapshot: AnyMachineSnapshot): unknown;
  /** @throws {Error} the machine has no such state */
  restore(persisted: unknown): AnyMachineSnapshot;
}

export function createMachineHost(machine: AnyStateMachine, { strict }: { strict: boolean }): MachineHost {
  let effects: HostEffect[] = [];
  const scope = createScope((action) => {
    const effect = toEffect(action);
    if (effect) effects.push(effect);
  });
  const isParallel = hasParallelStates(machine);
  const frozen = new WeakSet<object>();

  function run(before: AnyMachineSnapshot | null, act: () => AnyMachineSnapshot): StepResult {
    effects = [];
    let snapshot: AnyMachineSnapshot;
    try {
      snapshot = strict ? withoutChance(act) : act();
    } catch (error) {
      throw machineThrew(error);
    }
    if (snapshot === before) return { snapshot, effects, done: false };
    if (snapshot.status === "error") throw machineThrew(snapshot.error);
    if (snapshot.context !== before?.context) {
      const fault = jsonFault(snapshot.context, before?.context);
      if (fault) throw new LockstepError("CONTEXT_NOT_JSON", `The context does not survive JSON: ${fault}.`);
    }
    if (isParallel && snapshot._nodes !== before?._nodes) snapshot = canonical(machine, snapshot);
    if (strict) {
      deepFreeze(snapshot.context, frozen);
      for (const effect of effects) if (effect.kind !== "cancel") deepFreeze(effect.event, frozen);
    }
    return { snapshot, effects, done: snapshot.status === "done" };
  }

  return {
    start: (input) => run(null, () => machine.getInitialSnapshot(scope, input)),
    step(before, event) {
      if (strict) deepFreeze(event, frozen);
      return run(before, () => machine.transition(before, event, scope));
    },
    persist: (snapshot) => machine.getPersistedSnapshot(snapshot),
    restore(persisted) {
      const snapshot = machine.restoreSnapshot(
        persisted as Parameters<AnyStateMachine["restoreSnapshot"]>[0],
        scope,
      ) as AnyMachineSnapshot;
      if (strict) deepFreeze(snapshot.context, frozen);
      return isParallel ? canonical(machine, snapshot) : snapshot;
    },
  };
}

/** What XState's executor is given. `params` depends on the type. */
interface RaisedAction {
  readonly type: string;
  readonly params: unknown;
}

function toEffect({ type, params }: RaisedAction): HostEffect | null {
  switch (type) {
    case "xstate.emit": {
      const { event } = params as { event: unknown };
      if (typeof event !== "object" || event === null || typeof (event as { type?: unknown }).type !== "string") {
        throw refused("emits something that is not an event with a type");
      }
      return { kind: "emit", event: event as MachineEvent };
    }
    case "xstate.raise": {
      const { id, delay, event } = params as { id?: unknown; delay?: unknown; event: MachineEvent };
      if (delay === undefined) return null; // XState has put it in the queue of this very step.
      if (typeof id !== "string" || id === "") throw refused(`raises "${event.type}" with a delay and without an id`);
      if (typeof delay !== "number" || !Number.isFinite(delay))
        throw refused(`raises "${event.type}" with the delay ${String(delay)}`);
      const fault = jsonFault(event);
      if (fault) throw refused(`raises "${event.type}" with a delay, and the event does not survive JSON: ${fault}`);
      return { kind: "schedule", id, delayMs: delay, event };
    }
    case "xstate.cancel":
      return { kind: "cancel", id: String((params as { sendId: unknown }).sendId) };
    case "xstate.log":
      return null;
    default:
      throw refused(`executes "${type}"; an action may assign, emit, raise, cancel or log, and nothing else`);
  }
}

/** The one scope of a host. Whatever would reach outside throws. */
function createScope(execute: (action: RaisedAction) => void): AnyActorScope {
  const refuse = (what: string) => () => {
    throw refused(`uses ${what}`);
  };
  const self = {
    id: "hosted",
    sessionId: "hosted",
    send: refuse("self.send"),
    getSnapshot: refuse("self.getSnapshot"),
    on: refuse("self.on"),
    /** Every child asks its parent for it first. */
    get system(): never {
      throw refused("makes a child actor");
    },
  };
  const scope = {
    self,
    id: self.id,
    sessionId: self.sessionId,
    actionExecutor: execute,
    // Inspection is the one call that every step makes.
    system: {
      _sendInspectionEvent: () => undefined,
      get: refuse("system.get"),
      scheduler: { schedule: refuse("the scheduler"), cancel: refuse("the scheduler") },
    },
    logger: () => undefined,
    defer: refuse("a deferred task"),
    stopChild: refuse("a child"),
    emit: refuse("emit outside an action"),
  };
  // XState's type asks for a live actor and system; the steps of an accepted machine touch only what stands here.
  return scope as unknown as AnyActorScope;
}

/** The same snapshot with its active states in the order of definition: what a restore from JSON gives. */
function canonical(machine: AnyStateMachine, snapshot: AnyMachineSnapshot): AnyMachineSnapshot {
  const { context, status, output, error, historyValue } = snapshot;
  const value = inOrderOfDefinition(machine.root, snapshot.value);
  return machine.resolveState({ value, context, status, output, error, historyValue } as Parameters<
    AnyStateMachine["resolveState"]
  >[0]);
}

interface NodeWithStates {
  readonly states: Readonly<Record<string, NodeWithStates>>;
}

function inOrderOfDefinition(node: NodeWithStates, value: StateValue): StateValue {
  if (typeof value === "string") return value;
  const ordered: Record<string, StateValue> = {};
  for (const [name, child] of Object.entries(node.states)) {
    const inner = value[name];
    if (inner !== undefined) ordered[name] = inOrderOfDefinition(child, inner);
  }
  return ordered;
}

function machineThrew(error: unknown): LockstepError {
  if (error instanceof LockstepError) return error;
  return new LockstepError(
    "MACHINE_THREW",
    error instanceof Error ? `${error.name}: ${error.message}` : String(error),
    { cause: error },
  );
}

function refused(what: string): LockstepError {
  return new LockstepError("EFFECT_REFUSED", `The machine ${what}.`);
}
