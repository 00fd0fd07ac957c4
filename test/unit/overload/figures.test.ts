/** When a run of the overload test has shown what it should. */
import { describe, expect, test } from "vitest";

import { type Figures, faultsOf, median, ratioOf, table } from "../../overload/figures.ts";

const GOOD: Figures = {
  seconds: 60,
  delayMs: 200,
  capacityPerSecond: 1_000,
  wantedPerSecond: 4_000,
  offeredPerSecond: 3_990,
  committedPerSecond: 1_100,
  steadyPerSecond: 500,
  steadyLag: 900,
  steadyMb: 300,
  steadySeconds: 50,
  atRest: true,
  peakMb: 450,
  lagMax: 174_000,
  secondsToLagZero: 120,
  drainedPerSecond: 1_450,
  records: 400_000,
  lost: 0,
  doubled: 0,
  outOfOrder: 0,
  auditClean: true,
  findings: [],
  drained: true,
};

describe("an overload", () => {
  test("is passed at the very limits", () => {
    expect(faultsOf(GOOD)).toEqual([]);
    expect(ratioOf(GOOD)).toBe(1.5);
  });

  test.each<[Partial<Figures>, RegExp]>([
    [{ offeredPerSecond: 3_700 }, /only 3700 records\/s were offered, 4000 were wanted/],
    [
      { capacityPerSecond: 0, wantedPerSecond: 0, offeredPerSecond: 0, committedPerSecond: 0 },
      /no capacity was measured/,
    ],
    [{ committedPerSecond: 1_996 }, /no overload: 3990 records\/s were offered and 1996 committed/],
    [{ peakMb: 456 }, /memory rose to 456 MB, 1\.52 times the 300 MB/],
    [{ steadyLag: 5_001 }, /at half its capacity \(500 records\/s\) it did not keep up: 5001 records/],
    [{ atRest: false, steadySeconds: 120 }, /memory still rose after 120 s/],
    [{ steadyMb: 0 }, /cannot be read here/],
    [{ secondsToLagZero: 120.1 }, /0 only after 120\.1 s; 120 s are allowed/],
    [{ lost: 1 }, /^lost is 1$/],
    [{ doubled: 2 }, /^doubled is 2$/],
    [{ outOfOrder: 3 }, /^outOfOrder is 3$/],
    [{ auditClean: false, findings: ["lost: one"] }, /the audit is not clean: lost: one/],
    [{ drained: false }, /did not drain and exit with 0/],
  ])("is failed by %j", (change, fault) => {
    const faults = faultsOf({ ...GOOD, ...change });
    expect(faults.some((each) => fault.test(each))).toBe(true);
  });

  test("is shown with every figure that is judged", () => {
    const shown = table(GOOD);
    for (const text of ["400 ms", "1000 records/s", "3990 records/s for 60 s", "450 MB (x 1.5", "120 s (at most 120)"])
      expect(shown).toContain(text);
  });
});

test("the median of samples", () => {
  expect(median([5, 1, 3])).toBe(3);
  expect(median([])).toBe(0);
});
