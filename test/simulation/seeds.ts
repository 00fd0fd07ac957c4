/**
 * Runs seeds of one app, as many as asked for and as the time allows, and sums up what happened. A seed that fails is run a second
 * time: its trace must be the same, line by line, or the simulation itself is at fault.
 *
 *   SIMULATION_SEED     run this seed alone, and write its whole trace to .lockstep/simulation/<app>-<seed>.txt
 *   SIMULATION_SEEDS    how many seeds an app, default 1,000
 *   SIMULATION_FROM     the first of them, default 1
 *   SIMULATION_SECONDS  an app begins no further seed after so long, default 150
 *   SIMULATION_APP      this app alone
 *   SIMULATION_PARTS    processes that share the seeds, default 1; SIMULATION_PART is the number of this one, from 0
 *   SIMULATION_FAILURES an app begins no further seed after so many have failed, default 3
 *   TEST_FIGURES        file that the sums are appended to, one JSON object a line
 */
import { appendFileSync, mkdirSync, writeFileSync } from "node:fs";
import { expect } from "vitest";

import { FAULT_KINDS, type SimulationOutcome, simulate } from "../../src/testing/index.ts";
import { SIMULATED } from "./apps.ts";

export interface SeedsRun {
  readonly app: string;
  seeds: number;
  failed: number[];
  /** What the failed seeds found, in order. */
  faults: (readonly string[])[];
  seconds: number;
  virtualSeconds: number;
  steps: number;
  figures: Record<string, number>;
  injected: Record<string, number>;
  events: Record<string, number>;
}

const setting = (name: string, fallback: number): number => Number(process.env[`SIMULATION_${name}`] ?? fallback);

export function isWanted(app: string): boolean {
  return (process.env["SIMULATION_APP"] ?? app) === app;
}

export async function runSeeds(app: string): Promise<SeedsRun> {
  const only = process.env["SIMULATION_SEED"];
  const from = only === undefined ? setting("FROM", 1) : Number(only);
  const seeds = only === undefined ? setting("SEEDS", 1_000) : 1;
  const secondsMax = setting("SECONDS", 150);
  const failuresMax = setting("FAILURES", 3);
  const [part, parts] = only === undefined ? [setting("PART", 0), setting("PARTS", 1)] : [0, 1];
  const run: SeedsRun = {
    app,
    seeds: 0,
    failed: [],
    faults: [],
    seconds: 0,
    virtualSeconds: 0,
    steps: 0,
    figures: {},
    injected: Object.fromEntries(FAULT_KINDS.map((kind) => [kind, 0])),
    events: {},
  };
  const startMs = performance.now();
  const secondsSince = () => (performance.now() - startMs) / 1_000;
  const messages: string[] = [];
  const goesOn = () => secondsSince() < secondsMax && messages.length < failuresMax;
  for (let seed = from + part; seed < from + seeds && goesOn(); seed += parts) {
    const outcome = await runSeed(app, seed, only !== undefined);
    add(run, outcome);
    if (only !== undefined) console.log(`${app}, seed ${seed}: ${keepTrace(outcome)}`);
    if (outcome.faults.length === 0) continue;
    run.failed.push(seed);
    run.faults.push(outcome.faults);
    const again = await runSeed(app, seed, true);
    messages.push(
      `${app}, seed ${seed} (npm run test:simulation -- --app ${app} --seed ${seed}), trace ${keepTrace(again)}:\n${outcome.faults.join("\n")}`,
    );
    expect(again.hash, `the second run of seed ${seed} differs from the first: something is left to chance`).toBe(
      outcome.hash,
    );
  }
  run.seconds = secondsSince();
  if (process.env["TEST_FIGURES"]) appendFileSync(process.env["TEST_FIGURES"], `${JSON.stringify(run)}\n`);
  expect(messages.join("\n\n")).toBe("");
  return run;
}

export function runSeed(app: string, seed: number, keepTrace = false): Promise<SimulationOutcome> {
  return simulate({ ...SIMULATED[app]!, seed, keepTrace });
}

function keepTrace({ app, seed, trace }: SimulationOutcome): string {
  const folder = ".lockstep/simulation";
  mkdirSync(folder, { recursive: true });
  const path = `${folder}/${app}-${seed}.txt`;
  writeFileSync(path, `${trace.join("\n")}\n`);
  return path;
}

function add(run: SeedsRun, outcome: SimulationOutcome): void {
  run.seeds += 1;
  run.virtualSeconds += outcome.virtualMs / 1_000;
  run.steps += outcome.steps;
  sum(run.figures, outcome.figures);
  sum(run.injected, outcome.injected);
  sum(run.events, outcome.events);
}

function sum(into: Record<string, number>, from: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(from)) into[name] = (into[name] ?? 0) + value;
}
