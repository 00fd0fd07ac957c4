/**
 * Owners that were stopped, replaced, and woke up again (docs/protocol.md, rows Z1 to Z6): whatever they were about to write, they
 * write nothing.
 */
import { afterAll, beforeAll, expect, test } from "vitest";

import { FaultBed } from "../support/fault-bed.ts";
import {
  expectNotCommitted,
  expectRedoPublished,
  journalRow,
  longTest,
  publishedSeq,
  storedSeq,
} from "../support/fault-rows.ts";
import { recordCheck } from "../support/proof.ts";
import { until } from "../support/until.ts";

let bed: FaultBed;

beforeAll(async () => {
  bed = await FaultBed.open({ app: "trading" });
});

afterAll(async () => {
  await bed?.finish();
});

longTest(
  "Z1: stopped after the fold, replaced, woken: its commit finds another token, and the shard is lost to it",
  async () => {
    const zombie = await bed.stopAt("fold.after:3:stop");
    const { victim, shard, seq } = zombie;
    expectNotCommitted(bed, zombie);
    victim.letRun(); // also where another of its shards passes the point
    expect(await victim.untilEvent("lost", shard)).toMatchObject({ err: { code: "SHARD_LOST" } });
    recordCheck("the zombie's write finds another token: SHARD_LOST");
    await bed.deployment.retire(victim.name);
    await bed.expectClean();
    const { epoch } = await journalRow(bed, { shard, seq });
    expect(Number(epoch)).toBeGreaterThan(Number(victim.events("running", shard)[0]!["epoch"]));
  },
);

test("Z2: stopped after COMMIT, replaced, woken: Kafka fences what it publishes, and there is one copy", async () => {
  const zombie = await bed.stopAt("pg.committed:3:stop");
  const { victim, shard } = zombie;
  expectRedoPublished(bed, zombie);
  victim.letRun(); // also where another of its shards passes the point
  expect(await victim.untilEvent("fenced", shard)).toMatchObject({
    err: { code: "PUBLISH_FAILED", details: { fenced: true } },
  });
  await victim.untilEvent("lost", shard);
  recordCheck("what the zombie publishes is refused as fenced, and the shard is lost to it");
  await bed.deployment.retire(victim.name);
  await bed.expectClean();
});

longTest(
  "Z3: stopped with pending offsets, replaced, woken: its EndTxn is fenced, and redo went out once",
  async () => {
    const zombie = await bed.stopAt("kafka.before-end:3:stop");
    const { victim, shard } = zombie;
    expectRedoPublished(bed, zombie);
    victim.letRun(); // also where another of its shards passes the point
    expect(await victim.untilEvent("fenced", shard)).toMatchObject({
      err: { code: "PUBLISH_FAILED", details: { fenced: true, stage: "end" } },
    });
    await victim.untilEvent("lost", shard);
    recordCheck("the zombie's EndTxn is refused as fenced, and the shard is lost to it");
    await bed.deployment.retire(victim.name);
    await bed.expectClean();
  },
);

longTest(
  "Z4: stopped inside an open Postgres transaction: the server ends the session, then the next F1 goes through",
  async () => {
    const zombie = await bed.stopAt("pg.updated:3:stop");
    const { victim, shard } = zombie;
    expectNotCommitted(bed, zombie);
    victim.letRun(); // also where another of its shards passes the point
    expect(await victim.untilEvent("retrying", shard)).toMatchObject({ err: { code: "STORE_UNAVAILABLE" } });
    expect(await victim.untilEvent("lost", shard)).toMatchObject({ err: { code: "SHARD_LOST" } });
    recordCheck("the zombie's write finds another token: SHARD_LOST");
    await bed.deployment.retire(victim.name);
    await bed.expectClean();
  },
);

longTest(
  "Z5: two owners acquire at once, fences crossed: the one whose token stands goes on, the other is lost",
  async () => {
    const victim = bed.startVictim("acquire.f1:1:stop");
    const { shard } = await victim.untilHit();
    await bed.untilTakenOver();
    // At rest: an InitProducerId that met a commit just being completed would be told to come again, and the victim would
    // find the other token before it fenced anybody.
    await bed.settle();
    const from = bed.deployment.events.length;
    victim.letRun();
    await victim.untilEvent("lost", shard);
    // Before the group gives it shards again: the steady process must keep this one to find out.
    victim.process.signal("SIGKILL");
    bed.load.resume();
    // Its fence came after the steady process's own, which finds out at its next commit.
    await until(
      () => {
        const said = bed.deployment.events
          .slice(from)
          .filter((line) => line.process === "steady" && line.shard === shard);
        const fenced = said.findIndex((line) => line.event === "fenced");
        return fenced >= 0 && said.slice(fenced).some((line) => line.event === "running" && line["reused"] === true);
      },
      { what: "the steady process to be fenced and to go on" },
    );
    recordCheck("the owner whose token stands is fenced, acquires again and goes on; the other one is lost");
    await bed.expectClean();
  },
);

longTest("Z6: the old owner ends its Kafka transaction after the new F1, before F2: its commit counts", async () => {
  await bed.stopSteady();
  const old = bed.startVictim("kafka.before-end:3:stop");
  const { shard } = await old.untilHit();
  const seq = await storedSeq(bed, shard);
  const next = bed.startVictim(`acquire.f1:1:stop@${shard}`);
  await next.untilHit();
  old.letRun();
  await until(async () => (await publishedSeq(bed, shard)) === seq, { what: `Kafka to have commit ${seq}` });
  await old.untilEvent("lost", shard);
  // Before the group takes the shard back from the next owner and gives it to this one again.
  old.process.signal("SIGKILL");
  next.letRun();

  expect(await next.untilEvent("running", shard)).toMatchObject({ seq });
  expect(next.events("redo-published", shard)).toEqual([]);
  recordCheck("the next owner's R2 sees the commit, and publishes nothing");
  bed.startSteady();
  await bed.deployment.untilRunning();
  await bed.deployment.retire(next.name);
  await bed.expectClean();
});
