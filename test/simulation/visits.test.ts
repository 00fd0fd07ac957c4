/** The visits app under every fault, seed by seed. */
import { expect, test } from "vitest";

import { FAULT_KINDS } from "../../src/testing/index.ts";
import { isWanted, runSeeds } from "./seeds.ts";

test.skipIf(!isWanted("visits"))("SI2: every seed ends with all input taken, once and in order", async () => {
  const run = await runSeeds("visits");
  // A fault that never happened proves nothing.
  if (run.seeds >= 500) expect(FAULT_KINDS.filter((kind) => !((run.injected[kind] ?? 0) > 0))).toEqual([]);
});
