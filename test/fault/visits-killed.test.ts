/**
 * The kill rows of the crash table on a second app: another domain, one input, timers, no outbox. And J2, which needs timers: a commit
 * that took no record and publishes all the same.
 */
import { afterAll, beforeAll, describe, expect } from "vitest";

import { partitionFor } from "../../src/actors/partition.ts";
import { FaultBed } from "../support/fault-bed.ts";
import {
  expectAuditClean,
  expectNotCommitted,
  expectRedoPublished,
  longTest,
  orphanedPieces,
} from "../support/fault-rows.ts";
import { Victim } from "../support/fault-victim.ts";
import { type Deployment, withDeployment } from "../support/harness.ts";
import { recordCheck } from "../support/proof.ts";

/** A visit without a ping ends after so long: test/support/apps/visits/machines.ts. */
const STAY_MS = 30_000;

/** Some 250 bytes each in a snapshot, whose pieces have 512 KiB. */
const VISITORS = 6_000;

longTest("J2: a commit of a tick alone, which publishes, killed after COMMIT: redo is published once", async () => {
  await withDeployment({ app: "visits" }, async (deployment) => {
    const beganAt = Date.now() - 60_000;
    deployment.start("steady");
    await deployment.untilRunning();
    await enter(deployment, 0, beganAt);
    await deployment.untilDrained();

    // Its first commit of each shard takes the record that brings stream time to half a second before the time-out.
    const victim = new Victim(deployment, { name: "victim", points: "pg.committed:2:kill" });
    await deployment.untilEvent("running", { process: victim.name });
    await deployment.untilRunning();
    await enter(deployment, 1, beganAt + STAY_MS - 500);
    const { shard } = await victim.untilKilled();
    const seq = victim.seqUnderWay(shard);
    await deployment.untilRunning();

    const [row] = await deployment.query<{ entries: unknown[][]; taken: number }>(
      "SELECT body->'entries' AS entries, taken FROM lockstep.journal WHERE shard = $1 AND seq = $2",
      [shard, seq],
    );
    expect(row).toEqual({ entries: [["t", expect.any(Number), 1]], taken: 0 });
    expect(deployment.eventsOf("redo-published", "steady").filter((line) => line.shard === shard)).toMatchObject([
      { from: seq, to: seq, records: 1 },
    ]);
    recordCheck("the commit was a tick alone, and its one record was published from redo, once");
    await deployment.untilDrained();
    await deployment.stopAll();
    await expectAuditClean(deployment);
  });
});

longTest(
  "S1: killed between two pieces of a snapshot of several: the older one is used, the piece is pruned",
  async () => {
    await withDeployment({ app: "visits", env: { LOCKSTEP_IDLE_MS: "3600000" } }, async (deployment) => {
      const at = Date.now() - 60_000;
      await deployment.send(visitorsOf(0, VISITORS, deployment.shardCount).map((visitor) => entering(visitor, at)));
      deployment.start("older");
      await deployment.untilRunning();
      await deployment.untilDrained();
      await deployment.stop("older");
      const [older] = await snapshotsOf(deployment, 0);
      expect(older!.pieces).toBeGreaterThan(1);

      await enter(deployment, 0, at);
      const victim = new Victim(deployment, {
        name: "victim",
        points: "snapshot.piece:1:kill@0",
        env: { LOCKSTEP_SNAPSHOT_COMMITS: "1" },
      });
      const hit = await victim.untilKilled();
      expect(await orphanedPieces(deployment, hit.shard)).toBe(1);
      recordCheck(`one piece is left of a snapshot; the older one, of ${older!.pieces}, is the published one`);
      expect(await snapshotsOf(deployment, 0)).toEqual([older]);

      deployment.start("next", { env: { LOCKSTEP_SNAPSHOT_COMMITS: "1" } });
      await deployment.untilRunning();
      expect(deployment.eventsOf("replaying", "next").filter(({ shard }) => shard === 0)).toMatchObject([
        { from: older!.seq },
      ]);
      recordCheck("the next owner replays from the older snapshot");
      await enter(deployment, 1, at);
      await deployment.untilDrained();
      await deployment.stopAll();
      expect((await snapshotsOf(deployment, 0))[0]!.seq).toBeGreaterThan(older!.seq);
      expect(await orphanedPieces(deployment, 0)).toBe(0);
      recordCheck("the left piece is gone when the next snapshot is published");
      await expectAuditClean(deployment);
    });
  },
);

describe("under load", () => {
  let bed: FaultBed;

  beforeAll(async () => {
    bed = await FaultBed.open({ app: "visits" });
  });

  afterAll(async () => {
    await bed?.finish();
  });

  longTest("C3: visits, killed inside the Postgres transaction: nothing of the commit is there", async () => {
    expectNotCommitted(bed, await bed.killAt("pg.before-commit:3:kill"));
    await bed.expectClean();
  });

  longTest("C5: visits, killed after COMMIT, before Kafka: redo is published once", async () => {
    expectRedoPublished(bed, await bed.killAt("pg.committed:3:kill"));
    await bed.expectClean();
  });

  longTest("C8: visits, killed when the offsets were pending: redo is published once", async () => {
    expectRedoPublished(bed, await bed.killAt("kafka.offsets-sent:3:kill"));
    await bed.expectClean();
  });
});

/** One visitor enters in every shard; `nth` tells apart those of several calls. */
async function enter(deployment: Deployment, nth: number, at: number): Promise<void> {
  const { shardCount } = deployment;
  const shards = Array.from({ length: shardCount }, (_, shard) => shard);
  await deployment.send(shards.map((shard) => entering(visitorsOf(shard, nth + 1, shardCount, "a")[nth]!, at)));
}

/** The first visitors of a shard, by number. */
function visitorsOf(shard: number, count: number, shardCount: number, house = "b"): string[] {
  const found: string[] = [];
  for (let number = 1; found.length < count; number += 1) {
    const visitor = `${house}${number}`;
    if (partitionFor(Buffer.from(visitor), shardCount) === shard) found.push(visitor);
  }
  return found;
}

function entering(visitor: string, at: number) {
  return {
    topic: "visits.events",
    key: Buffer.from(visitor),
    value: Buffer.from(JSON.stringify({ visitor, kind: "enter", at })),
    headers: {},
    timestampMs: Date.now(),
  };
}

/** Those that restore would find, the newest first. */
async function snapshotsOf(deployment: Deployment, shard: number): Promise<{ seq: number; pieces: number }[]> {
  return deployment.query("SELECT seq::int, pieces FROM lockstep.snapshot WHERE shard = $1 ORDER BY seq DESC", [shard]);
}
