/** What becomes of a snapshot that other code made: it loads, through `migrate` where that is given, or is refused with the versions named. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { assign, emit, setup } from "xstate";

import { defineApp, input, publish, type Schema } from "../../../src/actors/app.ts";
import { judge } from "../../../src/actors/judge.ts";
import { ShardModel } from "../../../src/actors/shard-model.ts";
import { LockstepError } from "../../../src/errors.ts";
import { bytesOf, fold, type Item, json, record, testOptions } from "./machines.ts";

const op: Schema<{ readonly n: number; readonly at: number }> = {
  "~standard": { version: 1, vendor: "test", validate: (value) => ({ value: value as { n: number; at: number } }) },
};

const DELAY_MS = 100;

/** Sums; each generation of the code has other names for its state and for what it sums. */
function sums(generation: "old" | "new") {
  const [state, field] = generation === "old" ? ["open", "sum"] : ["running", "total"];
  return setup({
    types: { events: {} as { type: "op"; n: number; streamTimeMs: number }, context: {} as Record<string, number> },
  }).createMachine({
    id: "sums",
    initial: state,
    context: { [field]: 0 },
    states: {
      [state]: {
        after: {
          [DELAY_MS]: { actions: emit(({ event }) => ({ type: "rested", at: event.streamTimeMs })) },
        },
        on: {
          op: {
            target: state,
            reenter: true,
            actions: [
              assign(({ context, event }) => ({ [field]: context[field]! + event.n })),
              emit(({ context }) => ({ type: "summed", sum: context[field] })),
            ],
          },
        },
      },
    },
  });
}

type Migrate = (snapshot: unknown, fromVersion: number) => unknown;

function appOf(generation: "old" | "new", version: number, migrate?: Migrate) {
  const machine = sums(generation);
  return defineApp("versions", {
    version,
    inputs: { in: input("op", { schema: op, time: ({ at }) => at }) },
    actors: { sums: { machine, on: { op: () => "one" }, ...(migrate ? { migrate } : {}) } },
    emits: { summed: publish("out.sums", { key: () => "one" }), rested: publish("out.rests", { key: () => "one" }) },
  } as never);
}

function items(app: ReturnType<typeof appOf>, values: readonly { n: number; at: number }[], first: number): Item[] {
  return values.map((value, i) => ({
    kind: "record",
    judged: judge(app, app.inputs[0]!, record("in", first + i, { key: "one", value })),
  }));
}

/** What a migration can be of: right, or wrong in one of the ways there are. */
const MIGRATIONS = {
  right: (snapshot: unknown) => {
    const { context, ...rest } = snapshot as { context: { sum: number }; value: string };
    return { ...rest, value: "running", context: { total: context.sum } };
  },
  throws: () => {
    throw new Error("no way from there");
  },
  "gives no snapshot": () => ({ nothing: true }),
  "leaves a state that there is not any more": (snapshot: unknown) => snapshot,
} satisfies Record<string, (snapshot: unknown) => unknown>;

const values = fc.array(fc.record({ n: fc.integer({ min: 1, max: 9 }), at: fc.integer({ min: 0, max: 1_000 }) }), {
  minLength: 1,
  maxLength: 8,
});
const versions = fc.tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 }));

test("SS3: snapshots of an older code load through migrate, or are refused with the version named", () => {
  const outcomes = new Map<string, number>();
  const count = (what: string) => outcomes.set(what, (outcomes.get(what) ?? 0) + 1);
  const kinds = Object.keys(MIGRATIONS) as (keyof typeof MIGRATIONS)[];
  fc.assert(
    fc.property(values, values, versions, fc.constantFrom(...kinds, null), (before, after, [from, to], kind) => {
      const old = appOf("old", from);
      const model = new ShardModel(testOptions(old));
      fold(model, items(old, before, 0));
      const pieces = [...model.capture().pieces(50)];
      const seen: number[] = [];
      const migrate: Migrate | undefined =
        kind === null
          ? undefined
          : (snapshot, fromVersion) => {
              seen.push(fromVersion);
              return MIGRATIONS[kind](snapshot);
            };
      const now = appOf("new", to, migrate);
      const restored = attempt(() => ShardModel.restore(testOptions(now), pieces, from));

      if (from < to && kind === "right") {
        count("migrated");
        expect(seen).toEqual([from]);
        const loaded = restored as ShardModel;
        expect(loaded.nextDueMs).toBe(model.nextDueMs);
        expect(loaded.streamTimeMs).toBe(model.streamTimeMs);
        // It goes on from the sum, and the timers that the old code set are due when they were.
        const sum = [...before, after[0]!].reduce((total, { n }) => total + n, 0);
        const { publishes } = fold(loaded, items(now, after, before.length));
        const sums = publishes.filter(({ topic }) => topic === "out.sums").map(({ value }) => json(value));
        expect(sums[0]).toEqual({ sum });
        return;
      }
      expect(restored).toBeInstanceOf(LockstepError);
      const { code, message, details } = restored as LockstepError;
      expect(details).toMatchObject({ fromVersion: from, version: to });
      expect(message).toContain(`version ${from} of "versions"`);
      expect(message).toContain(`version ${to}`);
      // Of the same version a snapshot that cannot be read is broken, and `migrate` has no say in newer ones either.
      expect(code).toBe(from === to ? "SNAPSHOT_BROKEN" : "CODE_CHANGED");
      if (from >= to) expect(seen).toEqual([]);
      count(from > to ? "newer" : from === to ? "same" : `older, ${kind ?? "no migrate"}`);
    }),
    { numRuns: 400 },
  );
  const wanted = ["migrated", "newer", "same", ...kinds.slice(1).map((kind) => `older, ${kind}`), "older, no migrate"];
  expect([...outcomes.keys()].sort()).toEqual(wanted.sort());
});

test("SS3: a snapshot of the same machine under a newer version loads without migrate, and goes on as if nothing had been", () => {
  fc.assert(
    fc.property(values, values, versions, (before, after, [a, b]) => {
      const [from, to] = [Math.min(a, b), Math.max(a, b)];
      const kept = new ShardModel(testOptions(appOf("old", from)));
      fold(kept, items(appOf("old", from), before, 0));
      const newer = appOf("old", to);
      const restored = ShardModel.restore(testOptions(newer), [...kept.capture().pieces(50)], from);
      const rest = items(newer, after, before.length);
      expect(fold(restored, rest).publishes).toEqual(fold(kept, rest).publishes);
      expect(bytesOf(restored).equals(bytesOf(kept))).toBe(true);
    }),
    { numRuns: 100 },
  );
});

function attempt<T>(act: () => T): T | unknown {
  try {
    return act();
  } catch (error) {
    return error;
  }
}
