/** The undo log: rollbacks to marks and to the beginning, and what a shortened log still holds. */
import fc from "fast-check";
import { expect, test } from "vitest";

import { UndoLog, UndoMap } from "../../../src/actors/undo.ts";

type Step =
  | { kind: "set"; key: number; value: number }
  | { kind: "delete"; key: number }
  | { kind: "mark" | "shorten" };

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant("set" as const), key: fc.nat(3), value: fc.nat(9) }),
  fc.record({ kind: fc.constant("delete" as const), key: fc.nat(3) }),
  fc.record({ kind: fc.constantFrom("mark" as const, "shorten" as const) }),
);

test("UL1: a rollback gives back what was there at the mark, and at the beginning, also of a log that was shortened", () => {
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 40 }), fc.array(anyStep, { maxLength: 40 }), (before, after) => {
      const undo = new UndoLog();
      const maps = [new UndoMap<number, number>(undo), new UndoMap<number, number>(undo)];
      const apply = (steps: readonly Step[]) => {
        for (const [n, step] of steps.entries()) {
          const map = maps[n % 2]!;
          if (step.kind === "set") map.set(step.key, step.value);
          else if (step.kind === "delete") map.delete(step.key);
        }
      };
      const content = () => maps.map((map) => new Map(map.entries()));
      apply(before);
      undo.forget();
      const first = content();
      const marks: { at: number; content: ReturnType<typeof content> }[] = [];
      for (const [n, step] of after.entries()) {
        if (step.kind === "mark") marks.push({ at: undo.mark(), content: content() });
        else if (step.kind === "shorten") {
          undo.shorten();
          marks.length = 0; // they are void
        } else apply([...Array<Step>(n % 2).fill({ kind: "mark" }), step]);
      }
      for (const mark of marks.reverse()) {
        undo.rollback(mark.at);
        expect(content()).toEqual(mark.content);
      }
      undo.rollback(0);
      expect(content()).toEqual(first);
    }),
  );
});

test("UL2: a shortened log has one change of each key of each map", () => {
  const undo = new UndoLog();
  const [a, b] = [new UndoMap<string, number>(undo), new UndoMap<string, number>(undo)];
  for (let n = 0; n < 5; n += 1) {
    a.set("x", n);
    b.set("x", n);
    a.set("y", n);
  }
  undo.record({ takeBack: () => {} });
  expect(undo.mark()).toBe(16);
  undo.shorten();
  expect(undo.mark()).toBe(4);
});
