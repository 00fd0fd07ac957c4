/**
 * The kill rows of the crash table on a second app: another domain, one input, timers, no outbox. And J2, which needs timers: a commit
 * that took no record and publishes all the same.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { partitionFor } from "../../src/actors/partition.ts";
import { FaultBed } from "../support/fault-bed.ts";
import { expectAuditClean, expectNotCommitted, expectRedoPublished, longTest } from "../support/fault-rows.ts";
import { Victim } from "../support/fault-victim.ts";
import { type Deployment, withDeployment } from "../support/harness.ts";
import { recordCheck } from "../support/proof.ts";

/** A visit without a ping ends after so long: test/support/apps/visits/machines.ts. */
const STAY_MS = 30_000;

test("J2: a commit of a tick alone, which publishes, killed after COMMIT: redo is published once", async () => {
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
  const found = new Map<number, string[]>();
  for (
    let number = 1;
    [...found.values()].filter((names) => names.length > nth).length < deployment.shardCount;
    number += 1
  ) {
    const visitor = `a${number}`;
    const shard = partitionFor(Buffer.from(visitor), deployment.shardCount);
    found.set(shard, [...(found.get(shard) ?? []), visitor]);
  }
  await deployment.send(
    [...found.values()].map((names) => ({
      topic: "visits.events",
      key: Buffer.from(names[nth]!),
      value: Buffer.from(JSON.stringify({ visitor: names[nth]!, kind: "enter", at })),
      headers: {},
      timestampMs: Date.now(),
    })),
  );
}
