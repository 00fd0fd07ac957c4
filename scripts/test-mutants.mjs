/**
 * `npm run test:mutants`: rules of the protocol, broken one by one in a copy of the code as the model check breaks them in its model; the
 * simulation must find each. Prints a table: mutant, the seeds it took, what was found.
 *
 * With --json the summary alone is on stdout, the tests' own output on stderr. Exit code 0 when every mutant was found, and the same seeds
 * pass without one.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const HELP = `npm run test:mutants -- [options]

  --name <text>   mutants whose name contains it, as "EndTxn" (and no control: it needs all of them)
  --seconds <n>   a mutant begins no further seed after so long (default 300)
  --json          the summary as one JSON object on stdout

Exit code: 0 when every mutant was found and the same seeds pass without one, 1 when not, 2 for a wrong call.`;

const values = parse();
if (values.help) {
  console.log(HELP);
  process.exit(0);
}
const folder = mkdtempSync(join(tmpdir(), "lockstep-figures-"));
const figuresFile = join(folder, "figures.jsonl");
const vitest = join(dirname(createRequire(import.meta.url).resolve("vitest/package.json")), "vitest.mjs");
const only = values.name === undefined ? [] : ["-t", `M2: the simulation finds.*${quoted(values.name)}`];
const { status, error } = spawnSync(process.execPath, [vitest, "run", "--project", "mutants", ...only], {
  cwd: fileURLToPath(new URL("..", import.meta.url)),
  env: {
    ...process.env,
    ...(values.seconds === undefined ? {} : { MUTANTS_SECONDS: values.seconds }),
    TEST_FIGURES: figuresFile,
  },
  stdio: ["ignore", values.json ? process.stderr.fd : "inherit", "inherit"],
});
if (error !== undefined) throw error;
const notes = existsSync(figuresFile)
  ? readFileSync(figuresFile, "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line))
  : [];
rmSync(folder, { recursive: true, force: true });
const mutants = notes.filter((one) => one.mutant !== undefined);
const controls = notes.filter((one) => one.control !== undefined);
if (mutants.length === 0) console.error("No mutant was run: no name contains what --name says, or the run broke off.");
const passed = status === 0 && mutants.length > 0;
if (values.json) console.log(JSON.stringify({ passed, mutants, controls }));
else if (mutants.length > 0) console.log(`\n${table()}\n`);
process.exit(passed ? 0 : 1);

function parse() {
  try {
    const { values: given } = parseArgs({
      options: {
        name: { type: "string" },
        seconds: { type: "string" },
        json: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    });
    if (given.seconds !== undefined && !(Number(given.seconds) > 0))
      throw new Error("--seconds takes a number above 0");
    return given;
  } catch (error) {
    console.error(`${error.message}\n\n${HELP}`);
    process.exit(2);
  }
}

function quoted(text) {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

function table() {
  const rows = [
    ["model", "mutant", "simulation", "seeds", "finding"],
    ...mutants.map(({ model, mutant, app, seeds, seed, finding, faults }) => [
      model,
      mutant,
      app,
      String(seeds),
      seed === null ? "NOT FOUND" : (finding ?? faults[0] ?? "nothing that is named"),
    ]),
    ...controls.map(({ control, seeds, failed }) => [
      "",
      "control: no mutant",
      control,
      String(seeds),
      failed.length === 0 ? "passed" : `FAILED: seed ${failed.join(", ")}`,
    ]),
  ];
  const widths = rows[0].map((_, index) => Math.max(...rows.map((row) => row[index].length)));
  return rows
    .map((row) =>
      row
        .map((cell, i) => (i === 3 ? cell.padStart(widths[i]) : cell.padEnd(widths[i])))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
