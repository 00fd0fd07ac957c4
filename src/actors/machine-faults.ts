/**
 * Whether a machine can be hosted: everything of it that is not pure data in, data out, as sentences.
 *
 * A hosted machine may assign, emit, raise, cancel and log. It has no children, no promises and no actions of its own making,
 * because none of these can be replayed. What `enqueueActions` enqueues cannot be seen here; machine-host.ts refuses it when it happens.
 */
import type { AnyStateMachine, StateNode } from "xstate";

import { jsonFault } from "./json-value.ts";

/** @returns sentences, each one reason why the machine cannot be hosted */
export function machineFaults(machine: AnyStateMachine): string[] {
  const faults = new Set<string>();
  for (const node of stateNodes(machine.root)) {
    if (node.invoke.length > 0)
      faults.add(`state "${node.id}" invokes an actor: a promise, callback or child cannot be replayed`);
  }
  for (const name of Object.keys(machine.implementations.actors)) {
    faults.add(`it provides the actor logic "${name}": a promise, callback or child cannot be replayed`);
  }
  for (const { action, where } of usedActions(machine)) {
    const fault = actionFault(machine, action);
    if (fault) faults.add(`${where} ${fault}`);
  }
  const context = initialContextFault(machine);
  if (context) faults.add(context);
  return [...faults];
}

/**
 * Event types that the machine's static emits name.
 * `complete` is false where an emit computes its event or `enqueueActions` is used: then it may emit others too.
 */
export function emittedTypes(machine: AnyStateMachine): { known: Set<string>; complete: boolean } {
  const known = new Set<string>();
  let complete = true;
  for (const { action } of usedActions(machine)) {
    const builtin = implementation(machine, action);
    if (builtin?.type === "xstate.enqueueActions") complete = false;
    if (builtin?.type !== "xstate.emit") continue;
    const event = builtin.event as { type: string } | (() => unknown);
    if (typeof event === "function") complete = false;
    else known.add(event.type);
  }
  return { known, complete };
}

/** Whether two regions can be active at once, so that the order of active states matters. */
export function hasParallelStates(machine: AnyStateMachine): boolean {
  return stateNodes(machine.root).some((node) => node.type === "parallel");
}

/** An action as it stands in a machine: a name, a name with params, or a function; built-in ones are functions with fields. */
type Action = string | { readonly type: string } | ActionFunction;
type ActionFunction = (() => void) & { readonly type?: string; readonly resolve?: unknown } & Record<string, unknown>;

const ALLOWED = new Set([
  "xstate.assign",
  "xstate.emit",
  "xstate.raise",
  "xstate.cancel",
  "xstate.log",
  "xstate.enqueueActions",
]);

function actionFault(machine: AnyStateMachine, action: Action): string | null {
  const name =
    typeof action === "function" ? action.name || "(anonymous)" : typeof action === "string" ? action : action.type;
  const found = implementation(machine, action);
  if (!found) return `uses the action "${name}", which is not implemented`;
  if (found.resolve === undefined || found.type === undefined) {
    return `uses the custom action "${name}": an action may assign, emit, raise, cancel or log, and nothing else`;
  }
  if (!ALLOWED.has(found.type))
    return `uses ${found.type.replace("xstate.", "")}: a hosted machine has no children and no parent, use emit and a "tell" route`;
  if (found.type !== "xstate.raise" || found["delay"] === undefined) return null;
  const { id, delay } = found as { id?: unknown; delay?: unknown };
  if (typeof id !== "string" || id === "")
    return "raises a delayed event without an id: XState would invent a random one";
  if (typeof delay === "string" && machine.implementations.delays[delay] === undefined)
    return `names the delay "${delay}", which is not implemented`;
  return null;
}

function implementation(machine: AnyStateMachine, action: Action): ActionFunction | undefined {
  if (typeof action === "function") return action;
  return machine.implementations.actions[typeof action === "string" ? action : action.type] as
    | ActionFunction
    | undefined;
}

function usedActions(machine: AnyStateMachine): Array<{ action: Action; where: string }> {
  return stateNodes(machine.root).flatMap((node) => {
    const transitions = [...node.transitions.values()].flat();
    const lists: ReadonlyArray<readonly [ReadonlyArray<unknown>, string]> = [
      [node.entry, "entry"],
      [node.exit, "exit"],
      [node.initial.actions, "initial"],
      [(node.always ?? []).flatMap((transition) => transition.actions), "always"],
      [transitions.flatMap((transition) => transition.actions), "a transition"],
    ];
    return lists.flatMap(([actions, part]) =>
      actions.map((action) => ({ action: action as Action, where: `${part} of state "${node.id}"` })),
    );
  });
}

function stateNodes(node: AnyNode): AnyNode[] {
  return [node, ...Object.values(node.states).flatMap((child) => stateNodes(child as AnyNode))];
}

// biome-ignore lint/suspicious/noExplicitAny: XState offers no alias for a state node of any machine.
type AnyNode = StateNode<any, any>;

function initialContextFault(machine: AnyStateMachine): string | null {
  const declared: unknown = machine.config.context;
  let context = declared;
  if (typeof declared === "function") {
    try {
      context = declared({ input: { key: "key", type: "type" } });
    } catch {
      // The function may demand a key of a certain form. Its result is judged again whenever an actor starts.
      return null;
    }
  }
  const fault = context === undefined ? null : jsonFault(context);
  return fault && `its initial context does not survive JSON: ${fault}`;
}
