/** Snapshots that were damaged in the database. What every ShardStore does with snapshots is in shard-store.ts. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { type Fixture, openFixture } from "./fixture.ts";
import { commitUpTo, snapshot } from "./shard-store.ts";

let fixture: Fixture;
beforeAll(async () => {
  fixture = await openFixture();
});
afterAll(() => fixture.close());

describe("a snapshot", () => {
  const damages: ReadonlyArray<readonly [what: string, statement: string]> = [
    ["a changed byte", "UPDATE lockstep.snapshot_piece SET data = set_byte(data, 0, 1) WHERE shard = $1 AND piece = 1"],
    ["a shorter piece", "UPDATE lockstep.snapshot_piece SET data = substr(data, 2) WHERE shard = $1 AND piece = 0"],
    ["a missing piece", "DELETE FROM lockstep.snapshot_piece WHERE shard = $1 AND piece = 1"],
    ["a missing manifest", "DELETE FROM lockstep.snapshot WHERE shard = $1"],
  ];
  it.each(damages)("S-whole: %s is SNAPSHOT_BROKEN", async (_what, statement) => {
    const { store, pool, freshShard } = fixture;
    const ownership = await freshShard();
    await commitUpTo(store, ownership, 1, 1);
    await snapshot(store, ownership, 1);
    expect((await pool.query(statement, [ownership.shard])).rowCount).toBe(1);
    await expect(store.loadSnapshot(ownership.shard)).rejects.toMatchObject({
      code: "SNAPSHOT_BROKEN",
      remedy: "halt",
    });
  });
});
