/**
 * `npm run test:debezium`: the tests of ops/debezium on a real Kafka, Postgres and Kafka Connect, and a table of what they
 * found at the end.
 *
 *   npm run test:debezium -- [--json] [<what vitest takes: files, -t name>...]
 *
 * With --json the summary alone is on stdout, the tests' own output on stderr. Exit code 0 when all passed.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const COLUMNS = ["test", "rows", "seconds", "kills", "lost", "doubled", "outOfOrder", "differing"];

const given = process.argv.slice(2);
if (given.includes("--help")) {
  console.log("npm run test:debezium -- [--json] [files or options of vitest]");
  process.exit(0);
}
const json = given.includes("--json");
const root = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "lockstep-figures-"));
const figuresFile = join(folder, "figures.jsonl");

const vitest = join(dirname(createRequire(import.meta.url).resolve("vitest/package.json")), "vitest.mjs");
const args = [vitest, "run", "--project", "debezium", ...given.filter((each) => each !== "--json")];
const { status, error } = spawnSync(process.execPath, args, {
  cwd: root,
  env: { ...process.env, TEST_FIGURES: figuresFile },
  stdio: ["ignore", json ? process.stderr.fd : "inherit", "inherit"],
});
if (error !== undefined) throw error;

const tests = existsSync(figuresFile)
  ? readFileSync(figuresFile, "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line))
  : [];
rmSync(folder, { recursive: true, force: true });
const passed = status === 0;
if (json) console.log(JSON.stringify({ passed, tests }));
else if (tests.length > 0)
  console.log(`\n${table([COLUMNS, ...tests.map((each) => COLUMNS.map((name) => String(each[name] ?? "")))])}\n`);
process.exit(passed ? 0 : 1);

/** The first column to the left, numbers to the right. */
function table(rows) {
  const widths = COLUMNS.map((_, index) => Math.max(...rows.map((row) => row[index].length)));
  return rows
    .map((row) =>
      row.map((cell, index) => (index === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[index]))).join("  "),
    )
    .join("\n");
}
