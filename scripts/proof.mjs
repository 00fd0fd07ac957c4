/**
 * `npm run proof`: runs the fault suite and writes docs/proof.md from its results: each row of the crash table in docs/protocol.md, how
 * it was provoked, what was checked, and how it ended.
 *
 *   npm run proof -- [--results <file>]... [--out <file>] [--table <file>] [--json]
 *
 *   --results  vitest's JSON of a run that has been made: TEST_RESULTS=<file> npm run test:fault; several times when it was made in parts, of
 *              different test files and one commit
 *   --out      where the page goes; default docs/proof.md; - for stdout
 *   --table    page with the table of rows; default docs/protocol.md
 *   --json     rows and tests as JSON on stdout, no page
 *
 * Rows are PASSED, FAILED, or NOT RUN: a test that was skipped, or that passed without a hit, proved nothing. A file whose end failed (the
 * audit of all its tests) has no row that passed. Exit code 0 when every row passed, 1 when not, 2 when there is nothing to judge.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, stripVTControlCharacters } from "node:util";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const PASSED = "PASSED";
const FAILED = "FAILED";
const NOT_RUN = "NOT RUN";

const options = optionsOrExit();
const rows = rowsOf(readFileSync(options.table, "utf8"));
if (rows.length === 0) giveUp(`${options.table} has no table of rows`);
const results = options.results ? united(options.results.map(readResults)) : runSuite();
const tests = results.testResults.flatMap((file) => testsOf(file, new Set(rows.map(({ id }) => id))));
const report = {
  date: new Date(results.startTime).toISOString(),
  run: factsOf(tests),
  rows: rows.map((row) => judge(row, tests)),
};
if (options.json) console.log(JSON.stringify(report));
else if (options.out === "-") process.stdout.write(pageOf(report));
else writeFileSync(options.out, pageOf(report));
if (!options.json && options.out !== "-") {
  for (const { id, result } of report.rows) if (result !== PASSED) console.log(`${id.padEnd(4)} ${result}`);
  console.log(`${summaryOf(report)}: ${relative(process.cwd(), options.out)}`);
}
process.exit(report.rows.every(({ result }) => result === PASSED) ? 0 : 1);

function optionsOrExit() {
  try {
    const { values } = parseArgs({
      options: {
        results: { type: "string", multiple: true },
        out: { type: "string", default: join(ROOT, "docs/proof.md") },
        table: { type: "string", default: join(ROOT, "docs/protocol.md") },
        json: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    });
    if (!values.help) return values;
  } catch (error) {
    giveUp(`${error.message}. See npm run proof -- --help`);
  }
  console.log("npm run proof -- [--results <file>]... [--out <file> | -] [--table <file>] [--json]");
  return process.exit(0);
}

function giveUp(sentence) {
  console.error(sentence);
  process.exit(2);
}

function readResults(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    return giveUp(`No results in ${path}: ${error.message}. Make them by TEST_RESULTS=${path} npm run test:fault`);
  }
}

/** A file that ran twice has two outcomes, and nobody may choose the better one. */
function united(parts) {
  const testResults = parts.flatMap((part) => part.testResults);
  const names = testResults.map(({ name }) => basename(name));
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  if (twice !== undefined) giveUp(`${twice} is in the results twice`);
  return { startTime: Math.min(...parts.map(({ startTime }) => startTime)), testResults };
}

function runSuite() {
  const folder = mkdtempSync(join(tmpdir(), "lockstep-proof-"));
  const file = join(folder, "results.json");
  try {
    spawnSync("npm", ["run", "-s", "test:fault"], {
      cwd: ROOT,
      env: { ...process.env, TEST_RESULTS: file },
      stdio: ["ignore", process.stderr.fd, "inherit"],
    });
    return readResults(file);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Of the table whose first columns are id, what happens, what it leaves, how it is repaired. */
function rowsOf(page) {
  const begin = page.indexOf("\n| id | what happens |");
  if (begin < 0) return [];
  const end = page.indexOf("\n\n", begin);
  return page
    .slice(begin, end < 0 ? undefined : end)
    .split("\n")
    .map((line) => /^\| ([A-Z]\d+) \| ([^|]+) \|/.exec(line))
    .filter((match) => match !== null)
    .map(([, id, event]) => ({ id, event: event.trim() }));
}

/** Tests of a file that name rows: "S5, W3: what happens". */
function testsOf(file, ids) {
  const end = file.status === "failed" && file.assertionResults.every(({ status }) => status !== "failed");
  return file.assertionResults.flatMap((test) => {
    const named = /^([A-Z]\d+(?:, [A-Z]\d+)*): (.+)$/s.exec(test.title);
    const own = named?.[1].split(", ").filter((id) => ids.has(id)) ?? [];
    if (own.length === 0) return [];
    const { hits = [], checks = [], run = null } = test.meta?.proof ?? {};
    const base = { ids: own, file: basename(file.name, ".test.ts"), title: named[2], hits, checks, run };
    const seconds = Math.round((test.duration ?? 0) / 1_000);
    if (test.status === "failed")
      return [{ ...base, seconds, result: FAILED, why: firstLine(test.failureMessages[0]) }];
    if (end)
      return [{ ...base, seconds, result: FAILED, why: `the end of its file failed: ${firstLine(file.message)}` }];
    if (test.status !== "passed") return [{ ...base, seconds, result: NOT_RUN, why: "skipped" }];
    if (hits.length === 0) return [{ ...base, seconds, result: NOT_RUN, why: "passed without a hit" }];
    return [{ ...base, seconds, result: PASSED, why: "" }];
  });
}

function judge({ id, event }, all) {
  const own = all.filter(({ ids }) => ids.includes(id));
  const has = (result) => own.some((test) => test.result === result);
  const result = has(FAILED) ? FAILED : own.length === 0 || has(NOT_RUN) ? NOT_RUN : PASSED;
  return { id, event, result, tests: own };
}

/** Commit and versions, the same for all tests of a run. */
function factsOf(all) {
  const found = new Set(all.flatMap(({ run }) => (run === null ? [] : [run])));
  if (found.size > 1) giveUp(`The results are of several runs: ${[...found].join(" ")}`);
  return found.size === 0 ? null : JSON.parse([...found][0]);
}

function summaryOf({ rows }) {
  const count = (result) => rows.filter((row) => row.result === result).length;
  const tests = new Set(rows.flatMap((row) => row.tests)).size;
  return `${rows.length} rows, ${tests} tests: ${count(PASSED)} rows passed, ${count(FAILED)} failed, ${count(NOT_RUN)} not run`;
}

function pageOf(report) {
  const { run } = report;
  const facts = run
    ? `Commit \`${run.commit}\`${run.changes === "none" ? "" : `, with ${run.changes}`}. Node ${run.node}, Kafka ${run.kafka}, Postgres ${run.postgres}. Begun ${report.date}.`
    : `Begun ${report.date}. No test said of which commit.`;
  return [
    "# Proof",
    "",
    "Generated by `npm run proof` from the results of one run of `npm run test:fault`; not written by hand. Each row of the crash table in",
    "`docs/protocol.md`, with the tests that carry its id: real processes, a real broker, a real Postgres. Hits and checks are what the tests wrote down",
    "while they ran: a hit when the fault was seen to take effect, a check after it was asserted. A test without a hit is NOT RUN, whatever else it says.",
    "At the end of most files a last audit judges all of their tests together, with outputs read by Kafka's own consumer; when it fails, so do all rows of the file.",
    "",
    facts,
    "",
    `**${summaryOf(report)}.**`,
    "",
    "| row | what happens | tests | hits | result |",
    "|---|---|---:|---:|---|",
    ...report.rows.map(
      ({ id, event, tests, result }) =>
        `| [${id}](#${id.toLowerCase()}) | ${event} | ${tests.length} | ${hitsOf(tests)} | ${result} |`,
    ),
    ...report.rows.flatMap(sectionOf),
    "",
  ].join("\n");
}

function sectionOf({ id, event, tests }) {
  const head = ["", `## ${id}`, "", `${event[0].toUpperCase()}${event.slice(1)}.`];
  if (tests.length === 0) return [...head, "", `${NOT_RUN}: no test of this run carries its id.`];
  return [
    ...head,
    "",
    "| test | provoked by | checked | result | s |",
    "|---|---|---|---|---:|",
    ...tests.map((test) => {
      const hits = test.hits.map(({ fault, evidence }) => `\`${fault}\` at ${evidence}`);
      const result = test.why ? `${test.result}: ${test.why}` : test.result;
      return `| ${[`${test.title} (${test.file})`, hits.join("; "), test.checks.join("; "), result, test.seconds].map(cell).join(" | ")} |`;
    }),
  ];
}

function hitsOf(tests) {
  return tests.reduce((sum, { hits }) => sum + hits.length, 0);
}

function cell(value) {
  return String(value).replaceAll("|", "\\|").replaceAll("\n", " ");
}

/** Without the colours of a terminal. */
function firstLine(text = "") {
  return stripVTControlCharacters(text).split("\n")[0].slice(0, 200);
}
