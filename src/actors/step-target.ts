/**
 * What a worker can be busy with, by name: a record, or a timer. So that who watches it from outside, the table where attempts are
 * counted, and the verdict in the journal mean the same thing.
 */

import type { Verdict } from "./journal.ts";
import type { Rejection } from "./judge.ts";

export type StepTarget =
  | { readonly kind: "record"; readonly topic: string; readonly offset: bigint }
  | {
      readonly kind: "timer";
      readonly actorType: string;
      readonly key: string;
      readonly timerId: string;
      readonly dueMs: number;
    };

/** Is told what the fold is about to run that is not ours: schemas, machines, routes. Calls of `begin` do not nest. */
export interface StepWatch {
  begin(target: StepTarget): void;
  end(): void;
}

/** The target as one line of JSON, the same for equal targets. NUL and half surrogates are escaped: Postgres takes any. */
export function targetText(target: StepTarget): string {
  return JSON.stringify(
    target.kind === "record"
      ? ["r", target.topic, String(target.offset)]
      : ["i", target.actorType, target.key, target.timerId, target.dueMs],
  );
}

/** @param text as `targetText` gives it */
export function targetOf(text: string): StepTarget {
  const [kind, ...fields] = JSON.parse(text) as [string, ...unknown[]];
  if (kind === "r") {
    const [topic, offset] = fields as [string, string];
    return { kind: "record", topic, offset: BigInt(offset) };
  }
  const [actorType, key, timerId, dueMs] = fields as [string, string, string, number];
  return { kind: "timer", actorType, key, timerId, dueMs };
}

export function verdictOf(target: StepTarget, reason: Rejection): Verdict {
  if (target.kind === "record") return { kind: "record", topic: target.topic, offset: target.offset, ...reason };
  const { actorType, key, timerId, dueMs } = target;
  return { kind: "timer", actorType, key, timerId, dueMs, ...reason };
}
