import { describe, expect, test } from "vitest";

import { drawSchedule, FAULT_KINDS, plannedOf, scheduleText } from "../../soak/schedule.ts";

const SESSION_MS = 3_000;
const SEEDS = Array.from({ length: 200 }, (_, i) => i * 7_919 + 1);
const draw = (seed: number, minutes = 3) => drawSchedule({ seed, minutes, sessionMs: SESSION_MS });

describe("the schedule of a soak", () => {
  test("SK1: is a function of its seed and length, and another seed gives another one", () => {
    const texts = SEEDS.map((seed) => JSON.stringify(draw(seed)));
    expect(SEEDS.map((seed) => JSON.stringify(draw(seed)))).toEqual(texts);
    expect(new Set(texts).size).toBe(SEEDS.length);
  });

  test.each([1, 3, 30])("SK2: of %i minutes has every kind once before any twice", (minutes) => {
    for (const seed of SEEDS) {
      const kinds = draw(seed, minutes).rounds.map(({ fault }) => fault.kind);
      expect(kinds.length).toBeGreaterThanOrEqual(FAULT_KINDS.length);
      for (let i = 0; i + FAULT_KINDS.length <= kinds.length; i += FAULT_KINDS.length)
        expect(new Set(kinds.slice(i, i + FAULT_KINDS.length)).size).toBe(FAULT_KINDS.length);
    }
  });

  test.each([1, 3, 30])("SK3: of %i minutes has its times in order and within the run", (minutes) => {
    for (const seed of SEEDS) {
      const times = draw(seed, minutes).rounds.map(({ atMs }) => atMs);
      expect(times).toEqual([...times].sort((a, b) => a - b));
      expect(times[0]).toBeGreaterThan(0);
      expect(times.at(-1)).toBeLessThan(minutes * 60_000);
    }
  });

  test("pauses a process for less than its session, and for more", () => {
    const faults = SEEDS.flatMap((seed) => draw(seed).rounds.map(({ fault }) => fault));
    const lengths = (kind: string) => faults.filter((fault) => fault.kind === kind).map(({ ms }) => ms);
    expect(Math.max(...lengths("shortPause"))).toBeLessThan(SESSION_MS);
    expect(Math.min(...lengths("longPause"))).toBeGreaterThan(SESSION_MS);
  });

  test("has companions that begin while a fault is under way, and none while processes are added and stopped", () => {
    const rounds = SEEDS.flatMap((seed) => draw(seed, 30).rounds);
    const accompanied = rounds.filter(({ companion }) => companion !== null);
    expect(accompanied.length / rounds.length).toBeGreaterThan(0.1);
    expect(accompanied.filter(({ fault }) => /^add/.test(fault.kind))).toEqual([]);
    expect(new Set(accompanied.map(({ companion }) => companion!.kind))).toEqual(
      new Set(["kill", "kafkaCut", "postgresCut"]),
    );
  });

  test("is printed whole, with its seed", () => {
    const schedule = draw(42, 3);
    const lines = scheduleText(schedule).split("\n");
    expect(lines[0]).toMatch(/seed 42, 3 min/);
    expect(lines).toHaveLength(schedule.rounds.length + 1);
    for (const [i, { fault, companion }] of schedule.rounds.entries()) {
      expect(lines[i + 1]).toContain(fault.kind);
      if (companion) expect(lines[i + 1]).toContain(`later ${companion.kind}`);
    }
  });

  test("is counted by kind, companions included", () => {
    const schedule = draw(7, 30);
    const total = schedule.rounds.length + schedule.rounds.filter(({ companion }) => companion !== null).length;
    expect(Object.values(plannedOf(schedule)).reduce((a, b) => a + b)).toBe(total);
  });
});
