/** Seeds of each app, few enough for every run of the unit tests. `npm run test:simulation` has thousands. */
import { expect, test } from "vitest";

import { createRandom } from "../../../src/testing/random.ts";
import { SIMULATED } from "../../simulation/apps.ts";
import { runSeed } from "../../simulation/seeds.ts";

test.each(Object.keys(SIMULATED))(
  "SI1, SI2: %s ends well under faults, and the same seed is the same run",
  async (app) => {
    const hashes = new Set<string>();
    for (let seed = 1; seed <= 4; seed += 1) {
      const first = await runSeed(app, seed);
      const second = await runSeed(app, seed);
      expect(first.faults, `seed ${seed}`).toEqual([]);
      expect(first.figures.taken).toBeGreaterThan(0);
      expect(second.trace, `seed ${seed}`).toEqual(first.trace);
      expect(second.hash, `seed ${seed}`).toBe(first.hash);
      hashes.add(first.hash);
    }
    expect(hashes.size).toBe(4);
  },
);

test("chance of a seed is the same everywhere, and of a fork its own", () => {
  const random = createRandom(42);
  const fork = random.fork("a");
  const drawn = Array.from({ length: 3 }, () => random.between(0, 999));
  expect(drawn).toEqual(
    Array.from(
      { length: 3 },
      (
        (again) => () =>
          again.between(0, 999)
      )(createRandom(42)),
    ),
  );
  expect(fork.uuid()).toBe(createRandom(42).fork("a").uuid());
  expect(fork.uuid()).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});
