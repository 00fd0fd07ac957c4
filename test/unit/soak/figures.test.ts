import { describe, expect, test } from "vitest";

import { noCounts } from "../../soak/counts.ts";
import { type Figures, faultsOf, table } from "../../soak/figures.ts";
import { FAULT_KINDS } from "../../soak/schedule.ts";

const everyKind = (hit: number) =>
  Object.fromEntries(
    FAULT_KINDS.map((kind) => [kind, { planned: 2, carriedOut: 2, hit }]),
  ) as unknown as Figures["faults"];

const GOOD: Figures = {
  seed: 7,
  minutes: 3,
  seconds: 181,
  faults: everyKind(1),
  records: 45_000,
  duplicates: 2_000,
  late: 400,
  poison: 200,
  decisions: 40_000,
  orders: 20_000,
  publishedByRelay: 20_000,
  commits: 30_000,
  counts: { ...noCounts(), takeovers: 30, redoPublished: 5, fenced: 4 },
  instancesStarted: 12,
  longestPause: { ms: 9_000, key: "BTC-USD", during: ["brokerKill"] },
  pauseMs: { p50: 12, p99: 800 },
  pausesOf: 40_000,
  lagMax: 3_000,
  secondsToLagZero: 2.5,
  memoryMb: 600,
  lost: 0,
  doubled: 0,
  outOfOrder: 0,
  auditClean: true,
  findings: [],
  reader: "a consumer",
  drained: true,
};

describe("a soak", () => {
  test("in which everything hit and nothing is missing has no faults", () => {
    expect(faultsOf(GOOD)).toEqual([]);
  });

  test.each<[Partial<Figures>, RegExp]>([
    [{ lost: 1 }, /^lost is 1$/],
    [{ doubled: 2 }, /^doubled is 2$/],
    [{ outOfOrder: 3 }, /^outOfOrder is 3$/],
    [{ auditClean: false, findings: ["mismatch: x (y)"] }, /audit is not clean: mismatch: x/],
    [{ secondsToLagZero: null }, /lag was not 0 within/],
    [{ drained: false }, /did not drain/],
    [
      { faults: { ...GOOD.faults, longPause: { planned: 2, carriedOut: 2, hit: 0 } } },
      /no fault of kind longPause had its effect \(2 were carried out\)/,
    ],
    [{ poison: 0 }, /poison is 0/],
    [{ counts: { ...GOOD.counts, redoPublished: 0 } }, /no commit was published from redo/],
    [{ counts: { ...GOOD.counts, takeovers: 0 } }, /no shard was taken over/],
    [{ counts: { ...GOOD.counts, fenced: 0 } }, /no owner was fenced/],
    [{ pausesOf: 39_999 }, /pauses were measured on 39999 of 40000 decisions/],
  ])("with %o fails, and says so", (change, sentence) => {
    expect(faultsOf({ ...GOOD, ...change })).toEqual([expect.stringMatching(sentence)]);
  });

  test("is shown as a table with every kind of fault and the three zeros", () => {
    const text = table(GOOD);
    for (const name of [...FAULT_KINDS, "lost", "doubled", "outOfOrder"]) expect(text).toContain(name);
    expect(text).toContain("9000 ms (BTC-USD, during brokerKill)");
  });
});
