/**
 * The relay inside `lockstep run`: what shards insert into the outbox comes out on its topic.
 */
import { expect, test } from "vitest";

import { createKafkaClient } from "../../src/kafka/client.ts";
import { readTopic } from "../../src/kafka/read-topic.ts";
import { lockstep } from "../support/command.ts";
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

test("relay status tells who works and how far it is; after the slot was dropped it says what to do, and resync does it", async () => {
  await withDeployment({ app: "trading", env: { LOCKSTEP_RELAY: "on" } }, async (deployment) => {
    const { env } = deployment;
    const status = async () => {
      const { code, stdout } = await lockstep(["relay", "status", "--json"], env);
      return { code, shown: JSON.parse(stdout) as Record<string, unknown> };
    };
    const insert = (count: number) =>
      deployment.query(
        `INSERT INTO app.outbox (event_id, aggregate_type, aggregate_id, type, payload, occurred_at)
         SELECT gen_random_uuid(), 'order', gen_random_uuid(), 'OrderPlaced', '{}', now() FROM generate_series(1, ${count})`,
      );
    const publishedIs = async (count: number) => {
      const client = createKafkaClient({ brokers: deployment.stack.brokers, clientId: "test" });
      const ids = new Set<string>();
      let records = 0;
      for await (const { headers } of readTopic({ client, topic: "trading.orders" })) {
        records += 1;
        ids.add(String(headers.find(([name]) => name === "event_id")?.[1]));
      }
      return records === count && ids.size === count;
    };
    deployment.start("alone", { command: ["relay", "run"] });
    await deployment.untilEvent("relay-running");
    await insert(3);
    await until(() => publishedIs(3), { what: "3 records" });
    const first = await status();
    expect(first).toMatchObject({ code: 0, shown: { app: "trading", fault: null, slot: { walStatus: "reserved" } } });
    expect((first.shown["holder"] as { name: string }).name).toMatch(/-relay$/);
    expect((first.shown["slot"] as { activePid: number }).activePid).toBeGreaterThan(0);
    const table = await lockstep(["relay", "status"], env);
    expect(table).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/position.*max_slot_wal_keep_size.*no limit/s),
    });

    await deployment.stop("alone");
    await until(
      async () => (await deployment.query("SELECT pg_drop_replication_slot(slot) FROM lockstep.relay")).length === 1,
      { what: "the slot to be dropped" },
    );
    await insert(2);
    expect(await status()).toMatchObject({
      code: 1,
      shown: { holder: null, slot: null, fault: { code: "RELAY_SLOT_LOST" } },
    });
    const halted = deployment.start("again", { command: ["relay", "run"] });
    await deployment.untilEvent("relay-halted", { process: "again" });
    expect(halted.ended).toBe(false);
    const dry = await lockstep(["relay", "resync", "--json"], env);
    expect([dry.code, JSON.parse(dry.stdout)]).toMatchObject([0, { rows: 5, onTopic: 3, missing: 2, done: false }]);
    expect(await publishedIs(3)).toBe(true);
    const done = await lockstep(["relay", "resync", "--yes"], env);
    expect(done).toMatchObject({ code: 0, stdout: expect.stringContaining("2 rows are not there") });
    await deployment.untilEvent("relay-running", { process: "again" });
    await insert(1);
    await until(() => publishedIs(6), { what: "6 records" });
    expect(await status()).toMatchObject({ code: 0, shown: { fault: null } });
    await deployment.stop("again");
  });
});

test("a row that its topic does not take is among the dead letters that dlq lists, without naming the topic", async () => {
  await withDeployment({ app: "trading", env: { LOCKSTEP_RELAY: "on" } }, async (deployment) => {
    const { env } = deployment;
    deployment.start("alone", { command: ["relay", "run"] });
    await deployment.untilEvent("relay-running");
    await deployment.query(
      `INSERT INTO app.outbox (event_id, aggregate_type, aggregate_id, type, payload, occurred_at)
       VALUES (gen_random_uuid(), 'order', gen_random_uuid(), 'OrderPlaced', jsonb_build_object('pad', repeat('x', 2000000)), now())`,
    );
    await deployment.untilEvent("relay-set-aside");
    const list = async (...args: string[]) => {
      const { code, stdout } = await lockstep(["dlq", "list", "--json", ...args], env);
      return { code, shown: JSON.parse(stdout) as { matched: number; letters: object[] } };
    };
    const letter = { topic: "trading.orders.dlq", outboxTable: "app.outbox", source: null, omitted: true };
    const all = await list();
    expect(all).toMatchObject({ code: 0, shown: { matched: 1, letters: [letter] } });
    expect(await list("--topic", "trading.orders")).toEqual(all);
    expect(await list("--topic", "trading.signal.1m")).toMatchObject({ shown: { matched: 0 } });
    expect(await lockstep(["dlq", "replay", "--all", "--dry-run"], env)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("nothing sent; 0 would be, 1 left out"),
    });
    await deployment.stopAll();
  });
});
