/**
 * An app of someone else, from its first record to its last: another domain, loaded by its path, with time-outs, actors that
 * end, and no outbox.
 */
import { expect, test } from "vitest";

import { parseOffsetMetadata } from "../../src/actors/offset-metadata.ts";
import { withDeployment } from "../support/harness.ts";

interface ShardRow {
  readonly shard: number;
  readonly p: number;
  readonly c: number;
  readonly s: number;
  readonly owner: string | null;
  readonly positions: Record<string, string>;
}

test("another app takes its input once and in order, and H3, I10: after a graceful stop k = P = c = S everywhere", async () => {
  await withDeployment({ app: "visits", workers: 2 }, async (deployment) => {
    deployment.start("one");
    await deployment.untilRunning();
    const manifest = await deployment.load({
      seconds: 4,
      rate: 400,
      symbols: 60,
      duplicates: 0.05,
      late: 0.02,
      bad: 0.03,
    });
    await deployment.untilDrained();
    await deployment.stopAll();

    const rows = await deployment.query<ShardRow>(
      "SELECT shard, seq::int AS p, confirmed::int AS c, snapshot_seq::int AS s, owner, positions FROM lockstep.shard ORDER BY shard",
    );
    expect(rows).toHaveLength(deployment.shardCount);
    const instance = await deployment.instanceId();
    for (const { shard, p, c, s, owner, positions } of rows) {
      const { offset, metadata } = (await deployment.committed(shard))["visits.events"]!;
      const k = parseOffsetMetadata(metadata);
      expect({ shard, k: k?.seq, c, s, owner }).toEqual({ shard, k: p, c: p, s: p, owner: null });
      expect(p).toBeGreaterThan(0);
      expect(k?.instance).toBe(instance);
      expect(offset).toBe(BigInt(positions["visits.events"]!));
    }
    expect(await deployment.query("SELECT 1 FROM lockstep.redo")).toEqual([]);

    const report = await deployment.audit(manifest);
    expect(report.findings).toEqual([]);
    expect(report.figures["events"]).toBe(1600);
    // Figures of which a run must show at least one, or it has proven nothing about them.
    for (const name of ["repeats", "late", "deadLetters", "visits", "timedOut", "peaks"])
      expect(report.figures[name], name).toBeGreaterThan(0);

    // The judge is no test of itself: it must see what is missing, and what nothing explains.
    await deployment.query("DELETE FROM visits.visits WHERE id = (SELECT min(id::text)::uuid FROM visits.visits)");
    await deployment.query(
      "INSERT INTO visits.visits SELECT gen_random_uuid(), visitor, entered_at, ended_at, pings, reason FROM visits.visits LIMIT 1",
    );
    const { totals } = await deployment.audit();
    expect(totals).toMatchObject({ lost: 1, foreign: 1, doubled: 0, mismatch: 0 });
  });
});
