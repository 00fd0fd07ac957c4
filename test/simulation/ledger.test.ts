/** The ledger app under every fault, seed by seed. */
import { expect, test } from "vitest";

import { FAULT_KINDS } from "../../src/testing/index.ts";
import { isWanted, runSeeds } from "./seeds.ts";

test.skipIf(!isWanted("ledger"))("SI2: every seed ends with all input taken, once and in order", async () => {
  const run = await runSeeds("ledger");
  // A fault that never happened proves nothing.
  if (run.seeds >= 500) expect(FAULT_KINDS.filter((kind) => !((run.injected[kind] ?? 0) > 0))).toEqual([]);
});
