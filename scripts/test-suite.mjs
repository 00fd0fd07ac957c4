/**
 * Runs one of the longer suites of vitest, whole, with a summary for machines when asked.
 *
 *   node scripts/test-suite.mjs <project> [--json] [--help] [<what vitest takes: files, -t name>...]
 *
 * With --json one object alone is on stdout: { suite, passed, failed, skipped, seconds, tests: [{ name, state, seconds, message? }] };
 * the tests' own output goes to stderr. Exit code: 0 when all passed, 1 when not, 2 for a wrong call.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const [project, ...given] = process.argv.slice(2);
if (project === undefined) {
  console.error("node scripts/test-suite.mjs <project of vitest.config.ts> [--json] [files or options of vitest]");
  process.exit(2);
}
if (given.includes("--help")) {
  console.log(`npm run test:${project} -- [--json] [files or options of vitest, as -t "part of a name"]`);
  process.exit(0);
}
const json = given.includes("--json");
const folder = mkdtempSync(join(tmpdir(), "lockstep-results-"));
const resultsFile = process.env["TEST_RESULTS"] ?? join(folder, "results.json");
const vitest = join(dirname(createRequire(import.meta.url).resolve("vitest/package.json")), "vitest.mjs");
const { status, error } = spawnSync(
  process.execPath,
  [vitest, "run", "--project", project, ...given.filter((each) => each !== "--json")],
  {
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    env: { ...process.env, TEST_LONG: "1", TEST_RESULTS: resultsFile },
    stdio: ["ignore", json ? process.stderr.fd : "inherit", "inherit"],
  },
);
if (error !== undefined) throw error;
if (json) console.log(JSON.stringify(summary()));
rmSync(folder, { recursive: true, force: true });
process.exit(status === 0 ? 0 : 1);

function summary() {
  if (!existsSync(resultsFile)) return { suite: project, passed: 0, failed: 1, skipped: 0, seconds: 0, tests: [] };
  const results = JSON.parse(readFileSync(resultsFile, "utf8"));
  const tests = results.testResults.flatMap((file) => {
    const ran = file.assertionResults.map((test) => ({
      name: test.fullName,
      state: test.status,
      seconds: Math.round(test.duration ?? 0) / 1000,
      ...(test.failureMessages?.length > 0 ? { message: test.failureMessages.join("\n") } : {}),
    }));
    const isLost = file.status === "failed" && !ran.some(({ state }) => state === "failed");
    return isLost ? [...ran, { name: file.name, state: "failed", seconds: 0, message: file.message }] : ran;
  });
  const count = (...states) => tests.filter(({ state }) => states.includes(state)).length;
  return {
    suite: project,
    passed: count("passed"),
    failed: count("failed"),
    skipped: count("skipped", "pending", "todo", "disabled"),
    seconds: Math.round((Math.max(0, ...results.testResults.map((file) => file.endTime)) - results.startTime) / 1000),
    tests,
  };
}
