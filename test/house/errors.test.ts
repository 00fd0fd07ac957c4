/**
 * docs/errors.md lists every code of src/errors.ts, with its remedy, a cause and a cure, and no other.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

import { ERROR_CODES } from "../../src/errors.ts";
import { ROOT } from "./source-files.ts";

/** Rows of the form | `CODE` | remedy | cause | cure | */
function errorDocFaults(codes: Readonly<Record<string, string>>, markdown: string): string[] {
  const rows = markdown
    .split("\n")
    .filter((line) => /^\|\s*`[A-Z_]+`/.test(line))
    .map((line) =>
      line
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
  const listed = rows.map(([code]) => code!.replaceAll("`", ""));
  const faults = rows.flatMap(([code, remedy, cause, cure, ...more], index) => {
    const name = listed[index]!;
    if (codes[name] === undefined) return [`${code} is listed, but is no code`];
    if (listed.indexOf(name) !== index) return [`${code} is listed twice`];
    if (codes[name] !== remedy) return [`${code} has the remedy ${codes[name]}, the list says ${remedy}`];
    return cause && cure && more.length === 0 ? [] : [`${code} wants a cause and a cure`];
  });
  const absent = Object.keys(codes).filter((code) => !listed.includes(code));
  return [...faults, ...absent.map((code) => `\`${code}\` is not listed`)];
}

describe("docs/errors.md", () => {
  test("has every error code, with its remedy, its cause and its cure", () => {
    expect(errorDocFaults(ERROR_CODES, readFileSync(join(ROOT, "docs/errors.md"), "utf8"))).toEqual([]);
  });
});

describe("the check finds", () => {
  const codes = { A_B: "stop", C_D: "halt" };
  const good = "| `A_B` | stop | why | how |\n| `C_D` | halt | why | how |";
  test("nothing wrong in a good list", () => expect(errorDocFaults(codes, good)).toEqual([]));
  test.each([
    ["a code that is not listed", good.split("\n")[0]!],
    ["a listed one that is no code", `${good}\n| \`E_F\` | stop | why | how |`],
    ["another remedy", good.replace("halt", "retry")],
    ["a code listed twice", `${good}\n| \`C_D\` | halt | why | how |`],
    ["a missing cure", good.replace("| why | how |", "| why | |")],
  ])("%s", (_what, markdown) => expect(errorDocFaults(codes, markdown)).toHaveLength(1));
});
