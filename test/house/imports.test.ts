/**
 * The direction of dependency:
 *
 *   main, cli -> runtime, relay -> kafka, storage, telemetry -> actors (ports)
 *             -> machines (app definitions) ------------------> actors
 *   audit -> schemas of machines only: nothing of actors, runtime or the machines themselves
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

import { codeOf, filesOf, importsOf, ROOT, type SourceFile } from "./source-files.ts";

/** A package -> the only folders that may import it. What is not listed may be imported anywhere but in the pure folders. */
const PACKAGE_OWNERS: Readonly<Record<string, readonly string[]>> = {
  kafkajs: ["src/kafka/"],
  pg: ["src/storage/"],
  piscina: ["src/runtime/"],
  pino: ["src/telemetry/"],
  "prom-client": ["src/telemetry/"],
  xstate: ["src/actors/", "src/machines/", "src/testing/"],
  commander: ["src/cli/"],
  testcontainers: ["src/stack/"],
};

/** Folder -> the folders of src that it must not import. */
const FORBIDDEN: Readonly<Record<string, readonly string[]>> = {
  actors: ["machines", "kafka", "storage", "runtime", "relay", "telemetry", "stack", "cli", "audit", "testing"],
  machines: ["kafka", "storage", "runtime", "relay", "telemetry", "stack", "cli", "audit", "testing"],
  kafka: ["machines", "storage", "runtime", "relay", "stack", "cli", "audit", "testing"],
  storage: ["machines", "kafka", "runtime", "relay", "stack", "cli", "audit", "testing"],
  telemetry: ["machines", "kafka", "storage", "runtime", "relay", "stack", "cli", "audit", "testing"],
  runtime: ["machines", "stack", "cli", "audit", "testing"],
  relay: ["machines", "runtime", "stack", "cli", "audit", "testing"],
  stack: ["actors", "machines", "kafka", "storage", "runtime", "relay", "telemetry", "cli", "audit", "testing"],
  audit: ["actors", "machines", "runtime", "relay", "stack", "cli", "testing"],
  testing: ["machines", "storage", "relay", "telemetry", "stack", "cli", "audit"],
};

/** The core: no I/O, no clock, no chance. Of Node it may use bytes and hashes. */
const PURE_PACKAGES: Readonly<Record<string, readonly string[]>> = {
  actors: ["xstate", "node:crypto", "node:buffer"],
  machines: ["xstate", "zod", "node:crypto", "node:buffer"],
};
const IMPURE =
  /\b(?:Date\.now|Math\.random|performance\.|process\.|console\.|setTimeout|setInterval|setImmediate|randomUUID|randomBytes|fetch)\b|\bnew Date\(\)/;
/** Replaces clock and chance by functions that throw, and so must name them. */
const NAMES_CHANCE = ["src/actors/chance.ts"];
/** A simulation that read a clock or chance of its own would not be the same twice. */
const SEEDED = /^src\/testing\//;
/** Waits for every promise that can go on, which only an immediate of Node does. */
const NAMES_IMMEDIATE = ["src/testing/schedule.ts"];
/** Extends XState's simulated clock, whose method has this name. */
const NAMES_TIMEOUT = ["src/testing/generated/interpreter.ts"];

/** Words of the apps besides their names: the model, the shell and the adapters know no app. */
const APP_WORDS = ["signal.1m", "signal.5m", "signal.15m", "desk", "orders", "decisions", "BTC-USD"];
const APP_FREE = [
  "src/actors/",
  "src/runtime/",
  "src/relay/",
  "src/kafka/",
  "src/storage/",
  "src/telemetry/",
  "src/stack/",
];

function importFaults(file: SourceFile): string[] {
  const folder = folderOf(file.path);
  return importsOf(file).flatMap((target) => {
    const owners = PACKAGE_OWNERS[target];
    if (owners !== undefined && !owners.some((owner) => file.path.startsWith(owner))) {
      return [`${file.path} imports ${target}, which belongs to ${owners.join(" and ")}`];
    }
    if (!target.startsWith("src/")) {
      const allowed = PURE_PACKAGES[folder];
      return allowed === undefined || allowed.includes(target)
        ? []
        : [`${file.path} imports ${target}: ${folder} is pure`];
    }
    if (folder === "audit" && /schema[^/]*\.ts$/.test(target)) return [];
    if (appOf(file.path) !== null && appOf(target) !== null && appOf(target) !== appOf(file.path)) {
      return [`${file.path} imports ${target}: an app knows only itself`];
    }
    if (!(FORBIDDEN[folder] ?? []).includes(folderOf(target))) return [];
    return [`${file.path} imports ${target}: ${folder} must not import ${folderOf(target)}`];
  });
}

function purityFaults(file: SourceFile): string[] {
  if (SEEDED.test(file.path)) {
    const code = codeOf(file).replaceAll(/\b(?:this\.)?#?process\./g, ""); // a simulated one
    const allowed = [
      ...(NAMES_IMMEDIATE.includes(file.path) ? ["setImmediate"] : []),
      ...(NAMES_TIMEOUT.includes(file.path) ? ["setTimeout"] : []),
    ];
    const chance = IMPURE.exec(allowed.reduce((text, name) => text.replaceAll(name, ""), code));
    return chance === null ? [] : [`${file.path} uses ${chance[0]}: a simulation is driven by its seed alone`];
  }
  if (PURE_PACKAGES[folderOf(file.path)] === undefined || NAMES_CHANCE.includes(file.path)) return [];
  const found = IMPURE.exec(codeOf(file));
  return found === null ? [] : [`${file.path} uses ${found[0]}: ${folderOf(file.path)} is pure`];
}

function appWordFaults(file: SourceFile, words: readonly string[]): string[] {
  if (!APP_FREE.some((folder) => file.path.startsWith(folder))) return [];
  const code = codeOf(file);
  return words
    .filter((word) => new RegExp(`(?<![\\w-])${word.replaceAll(".", "\\.")}(?![\\w-])`).test(code))
    .map((word) => `${file.path} contains "${word}", a word of an app`);
}

/**
 * "actors" of src/actors/x.ts; "" of a file right in src. Of an app's folder, `audit/` counts as audit (it holds the
 * app's rules, which must not be those of its machines), and `tools.ts`, which hands them to the command line, as cli.
 */
function folderOf(path: string): string {
  if (/^src\/machines\/[^/]+\/audit\//.test(path)) return "audit";
  if (/^src\/machines\/[^/]+\/tools\.ts$/.test(path)) return "cli";
  return /^src\/([^/]+)\//.exec(path)?.[1] ?? "";
}

function appOf(path: string): string | null {
  return /^src\/machines\/([^/]+)\//.exec(path)?.[1] ?? null;
}

const sources = filesOf("src", ".ts");
const appNames = readdirSync(join(ROOT, "src/machines"));

describe("the sources", () => {
  test("import only in the direction of dependency", () => {
    expect(sources.length).toBeGreaterThan(20);
    expect(sources.flatMap(importFaults)).toEqual([]);
  });

  test("of the core read no clock, chance, environment or log", () => {
    expect(sources.flatMap(purityFaults)).toEqual([]);
  });

  test("of the core, the shell and the adapters know no app", () => {
    expect(sources.flatMap((file) => appWordFaults(file, [...appNames, ...APP_WORDS]))).toEqual([]);
  });
});

describe("the checks find a file that", () => {
  test.each([
    ["src/runtime/a.ts", 'import { Kafka } from "kafkajs";'],
    ["src/kafka/a.ts", 'import type { Pool } from "pg";'],
    ["src/storage/a.ts", 'import {\n  x,\n} from "../kafka/b.ts";'],
    ["src/kafka/a.ts", 'const { x } = await import("../runtime/b.ts");'],
    ["src/actors/a.ts", 'import { readFile } from "node:fs/promises";'],
    ["src/actors/a.ts", 'export { x } from "../storage/b.ts";'],
    ["src/machines/bank/a.ts", 'import { desk } from "../trading/desk.ts";'],
    ["src/machines/bank/a.ts", 'import "pino";'],
    ["src/audit/a.ts", 'import { partitionFor } from "../actors/partition.ts";'],
    ["src/audit/a.ts", 'import { desk } from "../machines/trading/desk.ts";'],
    ["src/machines/trading/audit/a.ts", 'import { desk } from "../desk.ts";'],
    ["src/machines/trading/desk.ts", 'import { fold } from "./audit/fold.ts";'],
    ["src/machines/trading/tools.ts", 'import { fold } from "../bank/audit/fold.ts";'],
    ["src/stack/a.ts", 'import { x } from "../kafka/client.ts";'],
  ])("imports against it: %s %s", (path, text) => {
    expect(importFaults({ path, text })).toHaveLength(1);
  });

  test.each([
    ["src/kafka/a.ts", 'import { Kafka } from "kafkajs";\nimport type { Positions } from "../actors/record.ts";'],
    ["src/audit/a.ts", 'import { signal } from "../machines/trading/schemas.ts";'],
    [
      "src/machines/trading/audit/a.ts",
      'import { signal } from "../schemas.ts";\nimport { x } from "../../../audit/report.ts";',
    ],
    ["src/machines/trading/tools.ts", 'import { rules } from "./audit/rules.ts";'],
    ["src/runtime/a.ts", '// import { Pool } from "pg";\n/* import { desk } from "../machines/trading/desk.ts"; */'],
    ["src/machines/bank/a.ts", 'import { setup } from "xstate";\nimport { b } from "./b.ts";'],
  ])("does not: %s %s", (path, text) => {
    expect(importFaults({ path, text })).toEqual([]);
  });

  test.each([
    "Date.now()",
    "new Date()",
    "Math.random()",
    "process.env.X",
    "console.log(1)",
    "performance.now()",
    "randomUUID()",
  ])("is not pure: %s", (code) => {
    expect(purityFaults({ path: "src/machines/trading/a.ts", text: `const x = ${code};` })).toHaveLength(1);
    expect(purityFaults({ path: "src/runtime/a.ts", text: `const x = ${code};` })).toEqual([]);
    if (!code.startsWith("process.")) expect(purityFaults({ path: "src/testing/a.ts", text: code })).toHaveLength(1);
  });

  test.each(["trading", "signal.1m", "desk"])("names an app: %s", (word) => {
    const check = (text: string): string[] =>
      appWordFaults({ path: "src/storage/a.ts", text }, [...appNames, ...APP_WORDS]);
    expect(check(`const topic = "${word}";`)).toHaveLength(1);
    expect(check(`/** Such as ${word}. */ const topic = "x-${word}s";`)).toEqual([]);
  });
});
