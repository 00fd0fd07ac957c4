/**
 * Files stay small enough to be one idea.
 */
import { describe, expect, test } from "vitest";

import { filesOf, type SourceFile } from "./source-files.ts";

/** Most files have 50 to 250 lines; beyond this one it is split by the phases of what it does. */
const LINES_MAX = 400;

function lengthFaults(file: SourceFile): string[] {
  const lines = file.text.split("\n").length - (file.text.endsWith("\n") ? 1 : 0);
  return lines > LINES_MAX ? [`${file.path} has ${lines} lines, more than ${LINES_MAX}`] : [];
}

test("no source file is longer than 400 lines", () => {
  expect(filesOf("src", ".ts").flatMap(lengthFaults)).toEqual([]);
});

describe("the check finds", () => {
  test.each([
    [LINES_MAX, 0],
    [LINES_MAX + 1, 1],
  ])("in a file of %i lines %i faults", (lines, faults) => {
    expect(lengthFaults({ path: "src/a.ts", text: "x;\n".repeat(lines) })).toHaveLength(faults);
  });
});
