/**
 * Restarts under load: what was drained needs no replay, what was killed is replayed, and the audit sees no seam.
 */
import { expect, test } from "vitest";

import { type Deployment, withDeployment } from "../support/harness.ts";

/** Who holds a shard is not to lose it to a busy machine: then it would be taken over, and replayed, for another reason. */
const KEEPS_ITS_SHARDS = { LOCKSTEP_SESSION_TIMEOUT_MS: "6000" };

test("after SIGTERM nothing is replayed, after SIGKILL what was not covered is, and no seam is left", async () => {
  await withDeployment({ app: "visits", env: KEEPS_ITS_SHARDS }, async (deployment) => {
    deployment.start("drained");
    await deployment.untilRunning();
    const loading = deployment.load({ seconds: 10, rate: 250, symbols: 60 });
    await untilCommitted(deployment);
    await deployment.stop("drained");

    deployment.start("killed");
    await deployment.untilRunning();
    expect(deployment.running("killed")).toHaveLength(deployment.shardCount);
    expect(replayedRecords(deployment, "killed")).toBe(0);
    expect(deployment.eventsOf("took-over", "killed")).toEqual([]);
    await untilCommitted(deployment);
    await deployment.kill("killed");

    deployment.start("last");
    await deployment.untilRunning();
    expect(replayedRecords(deployment, "last")).toBeGreaterThan(0);
    expect(deployment.eventsOf("took-over", "last")).toHaveLength(deployment.shardCount);
    const manifest = await loading;
    await deployment.untilDrained();
    await deployment.stopAll();
    expect((await deployment.audit(manifest)).findings).toEqual([]);
  });
});

test("with a snapshot, only what came after it is replayed", async () => {
  await withDeployment({ app: "visits", env: { LOCKSTEP_SNAPSHOT_COMMITS: "5" } }, async (deployment) => {
    deployment.start("killed");
    await deployment.untilRunning();
    const loading = deployment.load({ seconds: 6, rate: 250, symbols: 60 });
    await deployment.untilTrue(
      () => new Set(deployment.eventsOf("snapshot-published").map(({ shard }) => shard)).size === deployment.shardCount,
      "a snapshot of every shard",
    );
    await deployment.kill("killed");
    const left = await deployment.query<{ shard: number; s: number; p: number }>(
      "SELECT shard, snapshot_seq::int AS s, seq::int AS p FROM lockstep.shard ORDER BY shard",
    );
    for (const { s } of left) expect(s).toBeGreaterThan(0);

    deployment.start("next");
    await deployment.untilRunning();
    const replays = deployment.eventsOf("replaying", "next").map(({ shard, from, to }) => ({ shard, s: from, p: to }));
    expect(replays.sort((a, b) => a.shard! - b.shard!)).toEqual(left.filter(({ s, p }) => s < p));
    const manifest = await loading;
    await deployment.untilDrained();
    await deployment.stopAll();
    expect((await deployment.audit(manifest)).findings).toEqual([]);
  });
});

/** Until every shard has committed since now. */
async function untilCommitted(deployment: Deployment): Promise<void> {
  const seqs = async () =>
    (await deployment.query<{ seq: number }>("SELECT seq::int AS seq FROM lockstep.shard ORDER BY shard")).map(
      ({ seq }) => seq,
    );
  const before = await seqs();
  await deployment.untilTrue(
    async () => (await seqs()).every((seq, shard) => seq > before[shard]! + 1),
    "commits of every shard",
  );
}

function replayedRecords(deployment: Deployment, process: string): number {
  return deployment.eventsOf("running", process).reduce((sum, { replayed }) => sum + Number(replayed), 0);
}
