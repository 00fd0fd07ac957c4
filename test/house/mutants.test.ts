/**
 * Mutants of the real code (test/mutants) keep up with it: each patch fits, and each is a mutant that the model check has.
 */
import { describe, expect, test } from "vitest";

import { MUTANTS as COMMIT_MODEL } from "../model/commit/runs.ts";
import { MUTANTS as RECOVERY_MODEL } from "../model/recovery/runs.ts";
import { COMMIT_MUTANTS } from "../mutants/commit.ts";
import { findingOf, misfits } from "../mutants/mutant.ts";
import { RECOVERY_MUTANTS } from "../mutants/recovery.ts";
import { ROOT } from "./source-files.ts";

const MUTANTS = [...COMMIT_MUTANTS, ...RECOVERY_MUTANTS];
const MODELS = { commit: COMMIT_MODEL, recovery: RECOVERY_MODEL };

describe("M1: each mutant fits the code, and has its name from the model check:", () => {
  test.each(MUTANTS.map((mutant) => [mutant.model, mutant.name, mutant] as const))("%s: %s", (model, name, mutant) => {
    expect(misfits(ROOT, mutant.patches)).toEqual([]);
    expect(MODELS[model].map((run) => run.name)).toContain(name);
  });

  test("no name comes twice", () => {
    const names = MUTANTS.map(({ model, name }) => `${model}: ${name}`);
    expect(new Set(names).size).toBe(names.length);
  });
});

describe("M1: a patch does not fit", () => {
  test.each([
    ["what is not there", { from: "no such line of code", to: "x" }, "0 times"],
    ["what is there several times", { from: "const", to: "x" }, "times, and should have once"],
    ["what it leaves as it is", { from: "export function reconcile(", to: "export function reconcile(" }, "nothing"],
  ])("%s", (_, patch, why) => {
    const [misfit] = misfits(ROOT, [{ file: "src/runtime/reconcile.ts", ...patch }]);
    expect(misfit).toContain(why);
  });
});

test("M2: what a fault names is told from what is no finding", () => {
  const named = [
    "I6: shard 0: 3 records are published, the fold gives 2",
    "shard 1 halted in p2: POSITIONS_CONTRADICT: Shard 1: ...",
    "not live: 180000 ms after the last fault ...",
    "p3 stopped without draining",
    "the run broke off: TypeError: x is not a function",
    "ledger.entered is not what the input gives",
  ].map(findingOf);
  expect(named).toEqual(["I6", "halt POSITIONS_CONTRADICT", "not live", "not drained", null, null]);
});
