/**
 * What must hold for every sequence of records and ticks. fast-check prints seed and path of a failure; both go into
 * `fc.assert(..., { seed, path })` to see it again.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";

import type { CommitEffects, PublishEffect, RowEffect } from "../../../src/actors/effects.ts";
import type { InputRecord } from "../../../src/actors/record.ts";
import { ShardModel } from "../../../src/actors/shard-model.ts";
import {
  bytesOf,
  fold,
  INPUTS,
  type Item,
  judged,
  newModel,
  OPS,
  type Op,
  record,
  takeAll,
  testApp,
  testOptions,
} from "./machines.ts";

const app = testApp();
const RUNS = 150;
/** A spinning timer fires so often that the other ones would hardly be seen. */
const ALL_BUT_SPIN = OPS.filter((op) => op !== "spin");

/** What an item is made of; offsets and times are given by its place in the sequence. */
interface Draft {
  readonly topic: number;
  readonly key: string;
  readonly op: Op["op"];
  readonly n: number;
  readonly forwardMs: number;
  readonly broken: "no" | "value" | "key" | "bytes" | "time";
  readonly source: number | null;
  /** Instead of a record: a tick, so far beyond the time of the last record. */
  readonly tick: { readonly aheadMs: number; readonly timersMax: number } | null;
}

function drafts(
  options: { ops?: readonly Op["op"][]; ticks?: boolean; broken?: boolean; sources?: boolean } = {},
): fc.Arbitrary<Draft[]> {
  const tick = fc.record({ aheadMs: fc.integer({ min: 0, max: 120 }), timersMax: fc.integer({ min: 0, max: 4 }) });
  const draft = fc.record({
    topic: fc.nat({ max: 1 }),
    key: fc.constantFrom("a1", "a2", "b1", "c1", "c2"),
    op: fc.oneof(
      { weight: 6, arbitrary: fc.constant("add" as const) },
      { weight: 5, arbitrary: fc.constantFrom(...(options.ops ?? ALL_BUT_SPIN)) },
    ),
    n: fc.nat({ max: 6 }),
    forwardMs: fc.integer({ min: -25, max: 35 }),
    broken:
      options.broken === false
        ? fc.constant("no" as const)
        : fc.oneof(
            { weight: 9, arbitrary: fc.constant("no" as const) },
            {
              weight: 1,
              arbitrary: fc.constantFrom("value" as const, "key" as const, "bytes" as const, "time" as const),
            },
          ),
    source: options.sources === false ? fc.constant(null) : seldom(fc.nat({ max: 30 })),
    tick: options.ticks === false ? fc.constant(null) : seldom(tick),
  });
  return fc.array(draft, { minLength: 1, maxLength: 40 });
}

/** fast-check's own option() gives null seldom; here it is the rule. */
function seldom<T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | null> {
  return fc.oneof({ weight: 6, arbitrary: fc.constant(null) }, { weight: 1, arbitrary });
}

function toItems(all: readonly Draft[]): Item[] {
  let ts = 1_000;
  return all.map((draft, offset): Item => {
    if (draft.tick) return { kind: "tick", toMs: ts + draft.tick.aheadMs, timersMax: draft.tick.timersMax };
    ts = Math.max(0, ts + draft.forwardMs);
    return { kind: "record", judged: judged(app, toRecord(draft, offset, ts)) };
  });
}

function toRecord({ topic, key, op, n, broken, source }: Draft, offset: number, ts: number): InputRecord {
  const value = { key, op, n, ts: broken === "time" ? 1e9 : ts };
  const headers: InputRecord["headers"] = source === null ? [] : [["lockstep-source", Buffer.from(`up/0/${source}/0`)]];
  return record(INPUTS[topic]!, offset, {
    key: broken === "key" ? null : key,
    value: broken === "value" ? { ...value, op: "what" } : broken === "bytes" ? Buffer.from([0xc3, 0x28]) : value,
    headers,
  });
}

/** All output in order, whichever batch it was in. `origin` counts within a batch, so it is left out. */
function output(effects: readonly CommitEffects[]): unknown {
  return {
    publishes: effects.flatMap((e) => e.publishes.map(publishText)),
    rows: effects.flatMap((e) => e.rows.map(rowText)),
  };
}

function publishText({ id, topic, partition, key, value, headers, timestampMs }: PublishEffect): string {
  const names = headers.map(([name, content]) => `${name}=${content?.toString("latin1")}`);
  return [id, topic, partition, timestampMs, key?.toString("latin1"), value?.toString("latin1"), ...names].join(" ");
}

function rowText({ table, row }: RowEffect): string {
  return `${table} ${JSON.stringify(row)}`;
}

function sum(effects: readonly CommitEffects[]): Record<string, number> {
  const total: Record<string, number> = {};
  for (const { counts } of effects)
    for (const [name, value] of Object.entries(counts)) total[name] = (total[name] ?? 0) + value;
  return total;
}

/** Cuts items into batches after the places named. */
function cutAt<T>(items: readonly T[], places: readonly number[]): T[][] {
  const ends = [...new Set(places.map((place) => place % (items.length + 1)))].sort((a, b) => a - b);
  return [...ends, items.length].map((end, i, all) => items.slice(i === 0 ? 0 : all[i - 1]!, end));
}

const places = fc.array(fc.nat({ max: 40 }), { maxLength: 15 });

describe("a fold", () => {
  it("meets everything that can become of a record, in the sequences made up here", () => {
    const total = sum(fc.sample(drafts(), { numRuns: 100, seed: 1 }).map((all) => fold(newModel(app), toItems(all))));
    for (const name of ["taken", "dropped", "late", "quarantined", "timersFired", "additions"]) {
      expect(total[name], name).toBeGreaterThan(5);
    }
    expect(total["additions"]).toBeGreaterThan(total["taken"]! / 4);
  });

  it("M1: gives the same records, rows and state wherever its batches are cut", () => {
    fc.assert(
      fc.property(drafts(), places, (all, cuts) => {
        const items = toItems(all);
        const whole = newModel(app);
        const expected = [fold(whole, items)];
        const cut = newModel(app);
        const effects = cutAt(items, cuts).map((batch) => fold(cut, batch));
        expect(output(effects)).toEqual(output(expected));
        expect(sum(effects)).toEqual(sum(expected));
        expect(bytesOf(cut).equals(bytesOf(whole))).toBe(true);
      }),
      { numRuns: RUNS },
    );
  });

  it("MH2, SC1: gives the same after its state went through a snapshot, at any point", () => {
    fc.assert(
      fc.property(drafts(), places, fc.integer({ min: 1, max: 400 }), (all, cuts, pieceBytes) => {
        const items = toItems(all);
        const kept = newModel(app);
        let restored = newModel(app);
        for (const batch of cutAt(items, cuts)) {
          const expected = fold(kept, batch);
          const effects = fold(restored, batch);
          expect(effects).toEqual(expected);
          restored = ShardModel.restore(testOptions(app), [...restored.capture().pieces(pieceBytes)], 1);
          expect(bytesOf(restored).equals(bytesOf(kept))).toBe(true);
        }
      }),
      { numRuns: RUNS },
    );
  });

  it("M3, SS1, TQ3: discards a batch without a trace", () => {
    fc.assert(
      fc.property(drafts(), drafts(), (before, discarded) => {
        const items = toItems([...before, ...discarded]);
        const model = newModel(app);
        const untouched = newModel(app);
        fold(model, items.slice(0, before.length));
        fold(untouched, items.slice(0, before.length));
        const state = bytesOf(model);
        model.begin();
        takeAll(model, items.slice(before.length));
        model.discard();
        expect(bytesOf(model).equals(state)).toBe(true);
        expect(model.nextDueMs).toBe(untouched.nextDueMs);
        // What comes next does not know of it either.
        const next = items.slice(before.length).reverse();
        expect(fold(model, next)).toEqual(fold(untouched, next));
      }),
      { numRuns: RUNS },
    );
  });

  it("M2: fires each timer at its due time, whether a record or a tick of its own makes it fire", () => {
    const sound = ["add", "end", "orphan"] as const;
    fc.assert(
      fc.property(drafts({ ops: sound, ticks: false, broken: false, sources: false }), (all) => {
        const items = toItems(all);
        const byRecords = newModel(app);
        const expected = [fold(byRecords, items)];
        const byTicks = newModel(app);
        const effects = items.flatMap((item) => {
          const timeMs = item.kind === "record" ? item.judged.timeMs : 0;
          const ticks: CommitEffects[] = [];
          while (byTicks.nextDueMs !== null && byTicks.nextDueMs <= timeMs) {
            ticks.push(fold(byTicks, [{ kind: "tick", toMs: byTicks.nextDueMs, timersMax: 1 }]));
          }
          return [...ticks, fold(byTicks, [item])];
        });
        expect(output(effects)).toEqual(output(expected));
        expect(bytesOf(byTicks).equals(bytesOf(byRecords))).toBe(true);
      }),
      { numRuns: RUNS },
    );
  });

  it("M2, M4: keeps stream time rising, counts every record once, and publishes no id twice", () => {
    fc.assert(
      fc.property(drafts(), (all) => {
        const model = newModel(app);
        const ids = new Set<string>();
        let published = 0;
        let time = 0;
        for (const item of toItems(all)) {
          const { publishes, origins } = fold(model, [item]);
          for (const { id } of publishes) ids.add(id);
          published += publishes.length;
          expect(model.streamTimeMs).toBeGreaterThanOrEqual(time);
          time = model.streamTimeMs;
          for (const { origin } of publishes) expect(origins[origin]).toBeDefined();
        }
        expect(ids.size).toBe(published);
        expect(model.counters["taken"] ?? 0).toBe(all.filter(({ tick }) => !tick).length);
      }),
      { numRuns: RUNS },
    );
  });

  it("MH1: gives in strict mode what it gives otherwise", () => {
    fc.assert(
      fc.property(drafts(), (all) => {
        const items = toItems(all);
        expect(fold(newModel(app, { strict: true }), items)).toEqual(fold(newModel(app), items));
      }),
      { numRuns: 40 },
    );
  });
});
