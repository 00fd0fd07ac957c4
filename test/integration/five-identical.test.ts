/**
 * The promise in its smallest form: what is sent five times, by two producers, in batches of their own, with the process
 * killed in between, is seen once.
 */
import { describe, expect, test } from "vitest";

import { openSender, type SentRecord } from "../../src/kafka/sender.ts";
import { signalTopic } from "../../src/machines/trading/topics.ts";
import { committedRecords } from "../support/console-consumer.ts";
import { type Deployment, withDeployment } from "../support/harness.ts";

const SYMBOL = "BTC-USD";
/** All of one window, which has begun: nothing here is late, and no timer is due. */
const WINDOW_MS = 300_000;

describe("five identical signals", () => {
  test("make one effect, whoever sends them, whatever is committed or killed in between", async () => {
    await withDeployment({ app: "trading" }, async (deployment) => {
      const second = await openSender(deployment.stack.brokers, [signalTopic("1m")]);
      try {
        const baseMs = Math.floor(Date.now() / WINDOW_MS) * WINDOW_MS - WINDOW_MS;
        const identical = signal("1m", { id: "the-one", ts: baseMs + 3_000 });
        const alsoIdentical = signal("1m", { id: "the-one", ts: baseMs + 3_000 });
        deployment.start("first");
        await deployment.untilRunning();
        // A decision needs a second timeframe, an order a balance above 2.
        await sendAndCommit(deployment, signal("5m", { id: "before-1", ts: baseMs + 1_000 }));
        await sendAndCommit(deployment, signal("5m", { id: "before-2", ts: baseMs + 2_000 }));
        expect(await effects(deployment)).toEqual({ orders: 0, outbox: 0 });

        await sendAndCommit(deployment, identical);
        expect(await effects(deployment)).toEqual({ orders: 1, outbox: 1 });
        await second.send([alsoIdentical]);
        await deployment.untilDrained();

        await deployment.kill("first");
        await second.send([alsoIdentical]);
        deployment.start("second");
        await deployment.untilRunning();
        await deployment.untilDrained();
        await sendAndCommit(deployment, identical);
        await second.send([alsoIdentical]);
        await deployment.untilDrained();
        expect(await effects(deployment)).toEqual({ orders: 1, outbox: 1 });

        // The window, too, has counted it once: its own signals are the three, each once.
        await sendAndCommit(deployment, signal("1m", { id: "after", ts: baseMs + 4_000 }));
        await deployment.stopAll();
      } finally {
        await second.close();
      }

      const decisions = (await committedRecords("trading.decisions")).map(({ value }) => JSON.parse(value!));
      expect(decisions.map(({ action, signals }) => ({ action, signals }))).toEqual([
        { action: "BUY", signals: ["before-1", "before-2", "the-one"] },
        { action: "BUY", signals: ["before-1", "before-2", "the-one", "after"] },
      ]);
      expect(await effects(deployment)).toEqual({ orders: 2, outbox: 2 });
      expect(await counters(deployment)).toMatchObject({ taken: "8", duplicatesIgnored: "4" });
      const report = await deployment.audit();
      expect(report.findings).toEqual([]);
      expect(report.figures).toMatchObject({ signals: 8, distinct: 4, duplicatesIgnored: 4, decisions: 2, orders: 2 });
    });
  });
});

function signal(timeframe: "1m" | "5m", { id, ts }: { id: string; ts: number }): SentRecord {
  const value = { symbol: SYMBOL, side: "BUY", qty: 1, price: "100.5", timeframe, ts, id };
  return {
    topic: signalTopic(timeframe),
    key: Buffer.from(SYMBOL),
    value: Buffer.from(JSON.stringify(value)),
    headers: {},
    timestampMs: ts,
  };
}

/** In a batch of its own, committed before anything else is sent. */
async function sendAndCommit(deployment: Deployment, record: SentRecord): Promise<void> {
  await deployment.send([record]);
  await deployment.untilDrained();
}

async function effects(deployment: Deployment): Promise<{ orders: number; outbox: number }> {
  const [row] = await deployment.query<{ orders: number; outbox: number }>(
    "SELECT (SELECT count(*)::int FROM app.orders) AS orders, (SELECT count(*)::int FROM app.outbox) AS outbox",
  );
  return row!;
}

/** Sums over the shards, as their last snapshots have them. */
async function counters(deployment: Deployment): Promise<Record<string, string>> {
  const rows = await deployment.query<{ name: string; sum: string }>(
    `SELECT name, sum(value::bigint)::text AS sum
       FROM lockstep.shard JOIN lockstep.snapshot USING (instance, shard), jsonb_each_text(counters) AS each (name, value)
      WHERE snapshot.seq = shard.snapshot_seq AND snapshot.token = shard.snapshot_token
      GROUP BY name`,
  );
  return Object.fromEntries(rows.map(({ name, sum }) => [name, sum]));
}
