/**
 * Sums up what .ci/run ran. Prints a line for each stage, what failed in it and why, and at the end `<N> passed, <M> failed`, alone on its line.
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
  console.log(`${failedHere === 0 ? "ok    " : "FAILED"} ${name.padEnd(14)} ${seconds.padStart(5)} s${tests}`);
  for (const line of failuresOf(resultsFile)) console.log(`         ${line}`);
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

/** Each failed test by its full name, and the first lines of its message: the log of the run itself may be long gone. */
function failuresOf(path) {
  if (!existsSync(path)) return [];
  const { testResults } = JSON.parse(readFileSync(path, "utf8"));
  return testResults.flatMap((file) => {
    const failed = file.assertionResults.filter((test) => test.status === "failed");
    const named = failed.map((test) => [test.fullName, test.failureMessages[0] ?? ""]);
    if (file.status === "failed" && failed.length === 0) named.push([file.name, file.message ?? ""]);
    return named.map(([test, message]) => `${test}: ${message.split("\n").slice(0, 3).join(" ").slice(0, 600)}`);
  });
}
