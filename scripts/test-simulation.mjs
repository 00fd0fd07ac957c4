/**
 * `npm run test:simulation`: the real runtime over Kafka, Postgres, clock and network in memory, driven by seeds, with what was
 * injected and what came of it as a table at the end.
 *
 * With --json the summary alone is on stdout, the tests' own output on stderr. Exit code 0 when every seed passed.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = fileURLToPath(new URL("..", import.meta.url));
/** An app, a test file. */
const APPS = readdirSync(join(root, "test/simulation"))
  .filter((name) => name.endsWith(".test.ts"))
  .map((name) => name.slice(0, -".test.ts".length))
  .sort();
const WHOLE = ["seeds", "from", "seconds", "seed", "parts"];

const HELP = `npm run test:simulation -- [options]

  --seeds <n>     seeds of each app (default 1000)
  --from <n>      the first seed (default 1)
  --seconds <n>   an app begins no further seed after so long (default 150)
  --app <name>    this app alone: ${APPS.slice(0, -1).join(", ")} or ${APPS.at(-1)}
  --parts <n>     processes that share the seeds of each app (default: as many as the machine has cores)
  --seed <n>      this seed alone; its trace is written to .lockstep/simulation
  --json          the summary as one JSON object on stdout`;

/** From so many seeds on, each kind of fault must have taken effect: one that never happened proves nothing. */
const SEEDS_FOR_EVERY_FAULT = 500;

const { values } = parse();
if (values.help) {
  console.log(HELP);
  process.exit(0);
}
const folder = mkdtempSync(join(tmpdir(), "lockstep-figures-"));
const figuresFile = join(folder, "figures.jsonl");
const given = Object.fromEntries(
  [...WHOLE, "app"]
    .filter((name) => values[name] !== undefined)
    .map((name) => [`SIMULATION_${name.toUpperCase()}`, values[name]]),
);
const vitest = join(dirname(createRequire(import.meta.url).resolve("vitest/package.json")), "vitest.mjs");
const { status, error } = spawnSync(process.execPath, [vitest, "run", "--project", "simulation*"], {
  cwd: root,
  env: { ...process.env, ...given, TEST_FIGURES: figuresFile },
  stdio: ["ignore", values.json ? process.stderr.fd : "inherit", "inherit"],
});
if (error !== undefined) throw error;
const parts = existsSync(figuresFile)
  ? readFileSync(figuresFile, "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line))
  : [];
rmSync(folder, { recursive: true, force: true });
const runs = [...new Set(parts.map(({ app }) => app))]
  .sort()
  .map((app) => united(parts.filter((one) => one.app === app)));
const missing = runs
  .filter(({ seeds }) => seeds >= SEEDS_FOR_EVERY_FAULT)
  .flatMap(({ app, seeds, injected }) => {
    const kinds = Object.keys(injected).filter((kind) => injected[kind] === 0);
    return kinds.map((kind) => `In ${seeds} seeds of ${app} this fault never took effect: ${kind}.`);
  });
const passed = status === 0 && runs.length > 0 && missing.length === 0;
if (values.json) console.log(JSON.stringify({ passed, missing, runs }));
else if (runs.length > 0) console.log(`\n${tables(runs)}\n`);
for (const each of missing) console.error(each);
process.exit(passed ? 0 : 1);

/** The parts of one app, added up; `seconds` are those of the longest. */
function united([first, ...others]) {
  return others.reduce(
    (sum, part) => ({
      app: sum.app,
      seeds: sum.seeds + part.seeds,
      failed: [...sum.failed, ...part.failed],
      faults: [...sum.faults, ...part.faults],
      seconds: Math.max(sum.seconds, part.seconds),
      virtualSeconds: sum.virtualSeconds + part.virtualSeconds,
      steps: sum.steps + part.steps,
      figures: added(sum.figures, part.figures),
      injected: added(sum.injected, part.injected),
      events: added(sum.events, part.events),
    }),
    first,
  );
}

function added(a, b) {
  const names = [...new Set([...Object.keys(a), ...Object.keys(b)])];
  return Object.fromEntries(names.map((name) => [name, (a[name] ?? 0) + (b[name] ?? 0)]));
}

function parse() {
  try {
    const parsed = parseArgs({
      options: {
        seeds: { type: "string" },
        from: { type: "string" },
        seconds: { type: "string" },
        app: { type: "string" },
        parts: { type: "string", default: String(availableParallelism()) },
        seed: { type: "string" },
        json: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    });
    const { app } = parsed.values;
    if (app !== undefined && !APPS.includes(app)) throw new Error(`--app is one of ${APPS.join(", ")}, not "${app}"`);
    for (const name of WHOLE) {
      const value = parsed.values[name];
      if (value !== undefined && !/^[1-9]\d{0,8}$/.test(value))
        throw new Error(`--${name} is a whole number of 1 or more, not "${value}"`);
    }
    if (parsed.values.seed !== undefined) parsed.values.parts = "1";
    return parsed;
  } catch (error) {
    console.error(`${error.message}\n\n${HELP}`);
    process.exit(2);
  }
}

function tables(runs) {
  const names = runs.map(({ app }) => app);
  const rows = (title, of) => {
    const keys = [...new Set(runs.flatMap((run) => Object.keys(of(run))))].sort();
    return [
      [title, ...names.map(() => "")],
      ...keys.map((key) => [`  ${key}`, ...runs.map((run) => of(run)[key] ?? 0)]),
    ];
  };
  const sizes = [
    ["", ...names],
    ["seeds", ...runs.map((run) => run.seeds)],
    ["failed", ...runs.map((run) => (run.failed.length === 0 ? 0 : run.failed.join(" ")))],
    ["seconds", ...runs.map((run) => Math.round(run.seconds))],
    ["virtual seconds", ...runs.map((run) => Math.round(run.virtualSeconds))],
    ["steps", ...runs.map((run) => run.steps)],
  ];
  return table([
    ...sizes,
    ...rows("outcome", (run) => run.figures),
    ...rows("faults injected", (run) => run.injected),
    ...rows("changes of shards' lives", (run) => run.events),
  ]);
}

/** The first column to the left, the others to the right. */
function table(rows) {
  const texts = rows.map((row) => row.map((cell) => (typeof cell === "number" ? cell.toLocaleString("en") : cell)));
  const widths = texts[0].map((_, index) => Math.max(...texts.map((row) => row[index].length)));
  return texts
    .map((row) =>
      row.map((cell, index) => (index === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[index]))).join("  "),
    )
    .join("\n");
}
