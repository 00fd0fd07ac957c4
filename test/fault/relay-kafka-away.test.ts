/**
 * The relay while Kafka is away, on servers of this file's own (docs/relay.md, R9): what it says of itself on /readyz and /metrics, and what
 * `lockstep relay status` says of it; and that it goes on by itself.
 */
import { afterAll, beforeAll, expect } from "vitest";

import type { RelayShown } from "../../src/cli/relay.ts";
import { createKafkaClient } from "../../src/kafka/client.ts";
import { readTopic } from "../../src/kafka/read-topic.ts";
import { type Stack, startStack } from "../../src/stack/index.ts";
import { lockstep } from "../support/command.ts";
import { longTest } from "../support/fault-rows.ts";
import { endNode } from "../support/fault-servers.ts";
import { type Deployment, withDeployment } from "../support/harness.ts";
import { addressOf, ask, scrape } from "../support/scrape.ts";
import { isLongRun } from "../support/stack.ts";
import { until } from "../support/until.ts";

const WAIT_MS = 120_000;

let stack: Stack;
beforeAll(async () => {
  if (isLongRun()) stack = await startStack();
});
afterAll(async () => {
  await stack?.stop();
});

async function insert(deployment: Deployment, count: number): Promise<void> {
  await deployment.query(
    `INSERT INTO app.outbox (event_id, aggregate_type, aggregate_id, type, payload, occurred_at)
     SELECT gen_random_uuid(), 'order', gen_random_uuid(), 'OrderPlaced', '{}', now() FROM generate_series(1, ${count})`,
  );
}

async function untilPublished(count: number): Promise<void> {
  const client = createKafkaClient({ brokers: stack.kafka!.brokers, clientId: "test" });
  await until(
    async () => {
      const ids = [];
      for await (const { headers } of readTopic({ client, topic: "trading.orders" }))
        ids.push(String(headers.find(([name]) => name === "event_id")?.[1]));
      expect(new Set(ids).size).toBe(ids.length);
      return ids.length === count;
    },
    { what: `${count} records`, timeoutMs: WAIT_MS },
  );
}

longTest(
  "R9, RI11: a relay without Kafka is starting, with the reason, wherever it is asked; when Kafka is back it runs, and every row comes once",
  async () => {
    const servers = { brokers: stack.kafka!.brokers, postgresUrl: stack.postgres!.url, kafkaLibs: stack.kafka!.libs! };
    // A position that is due shows a relay without rows that Kafka is away.
    const env = { LOCKSTEP_RELAY: "on", LOCKSTEP_TRANSACTION_TIMEOUT_MS: "3000", LOCKSTEP_RELAY_POSITION_MS: "500" };
    await withDeployment({ app: "trading", stack: servers, env }, async (deployment) => {
      const status = async () => {
        const { code, stdout } = await lockstep(["relay", "status", "--json"], deployment.env);
        return { code, shown: JSON.parse(stdout) as RelayShown };
      };
      deployment.start("alone", { command: ["relay", "run"] });
      await deployment.untilEvent("relay-running");
      await insert(deployment, 3);
      await untilPublished(3);
      const url = await addressOf(deployment, "alone");
      const state = async () => (await scrape(url)).values("lockstep_relay_state", "state");
      await until(async () => (await state())[0] === "running", { what: "metrics to say that it runs" });
      expect(await status()).toMatchObject({ code: 0, shown: { state: "running", fault: null } });

      await endNode(stack.kafka!.nodes[0]!, "kill");
      await insert(deployment, 2);
      await until(async () => (await state())[0] === "starting", { what: "metrics to say so", timeoutMs: WAIT_MS });
      const ready = await until(
        async () => {
          const answer = await ask(url, "/readyz?verbose");
          return answer.status === 503 && answer.body;
        },
        { what: "/readyz to say so", timeoutMs: WAIT_MS },
      );
      expect(ready).toMatch(/\[-\]relay failed: the relay cannot work: (PUBLISH_FAILED|KAFKA_UNAVAILABLE), /);
      expect(await state()).toEqual(["starting"]);
      const away = await status();
      expect(away).toMatchObject({
        code: 1,
        shown: { state: "starting", fault: { code: "KAFKA_UNAVAILABLE" }, position: null, slot: { activePid: null } },
      });
      expect(away.shown.holder).not.toBeNull();
      const shown = await lockstep(["relay", "status"], deployment.env);
      expect(shown).toMatchObject({ code: 1, stdout: expect.stringMatching(/starting: .*KAFKA_UNAVAILABLE: /s) });
      expect((await scrape(url)).sum("lockstep_outbox_oldest_age_seconds")).toBeGreaterThan(0);

      await stack.kafka!.nodes[0]!.start();
      await until(async () => (await state())[0] === "running", { what: "the relay to run", timeoutMs: WAIT_MS });
      await untilPublished(5);
      await until(async () => (await ask(url, "/readyz")).status === 200, { what: "/readyz", timeoutMs: WAIT_MS });
      expect(await status()).toMatchObject({ code: 0, shown: { state: "running", fault: null } });
      await deployment.stop("alone");
    });
  },
);
