/**
 * Time that passes without input: timers fire by a tick, which is committed and published like any batch.
 */
import { expect, test } from "vitest";

import { parseOffsetMetadata } from "../../src/actors/offset-metadata.ts";
import { committedRecords } from "../support/console-consumer.ts";
import { withDeployment } from "../support/harness.ts";

const TIME_OUT_MS = 30_000;

test("L3: a timer fires while no record comes, at its due time, and the commit of a tick alone is published", async () => {
  await withDeployment({ app: "visits", workers: 1 }, async (deployment) => {
    const sentMs = Date.now();
    const enteredMs = sentMs - 600_000;
    deployment.start("one");
    await deployment.untilRunning();
    const event = (visitor: string, kind: string, at: number) => ({
      topic: "visits.events",
      partition: 2,
      key: Buffer.from(visitor),
      value: Buffer.from(JSON.stringify({ visitor, kind, at })),
      headers: {},
      timestampMs: at,
    });
    // The second visitor, a stranger to the app, moves stream time to half a second before the first one's time-out.
    await deployment.send([event("a1", "enter", enteredMs), event("b2", "ping", enteredMs + TIME_OUT_MS - 500)]);
    await deployment.untilDrained();

    const [visit] = await deployment.untilTrue(async () => {
      const rows = await deployment.query(
        "SELECT visitor, reason, (extract(epoch FROM ended_at) * 1000)::bigint::text AS ended FROM visits.visits",
      );
      return rows.length > 0 && rows;
    }, "the visit to end by a tick");
    const endedAt = enteredMs + TIME_OUT_MS;
    expect(visit).toEqual({ visitor: "a1", reason: "timedOut", ended: String(endedAt) });

    const [commit] = await deployment.query<{ seq: number; body: { entries: unknown[][] } }>(
      "SELECT seq::int AS seq, body FROM lockstep.journal WHERE shard = 2 AND taken = 0",
    );
    expect(commit!.body.entries).toEqual([["t", expect.any(Number), 1]]);
    // Stream time has moved on by the time that passed, and has not gone to the clock of the wall.
    const [[, reachedMs]] = commit!.body.entries as [[string, number, number]];
    expect(reachedMs).toBeGreaterThanOrEqual(endedAt);
    expect(reachedMs).toBeLessThan(sentMs);
    await deployment.untilTrue(async () => {
      const { metadata } = (await deployment.committed(2))["visits.events"]!;
      return parseOffsetMetadata(metadata)?.seq === commit!.seq;
    }, "the tick to be in Kafka");
    await deployment.stopAll();

    const published = await committedRecords("visits.ended");
    expect(published.map(({ key, timestampMs }) => ({ key, timestampMs }))).toEqual([
      { key: "a1", timestampMs: endedAt },
    ]);
    expect(JSON.parse(published[0]!.value!)).toMatchObject({ visitor: "a1", enteredAt: enteredMs, endedAt });
  });
});
