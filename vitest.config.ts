/**
 * The tests, by what they need. `npm test` names those it runs, ops, debezium, mutants and model are not among them; `npm run test:unit` needs no servers.
 *
 * The projects run one after the other, cheapest first. Unit tests run side by side, and contract tests two at a time, each with topics
 * and a database of its own; the others share the topics of an app on one broker, and some of them kill processes and watch the clock.
 */
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const SECOND = 1_000;

/** The tests' own apps import the package by its name; where nothing is built they get its sources. */
const OWN_PACKAGE = {
  "lockstep/testing": fileURLToPath(new URL("./src/testing/index.ts", import.meta.url)),
  lockstep: fileURLToPath(new URL("./src/index.ts", import.meta.url)),
};

/** Four minutes of one core more than the five that the model check is to take. */
const MODEL_BOUNDS = "test/model/commit/bounds.test.ts";

/** Tests against real servers: ONE stack a run, started when the first of these projects needs it. */
function againstServers(name: string, order: number, timeoutMs: number, sideBySide = 1) {
  return {
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      globalSetup: ["test/support/global-setup.ts"],
      fileParallelism: sideBySide > 1,
      maxWorkers: sideBySide,
      sequence: { groupOrder: order },
      testTimeout: timeoutMs,
      hookTimeout: timeoutMs,
      teardownTimeout: 30 * SECOND,
    },
  };
}

/**
 * Only by `npm run test:simulation`: no servers, but minutes of work. Each app in a process of its own; in several parts, which share
 * its seeds, in as many processes.
 */
function simulations(parts: number) {
  return Array.from({ length: parts }, (_, part) => ({
    resolve: { alias: OWN_PACKAGE },
    test: {
      name: part === 0 ? "simulation" : `simulation-${part + 1}`,
      include: ["test/simulation/**/*.test.ts"],
      env: { SIMULATION_PART: String(part) },
      maxWorkers: availableParallelism(),
      sequence: { groupOrder: 7 },
      testTimeout: 3_600 * SECOND,
    },
  }));
}

export default defineConfig({
  test: {
    pool: "forks",
    // The summary for machines: what .ci/run counts.
    ...(process.env["TEST_RESULTS"]
      ? { reporters: ["default", ["json", { outputFile: process.env["TEST_RESULTS"] }]] }
      : {}),
    projects: [
      {
        resolve: { alias: OWN_PACKAGE },
        test: {
          name: "unit",
          include: ["test/unit/**/*.test.ts", "test/house/**/*.test.ts"],
          maxWorkers: 2, // vitest leaves one core of two alone
          sequence: { groupOrder: 0 },
          testTimeout: 30 * SECOND,
        },
      },
      againstServers("contract", 1, 60 * SECOND, 2),
      againstServers("integration", 2, 180 * SECOND),
      againstServers("acceptance", 3, 600 * SECOND),
      againstServers("fault", 4, 600 * SECOND),
      ...simulations(Number(process.env["SIMULATION_PARTS"] ?? 1)),
      {
        // Only by `npm run test:mutants`: each in a copy of the project, with a simulation of its own. Two at a time.
        test: {
          name: "mutants",
          include: ["test/mutants/**/*.test.ts"],
          maxConcurrency: 2,
          sequence: { groupOrder: 7 },
          testTimeout: 3_600 * SECOND,
        },
      },
      {
        // Only by `npm run test:generated`: no servers, but a minute or two of work.
        resolve: { alias: OWN_PACKAGE },
        test: {
          name: "generated",
          include: ["test/generated/**/*.test.ts"],
          sequence: { groupOrder: 7 },
          testTimeout: 3_600 * SECOND,
        },
      },
      // Only by `npm run test:ops`: it wants Prometheus.
      againstServers("ops", 5, 600 * SECOND),
      // Only by `npm run test:debezium`: it fetches Kafka Connect.
      againstServers("debezium", 6, 900 * SECOND),
      {
        // Only by `npm run test:model`: it explores tens of millions of states. Its files run side by side.
        test: {
          name: "model",
          include: ["test/model/**/*.test.ts"],
          exclude: [MODEL_BOUNDS],
          maxWorkers: 2,
          sequence: { groupOrder: 7 },
          testTimeout: 600 * SECOND,
        },
      },
      {
        // Only by `npm run test:model:bounds`.
        test: {
          name: "model:bounds",
          include: [MODEL_BOUNDS],
          sequence: { groupOrder: 7 },
          testTimeout: 600 * SECOND,
        },
      },
    ],
  },
});
