/**
 * Before the first test that needs servers: one Kafka and one Postgres for the whole run, and a dist that is fresh, with the
 * apps of the tests beside it.
 *
 * Each project of vitest calls this on its own, in one process; the first starts the stack, the last one stops it.
 * Tests find the addresses in the environment: see `testStack` in stack.ts.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

import pg from "pg";
import type { TestProject } from "vitest/node";

import { KAFKA_VERSION, type Stack, startStack } from "../../src/stack/index.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Projects whose tests run `node dist/main.js`. */
const NEEDS_DIST = ["integration", "acceptance", "fault", "ops", "debezium"];

interface Shared {
  users: number;
  stack: Promise<Stack>;
}

/** Kept on the global object: each project loads a copy of this module. */
const KEY = Symbol.for("lockstep.test.stack");
const globals = globalThis as { [KEY]?: Shared | undefined };

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  if (NEEDS_DIST.includes(project.name)) buildDist();
  globals[KEY] ??= {
    users: 0,
    stack: startStack({
      log: (line) => console.log(line),
      // Tests kill members of groups and wait for their sessions to end; Kafka's default allows none below 6 s.
      kafkaConfig: { "group.min.session.timeout.ms": "1000" },
    }),
  };
  const shared = globals[KEY];
  shared.users += 1;
  const { kafka, postgres } = await shared.stack;
  process.env["LOCKSTEP_TEST_KAFKA"] = kafka!.brokers.join(",");
  process.env["LOCKSTEP_TEST_KAFKA_LIBS"] = kafka!.libs ?? "";
  process.env["LOCKSTEP_TEST_POSTGRES"] = postgres!.url;
  process.env["LOCKSTEP_TEST_RUN"] ??= JSON.stringify(await factsOfRun(await shared.stack));

  return async () => {
    shared.users -= 1;
    if (shared.users > 0) return;
    globals[KEY] = undefined;
    await (await shared.stack).stop();
  };
}

/** What a result was found with: see test/support/proof.ts. */
async function factsOfRun({ kafka, postgres }: Stack): Promise<Record<string, string>> {
  const git = (...args: string[]) => spawnSync("git", args, { cwd: ROOT, encoding: "utf8" }).stdout?.trim() ?? "";
  const client = new pg.Client({ connectionString: postgres!.url });
  await client.connect();
  try {
    const { rows } = await client.query<{ server_version: string }>("SHOW server_version");
    return {
      commit: git("rev-parse", "HEAD") || "unknown",
      changes: git("status", "--porcelain") === "" ? "none" : "uncommitted changes",
      node: process.versions.node,
      kafka: kafka!.source === "environment" ? "as the environment names it" : KAFKA_VERSION,
      postgres: rows[0]!.server_version,
    };
  } finally {
    await client.end();
  }
}

/**
 * A wrong type does not stop the tests: all of dist is written all the same, and `npm run types`, which runs before
 * them, says it better.
 */
function buildDist(): void {
  const dist = run("scripts/build.mjs", "--quiet");
  if (dist.status !== 0) console.warn(`dist was built with errors:\n${dist.output}`);
  const apps = run("scripts/build-test-apps.mjs");
  if (apps.status !== 0) throw new Error(`the apps of the tests cannot be compiled:\n${apps.output}`);
}

function run(...args: string[]): { status: number | null; output: string } {
  const { error, status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: ROOT, encoding: "utf8" });
  if (error !== undefined) throw error;
  return { status, output: `${stdout}${stderr}` };
}
