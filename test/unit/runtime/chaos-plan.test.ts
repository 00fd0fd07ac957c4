import { describe, expect, test } from "vitest";

import { planChaos } from "../../../src/cli/chaos.ts";

const OPTIONS = { durationMs: 60_000, kills: 4, processes: 2, sessionTimeoutMs: 6_000 };
const SEEDS = Array.from({ length: 200 }, (_, i) => i * 7_919);

describe("a plan of chaos", () => {
  test("is a function of its seed, and another seed gives another plan", () => {
    const plans = SEEDS.map((seed) => JSON.stringify(planChaos({ ...OPTIONS, seed })));
    expect(SEEDS.map((seed) => JSON.stringify(planChaos({ ...OPTIONS, seed })))).toEqual(plans);
    expect(new Set(plans).size).toBe(SEEDS.length);
  });

  test("kills every process, in turn, but once whoever holds the relay; over all seeds either may be first, and either paused", () => {
    const firstKilled = new Set<number>();
    const paused = new Set<number | "relay">();
    const relayAt = new Set<number>();
    for (const seed of SEEDS) {
      const { steps } = planChaos({ ...OPTIONS, seed });
      const killed = steps.filter(({ kind }) => kind === "kill").map(({ target }) => target);
      const [pause, ...more] = steps.filter(({ kind }) => kind === "pause");
      expect(more).toEqual([]);
      const at = killed.indexOf("relay");
      relayAt.add(at);
      const first = at === 0 ? (Number(killed[1]) + 1) % 2 : Number(killed[0]);
      expect(killed).toEqual([0, 1, 2, 3].map((i) => (i === at ? "relay" : (first + i) % 2)));
      firstKilled.add(first);
      paused.add(pause!.target);
    }
    expect([firstKilled, paused, relayAt]).toEqual([new Set([0, 1]), new Set([0, 1]), new Set([0, 1, 2, 3])]);
  });

  test("pauses for longer than the session lasts, so that the paused owner wakes up as a zombie", () => {
    for (const seed of SEEDS) {
      const { pauseMs } = planChaos({ ...OPTIONS, seed });
      expect(pauseMs).toBeGreaterThan(OPTIONS.sessionTimeoutMs);
      expect(pauseMs).toBeLessThanOrEqual(OPTIONS.sessionTimeoutMs * 2.5);
    }
  });

  test("has its steps in order, apart from each other, and within the load", () => {
    for (const seed of SEEDS) {
      const times = planChaos({ ...OPTIONS, seed }).steps.map(({ atMs }) => atMs);
      for (const [i, atMs] of times.slice(1).entries()) expect(atMs - times[i]!).toBeGreaterThan(0);
      expect(times[0]).toBeGreaterThan(0);
      expect(times.at(-1)).toBeLessThan(OPTIONS.durationMs);
    }
  });

  test("without kills only pauses", () => {
    expect(planChaos({ ...OPTIONS, kills: 0, seed: 1 }).steps.map(({ kind }) => kind)).toEqual(["pause"]);
  });
});
