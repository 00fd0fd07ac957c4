/**
 * Tests made from every machine of every app of this repository; `machineTests` of lockstep/testing says what they are.
 *
 *   GENERATED_SEED      of what is drawn, default 1
 *   GENERATED_CRASHES   runs with a crash of one machine, at most; "all" for every place there is: an hour instead of a minute
 */
import { appendFileSync } from "node:fs";
import { afterAll, expect, test } from "vitest";

import { coverageTable, machineTests } from "../../src/testing/index.ts";
import { allApps } from "./apps.ts";

const crashes = process.env["GENERATED_CRASHES"] ?? "300";
const limits = {
  seed: Number(process.env["GENERATED_SEED"] ?? 1),
  crashesMax: crashes === "all" ? Number.POSITIVE_INFINITY : Number(crashes),
};
const suites = (await allApps()).map(({ app, ...beside }) => machineTests(app, { ...beside, ...limits }));

for (const { cases } of suites) for (const { name, run } of cases) test(name, run);

test("every app of the repository is there", () => {
  const machines = new Set(suites.flatMap(({ coverage }) => coverage().map((one) => `${one.app} ${one.actorType}`)));
  for (const one of [
    "trading window",
    "trading desk",
    "visits visit",
    "visits house",
    "hostile tally",
    "greeter greeter",
  ])
    expect(machines).toContain(one);
});

afterAll(() => {
  const coverage = suites.flatMap((suite) => suite.coverage()).filter(({ paths }) => paths > 0);
  console.log(`seed ${limits.seed}, at most ${crashes} runs with a crash of each machine\n${coverageTable(coverage)}`);
  if (process.env["TEST_FIGURES"])
    for (const one of coverage) appendFileSync(process.env["TEST_FIGURES"], `${JSON.stringify(one)}\n`);
});
