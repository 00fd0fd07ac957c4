/**
 * Mutants of the model check, applied to a copy of the real code: the simulation must find each, and the same seeds must pass
 * without it. What is left out is no mutant of this code, or needs servers; docs/model.md says which.
 *
 *   MUTANTS_SECONDS  a mutant begins no further seed after so long, default 300
 *   TEST_FIGURES     file that the outcomes are appended to, one JSON object a line
 */
import { appendFileSync } from "node:fs";
import { describe, expect, test } from "vitest";

import { COMMIT_MUTANTS } from "./commit.ts";
import { ROOT, runSimulation, withCopy } from "./copy.ts";
import { apply, findingOf, type Mutant, misfits, type SimulatedAppName } from "./mutant.ts";
import { RECOVERY_MUTANTS } from "./recovery.ts";

const MUTANTS: readonly Mutant[] = [...COMMIT_MUTANTS, ...RECOVERY_MUTANTS];
const SECONDS_MAX = Number(process.env["MUTANTS_SECONDS"] ?? 300);
/** Per app, the greatest seed that found a mutant: what the control must run. */
const seedsNeeded = new Map<SimulatedAppName, number>();

describe.concurrent("M2: the simulation finds", () => {
  test.each(MUTANTS.map((mutant) => [mutant.model, mutant.name, mutant] as const))("%s: %s", async (_, __, mutant) => {
    const { app, patches, seedsMax, finds } = mutant;
    expect(misfits(ROOT, patches)).toEqual([]);
    const run = await withCopy((root) => {
      apply(root, patches);
      return runSimulation(root, { app, seeds: seedsMax, seconds: SECONDS_MAX });
    });
    const seed = run.failed[0] ?? null;
    const faults = run.faults[0] ?? [];
    const found = faults.map(findingOf);
    note({ model: mutant.model, mutant: mutant.name, app, seeds: run.seeds, seed, finding: found[0] ?? null, faults });
    expect(seed, `not found in ${run.seeds} seeds of ${app}: ${mutant.what}`).not.toBeNull();
    expect(finds, faults.join("\n")).toContain(found[0]);
    seedsNeeded.set(app, Math.max(seedsNeeded.get(app) ?? 0, run.seeds));
  });
});

describe("M2: without a mutant the same seeds pass:", () => {
  const apps = [...new Set(MUTANTS.map(({ app }) => app))];
  test.each(apps)("%s", async (app) => {
    const seeds = seedsNeeded.get(app) ?? 0;
    expect(seeds, "no mutant was found by it").toBeGreaterThan(0);
    const run = await withCopy((root) => runSimulation(root, { app, seeds, seconds: Number.MAX_SAFE_INTEGER }));
    note({ control: app, seeds: run.seeds, failed: run.failed });
    expect(run).toMatchObject({ passed: true, seeds, failed: [] });
  });
});

function note(figures: object): void {
  if (process.env["TEST_FIGURES"]) appendFileSync(process.env["TEST_FIGURES"], `${JSON.stringify(figures)}\n`);
}
