import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { compareTimers, type Timer, TimerQueue } from "../../../src/actors/timers.ts";
import { UndoLog } from "../../../src/actors/undo.ts";

const timer = fc.record({
  actorType: fc.constantFrom("a", "b"),
  key: fc.constantFrom("x", "y", "z"),
  timerId: fc.constantFrom("1", "2"),
  dueMs: fc.nat({ max: 20 }),
  event: fc.constant({ type: "due" }),
});
const change = fc.oneof(
  fc.record({ kind: fc.constant("schedule" as const), timer }),
  fc.record({ kind: fc.constant("cancel" as const), timer }),
  fc.record({ kind: fc.constant("cancelAll" as const), timer }),
  fc.record({ kind: fc.constant("mark" as const), timer }),
  fc.record({ kind: fc.constant("rollback" as const), timer }),
);
const changes = fc.array(change, { maxLength: 60 });

const idOf = ({ actorType, key, timerId }: Timer) => `${actorType} ${key} ${timerId}`;

function drain(queue: TimerQueue): Timer[] {
  const fired: Timer[] = [];
  for (let next = queue.peekDue(); next; next = queue.peekDue()) {
    fired.push(next);
    queue.cancel(next);
  }
  return fired;
}

describe("TimerQueue", () => {
  it("TQ1, TQ2, TQ3: fires as a sorted list would, through any changes and rollbacks", () => {
    fc.assert(
      fc.property(changes, (all) => {
        const undo = new UndoLog();
        const queue = new TimerQueue(undo);
        let model = new Map<string, Timer>();
        const marks: Array<{ at: number; model: Map<string, Timer> }> = [];
        for (const { kind, timer } of all) {
          if (kind === "schedule") {
            queue.schedule(timer);
            model.set(idOf(timer), timer);
          } else if (kind === "cancel") {
            queue.cancel(timer);
            model.delete(idOf(timer));
          } else if (kind === "cancelAll") {
            queue.cancelAllOf(timer.actorType, timer.key);
            for (const [id, other] of [...model])
              if (other.actorType === timer.actorType && other.key === timer.key) model.delete(id);
          } else if (kind === "mark") {
            marks.push({ at: undo.mark(), model: new Map(model) });
          } else {
            const mark = marks.pop();
            undo.rollback(mark?.at ?? 0);
            model = mark?.model ?? new Map();
          }
          expect(queue.size).toBe(model.size);
          const sorted = [...model.values()].sort(compareTimers);
          expect(queue.peekDue()).toEqual(sorted[0] ?? null);
        }
        expect(queue.entries().sort(compareTimers)).toEqual([...model.values()].sort(compareTimers));
        expect(drain(queue)).toEqual([...model.values()].sort(compareTimers));
      }),
      { numRuns: 300 },
    );
  });

  it("orders by due time, then actor type, key and timer id", () => {
    const of = (dueMs: number, actorType: string, key: string, timerId: string): Timer => ({
      dueMs,
      actorType,
      key,
      timerId,
      event: { type: "due" },
    });
    const inOrder = [
      of(1, "b", "z", "9"),
      of(2, "a", "a", "2"),
      of(2, "a", "b", "1"),
      of(2, "a", "b", "2"),
      of(2, "b", "a", "1"),
      of(10, "a", "a", "1"),
    ];
    const queue = new TimerQueue(new UndoLog());
    for (const timer of [...inOrder].reverse()) queue.schedule(timer);
    expect(drain(queue)).toEqual(inOrder);
  });
});
