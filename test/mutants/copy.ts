/**
 * A copy of the project in a temporary folder, which a mutant may change, and the simulation run there. Nothing that is built or
 * shipped comes from it.
 */
import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import type { SeedsRun } from "../simulation/seeds.ts";
import type { SimulatedAppName } from "./mutant.ts";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** All that a simulation is made of. */
const COPIED = ["src", "test", "package.json", "tsconfig.json", "vitest.config.ts"];
const VITEST = join(dirname(createRequire(import.meta.url).resolve("vitest/package.json")), "vitest.mjs");
/** What is shown of a run that told nothing else. */
const OUTPUT_CHARS = 4_000;

/** Makes a copy, hands it over, and removes it. */
export async function withCopy<T>(use: (root: string) => Promise<T>): Promise<T> {
  const root = mkdtempSync(join(tmpdir(), "lockstep-mutant-"));
  try {
    for (const path of COPIED) cpSync(join(ROOT, path), join(root, path), { recursive: true });
    symlinkSync(join(ROOT, "node_modules"), join(root, "node_modules"));
    return await use(root);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

export interface SimulationRun extends SeedsRun {
  /** Of vitest: whether every seed passed. */
  readonly passed: boolean;
}

/**
 * Runs the simulation of one app below `root`, seed after seed, until one fails.
 * @throws when it did not come to run: a patch that does not compile, say
 */
export async function runSimulation(
  root: string,
  { app, seeds, seconds }: { app: SimulatedAppName; seeds: number; seconds: number },
): Promise<SimulationRun> {
  const figures = join(root, "figures.jsonl");
  const { TEST_RESULTS: _, ...env } = process.env;
  const child = spawn(
    process.execPath,
    [VITEST, "run", "--project", "simulation", `test/simulation/${app}.test.ts`, "--root", root],
    {
      cwd: root,
      env: {
        ...env,
        TEST_FIGURES: figures,
        SIMULATION_APP: app,
        SIMULATION_PARTS: "1",
        SIMULATION_FROM: "1",
        SIMULATION_SEEDS: String(seeds),
        SIMULATION_SECONDS: String(seconds),
        SIMULATION_FAILURES: "1",
      },
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  let output = "";
  const keep = (chunk: Buffer) => {
    output = (output + String(chunk)).slice(-OUTPUT_CHARS);
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  if (!existsSync(figures)) throw new Error(`the simulation of ${app} did not run (exit code ${code}):\n${output}`);
  return { ...(JSON.parse(readFileSync(figures, "utf8")) as SeedsRun), passed: code === 0 };
}
