/**
 * Every invariant that a module's header names is named by a test.
 *
 * In a header, below the line "Invariants", one a line:      S1  The pointer never moves to a lower seq.
 * In the name of a test, before a colon, one or several:     "S1, S2: a fenced owner cannot overwrite a newer snapshot"
 *
 * An id belongs to its folder of src: two folders may use the same one, two files of one folder may not. It is named by a test of
 * that folder (test/unit/kafka/ for src/kafka/), or by one of the whole system, which lies in no folder (test/fault/).
 */
import { describe, expect, test } from "vitest";

import { filesOf, type SourceFile } from "./source-files.ts";

/** S1, J-run, A-nothing-else. */
const ID = "[A-Z][A-Z0-9]*(?:-[a-z]+)*";

/** Folders in which the rule holds; elsewhere what is missing is reported. A folder is added when its list is empty. */
const HELD = ["src/audit/", "src/kafka/", "src/machines/", "src/relay/", "src/runtime/", "src/stack/", "src/testing/"];

/** What a held folder still owes: reported too, and taken from this list when its test has the name. */
const OWED = ["src/kafka/transactional-writer.ts: no test names T1"];

interface Invariant {
  readonly id: string;
  readonly path: string;
}

function invariantsOf(file: SourceFile): Invariant[] {
  const header = /^\s*\/\*\*[\s\S]*?\*\//.exec(file.text)?.[0] ?? "";
  const block = /\n \* Invariants\n([\s\S]*?)(?:\n \*\n|\n \*\/)/.exec(header)?.[1] ?? "";
  return [...block.matchAll(new RegExp(`^ \\* {3}(${ID}) {1,}\\S`, "gm"))].map(([, id]) => ({
    id: id!,
    path: file.path,
  }));
}

/** Also names in the tables of `test.each`, which are strings of the same form. */
function idsNamedBy(tests: readonly SourceFile[]): Set<string> {
  const names = tests.flatMap((file) => [...file.text.matchAll(new RegExp(`["'\`](${ID}(?:, ${ID})*): `, "g"))]);
  return new Set(names.flatMap(([, ids]) => ids!.split(", ")));
}

/** src/kafka/sender.ts and test/unit/kafka/sender.test.ts: "kafka"; null for what lies in no folder. */
function sourceFolder(path: string): string | null {
  return /^src\/([^/]+)\//.exec(path)?.[1] ?? null;
}
function testFolder(path: string): string | null {
  return /^test\/[^/]+\/([^/]+)\//.exec(path)?.[1] ?? null;
}

function untested(sources: readonly SourceFile[], tests: readonly SourceFile[]): string[] {
  return sources.flatMap((source) => {
    const folder = sourceFolder(source.path);
    const named = idsNamedBy(tests.filter(({ path }) => [null, folder].includes(testFolder(path))));
    return invariantsOf(source)
      .filter(({ id }) => !named.has(id))
      .map(({ id, path }) => `${path}: no test names ${id}`);
  });
}

function ambiguous(sources: readonly SourceFile[]): string[] {
  const first = new Map<string, string>();
  return sources.flatMap(invariantsOf).flatMap(({ id, path }) => {
    const name = `${sourceFolder(path)}/${id}`;
    const other = first.get(name);
    first.set(name, other ?? path);
    return other === undefined ? [] : [`${path}: ${id} is ${other}'s`];
  });
}

test("every invariant in a header is in the name of a test", () => {
  // A contract is a module of its own, run over every implementation.
  const faults = untested(filesOf("src", ".ts"), [...filesOf("test", ".test.ts"), ...filesOf("test/contract", ".ts")]);
  const owed = faults.filter((fault) => OWED.includes(fault) || !HELD.some((folder) => fault.startsWith(folder)));
  if (owed.length > 0) console.warn(`invariants without a test of that name:\n  ${owed.join("\n  ")}`);
  expect(faults.filter((fault) => !owed.includes(fault))).toEqual([]);
});

test("no two files of one folder use the same id", () => {
  expect(ambiguous(filesOf("src", ".ts"))).toEqual([]);
});

test("the check finds an invariant that no test names, and only that", () => {
  const text =
    "/**\n * Shards.\n *\n * Invariants\n *   S1  One.\n *   S2  Two,\n *       over two lines.\n *   J-run   Three.\n *\n *   S9  Prose.\n */\n";
  const tests = [{ path: "test/a.test.ts", text: 'test("S1, J-run: it holds", () => {}); // S2: not a name' }];
  expect(untested([{ path: "src/a.ts", text }], tests)).toEqual(["src/a.ts: no test names S2"]);
});

describe("with two folders that use one id, the check", () => {
  const text = "/**\n * Shards.\n *\n * Invariants\n *   S1  One.\n */\n";
  const source = (path: string) => ({ path, text });
  const named = (path: string) => ({ path, text: 'test("S1: it holds", () => {});' });

  test("wants each to be named by a test of its own, or by one of the whole system", () => {
    const sources = [source("src/a/x.ts"), source("src/b/y.ts")];
    expect(untested(sources, [named("test/unit/a/x.test.ts")])).toEqual(["src/b/y.ts: no test names S1"]);
    expect(untested(sources, [named("test/fault/all.test.ts")])).toEqual([]);
  });

  test("allows it, and finds it within one folder", () => {
    expect(ambiguous([source("src/a/x.ts"), source("src/b/y.ts")])).toEqual([]);
    expect(ambiguous([source("src/a/x.ts"), source("src/a/y.ts")])).toEqual(["src/a/y.ts: S1 is src/a/x.ts's"]);
  });
});
