/**
 * The relay inside `lockstep run`: what shards insert into the outbox comes out on its topic.
 */
import { expect, test } from "vitest";

import { createKafkaClient } from "../../src/kafka/client.ts";
import { readTopic } from "../../src/kafka/read-topic.ts";
import { withDeployment } from "../support/harness.ts";
import { until } from "../support/until.ts";

test("every row of the outbox is published once, byte for byte, and the process says that it holds the relay", async () => {
  await withDeployment({ app: "trading", env: { LOCKSTEP_RELAY: "on" } }, async (deployment) => {
    deployment.start("one");
    await deployment.untilRunning();
    await deployment.untilEvent("relay-running");
    await deployment.load({ total: 2_000 });
    await deployment.untilDrained();
    const rows = await deployment.query<{ id: string; key: string; payload: string; at: string; ms: string }>(
      `SELECT event_id::text AS id, aggregate_id::text AS key, payload::text, occurred_at_ms::text AS ms,
         to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at FROM app.outbox ORDER BY 1`,
    );
    expect(rows.length).toBeGreaterThan(10);
    const client = createKafkaClient({ brokers: deployment.stack.brokers, clientId: "test" });
    const published = await until(
      async () => {
        const found = [];
        for await (const { key, value, headers, timestampMs } of readTopic({ client, topic: "trading.orders" })) {
          const header = Object.fromEntries(headers.map(([name, bytes]) => [name, String(bytes)]));
          found.push({
            id: header["event_id"]!,
            key: String(key),
            payload: String(value),
            ms: String(timestampMs),
            at: header["occurred_at"]!,
          });
        }
        return found.length >= rows.length && found;
      },
      { what: `${rows.length} records on trading.orders` },
    );
    published.sort((a, b) => (a.id < b.id ? -1 : 1));
    expect(published).toEqual(rows.map(({ id, key, payload, ms, at }) => ({ id, key, payload, ms, at })));
    await deployment.stopAll();
  });
});
