/** When memory counts as at rest. */
import { expect, test } from "vitest";

import { Rest, WINDOW_MS } from "../../overload/rest.ts";

/** Windows of four samples around each value, and one that has just begun. */
function restOf(...medians: number[]): Rest {
  const rest = new Rest();
  for (const [window, value] of [...medians, 0].entries())
    for (const [n, breath] of [0.9, 1, 1, 1.1].entries()) rest.add(value * breath, (window + n / 4) * WINDOW_MS);
  return rest;
}

test.each<[number[], boolean]>([
  [[], false],
  [[100, 100, 100], false],
  [[100, 100, 100, 100], true],
  [[60, 100, 102, 101], true],
  [[60, 90, 100, 101], false],
  [[60, 90, 100, 101, 102], true],
  [[60, 90, 100, 103, 100], false],
  [[100, 103, 106, 109, 112, 115], false],
  [[100, 110, 90, 91], true],
])("windows of %j are at rest: %s", (medians, expected) => {
  expect(restOf(...medians).isReached).toBe(expected);
});

test("memory at rest is the greater of the two latest windows that are over", () => {
  expect(restOf(60, 90, 100, 102, 101).bytes).toBe(102);
  expect(new Rest().bytes).toBe(0);
});
