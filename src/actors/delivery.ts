/**
 * What a step is given, and to whom: deliveries within one record or timer, and the actor's key for an event.
 */
import { LockstepError } from "../errors.ts";
import type { Unit } from "./batch.ts";
import type { Verdict } from "./journal.ts";
import type { MachineEvent } from "./machine-host.ts";
import type { StepNote } from "./notes.ts";
import type { ActorKind } from "./shard-state.ts";
import type { Timer } from "./timers.ts";

export type TimerVerdict = Extract<Verdict, { kind: "timer" }>;

export interface Delivery {
  readonly kind: ActorKind;
  readonly key: string;
  readonly event: MachineEvent;
}

export interface Emitter {
  readonly actor: { readonly type: string; readonly key: string };
  readonly unit: Unit;
  /** What is still to be delivered within the unit. */
  readonly queue: Delivery[];
  readonly note: StepNote;
}

export function isOf(verdict: TimerVerdict, timer: Timer): boolean {
  const { actorType, key, timerId, dueMs } = timer;
  return (
    verdict.actorType === actorType && verdict.key === key && verdict.timerId === timerId && verdict.dueMs === dueMs
  );
}

/** The key function belongs to the app. @throws {LockstepError} MACHINE_THREW */
export function actorKey(kind: ActorKind, event: MachineEvent): string {
  let key: unknown;
  try {
    key = kind.on[event.type]!(event);
  } catch (error) {
    throw new LockstepError(
      "MACHINE_THREW",
      `The key of the actor "${kind.type}" cannot be computed: ${error instanceof Error ? error.message : String(error)}`,
      { cause: error },
    );
  }
  if (typeof key !== "string" || key === "") {
    throw new LockstepError("MACHINE_THREW", `The key of the actor "${kind.type}" is not a text, or empty.`);
  }
  return key;
}
