/**
 * Owners that die while they acquire, restore, snapshot or release a shard (docs/protocol.md, rows C11 to C13, S1 to S3): every step
 * may be done again, by the next one and by the one after that.
 */
import { afterAll, beforeAll, describe, expect } from "vitest";

import { FaultBed } from "../support/fault-bed.ts";
import {
  expectDone,
  expectRedoPublished,
  journalRow,
  longTest,
  orphanedPieces,
  type UnderWay,
} from "../support/fault-rows.ts";
import type { Victim } from "../support/fault-victim.ts";
import { recordCheck } from "../support/proof.ts";
import { until } from "../support/until.ts";

let bed: FaultBed;

beforeAll(async () => {
  bed = await FaultBed.open({ app: "trading" });
});

afterAll(async () => {
  await bed?.finish();
});

/**
 * Kills an owner after its COMMIT, then one owner after the other at these points of the same shard, and lets the steady process
 * find what they left.
 */
async function killInTurn(points: readonly string[]): Promise<UnderWay> {
  await bed.stopSteady();
  const victim = bed.startVictim("pg.committed:4:kill");
  const { shard } = await victim.untilKilled();
  const seq = victim.seqUnderWay(shard);
  for (const point of points) await bed.startVictim(`${point}:kill@${shard}`).untilKilled();
  bed.startSteady();
  await bed.untilTakenOver();
  return { shard, seq, victim };
}

describe("acquire", () => {
  longTest("C11: killed inside reconcile, time and again: redo is published once, by who comes through", async () => {
    const points = ["r2", "r1", "r1"].map((name) => `acquire.${name}:1`);
    const publishing = ["begun", "produced", "offsets-sent", "before-end"].map((name) => `kafka.${name}:1`);
    expectRedoPublished(bed, await killInTurn([...points, ...publishing]));
    await bed.expectClean();
  });

  longTest("C11: killed when redo had been published, twice: it is not published again", async () => {
    expectDone(bed, await killInTurn(["reconcile.published:1", "acquire.done:1"]));
    await bed.expectClean();
  });

  longTest("C12: killed between F1 and F2, and between F2 and R2: the next F1 repairs it", async () => {
    const killed = await killInTurn(["acquire.f1:1", "acquire.f2:1", "acquire.f1:1"]);
    expectRedoPublished(bed, killed);
    // One epoch of the first owner, one of each that was killed, one of the steady process.
    const before = killed.victim.events("running", killed.shard).at(-1);
    expect(bed.said("running", killed)[0]!["epoch"]).toBe(Number(before!["epoch"]) + 4);
    recordCheck("each of the killed owners had raised the epoch by one");
    await bed.expectClean();
  });

  longTest("S3: killed inside a replay, twice: it is replayed again, to the same state", async () => {
    const killed = await killInTurn(["restore.loaded:1", "restore.row:2", "restore.row:3"]);
    expect(bed.said("replaying", killed)[0]).toMatchObject({ to: killed.seq });
    expect(bed.said("running", killed)[0]).toMatchObject({ seq: killed.seq, reused: false });
    expect(bed.said("running", killed)[0]!["replayed"]).toBeGreaterThan(0);
    recordCheck("the next owner replays all of it again, and each commit's digest agrees");
    await bed.expectClean();
  });
});

describe("release", () => {
  for (const point of [
    "release.start",
    "snapshot.captured",
    "snapshot.piece",
    "snapshot.published",
    "release.drained",
  ]) {
    longTest(
      `C13: killed while it released its shards, at ${point}: the next owner waits out the hand-over`,
      async () => {
        const victim = bed.startVictim(`${point}:1:kill`);
        await commitsOf(victim);
        victim.process.signal("SIGTERM");
        const { shard } = await victim.untilKilled();
        await bed.untilTakenOver();
        expect(bed.saidTakingOver("took-over", { shard, victim })).not.toEqual([]);
        recordCheck("the next owner waits out the hand-over and takes over");
        await bed.expectClean();
      },
    );
  }

  longTest(
    "C13: killed when the row had no owner any more: nobody is waited for, and nothing is replayed",
    async () => {
      const victim = bed.startVictim("release.done:1:kill");
      await commitsOf(victim);
      victim.process.signal("SIGTERM");
      const { shard } = await victim.untilKilled();
      await bed.untilTakenOver();
      expect(bed.saidTakingOver("took-over", { shard, victim })).toEqual([]);
      expect(bed.said("running", { shard, victim })[0]).toMatchObject({ replayed: 0 });
      recordCheck("the next owner waits for nobody and replays nothing");
      await bed.expectClean();
    },
  );
});

describe("snapshot", () => {
  longTest(
    "S1: killed between two pieces: the older snapshot is used, and the pieces go with the next one",
    async () => {
      const { victim, shard } = await bed.killAt("snapshot.piece:1:kill", { env: { LOCKSTEP_SNAPSHOT_COMMITS: "3" } });
      const released = Number(victim.events("running", shard).at(-1)!["seq"]);
      expect(bed.said("replaying", { shard, victim })[0]).toMatchObject({ from: released });
      await until(async () => (await orphanedPieces(bed.deployment, shard)) === 0, { what: "the pieces to be pruned" });
      recordCheck("the older snapshot is replayed from, and the orphaned pieces are pruned");
      await bed.expectClean();
    },
  );

  longTest("S2: killed after the pointer was flipped: the new snapshot is used", async () => {
    const { victim, shard } = await bed.killAt("snapshot.published:1:kill", {
      env: { LOCKSTEP_SNAPSHOT_COMMITS: "3" },
    });
    const released = Number(victim.events("running", shard).at(-1)!["seq"]);
    const [running] = bed.said("running", { shard, victim });
    const [replaying] = bed.said("replaying", { shard, victim });
    const used = Number(replaying?.["from"] ?? running!["seq"]);
    expect(used).toBeGreaterThan(released);
    const { token } = await journalRow(bed, { shard, seq: used });
    expect(
      await bed.deployment.query("SELECT FROM lockstep.snapshot WHERE shard = $1 AND seq = $2 AND token = $3", [
        shard,
        used,
        token,
      ]),
    ).toHaveLength(1);
    recordCheck("the next owner uses the new snapshot");
    await bed.expectClean();
  });
});

/** Until it has made a commit, so that its release has something to snapshot. */
async function commitsOf(victim: Victim): Promise<void> {
  await until(() => bed.deployment.eventsOf("committed", victim.name).length > 5, {
    what: `${victim.name} to commit`,
    timeoutMs: 180_000,
  });
}
