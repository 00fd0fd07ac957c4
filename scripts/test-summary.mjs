/**
 * Sums up what .ci/run ran. Prints a line for each stage, and at the end `<N> passed, <M> failed`, alone on its line.
 *
 *   node scripts/test-summary.mjs (<stage> <exit code> <seconds> <vitest's JSON results, or a file that does not exist>)...
 *
 * A stage that failed without a failed test (lint, the demo, a crash of the runner) counts as one failure. Exit code 1
 * when anything failed.
 */
import { existsSync, readFileSync } from "node:fs";

let passedTotal = 0;
let failedTotal = 0;

for (let at = 2; at + 3 < process.argv.length; at += 4) {
  const [name, code, seconds, resultsFile] = process.argv.slice(at, at + 4);
  const { passed, failed } = countsOf(resultsFile);
  const failedHere = failed === 0 && code !== "0" ? 1 : failed;
  passedTotal += passed;
  failedTotal += failedHere;
  const tests = existsSync(resultsFile) ? `, tests: ${passed} passed, ${failed} failed` : "";
  console.log(`${failedHere === 0 ? "ok    " : "FAILED"} ${name.padEnd(12)} ${seconds.padStart(5)} s${tests}`);
}
console.log(`${passedTotal} passed, ${failedTotal} failed`);
process.exit(failedTotal === 0 ? 0 : 1);

/** A file of tests that could not even be loaded has no tests, and is one failure. */
function countsOf(path) {
  if (!existsSync(path)) return { passed: 0, failed: 0 };
  const results = JSON.parse(readFileSync(path, "utf8"));
  const notLoaded = results.testResults.filter(
    (file) => file.status === "failed" && file.assertionResults.every((test) => test.status !== "failed"),
  );
  return { passed: results.numPassedTests, failed: results.numFailedTests + notLoaded.length };
}
