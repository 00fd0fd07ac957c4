/**
 * Health while a server is away, on servers of this file's own: not ready, but alive, because a restart would cure nothing; and ready
 * again when the server is back.
 */
import { afterAll, beforeAll, describe, expect } from "vitest";

import { type Stack, startStack } from "../../src/stack/index.ts";
import { longTest } from "../support/fault-rows.ts";
import { Deployment } from "../support/harness.ts";
import { addressOf, ask, scrape } from "../support/scrape.ts";
import { until } from "../support/until.ts";

const BACK_MS = 120_000;

let stack: Stack;
let deployment: Deployment;
let url: string;

describe("a process without one of its servers", () => {
  beforeAll(async () => {
    stack = await startStack({ kafkaConfig: { "group.min.session.timeout.ms": "1000" } });
    deployment = await Deployment.open({
      app: "trading",
      stack: { brokers: stack.kafka!.brokers, postgresUrl: stack.postgres!.url, kafkaLibs: stack.kafka!.libs! },
    });
    deployment.start("one");
    await deployment.untilRunning();
    url = await addressOf(deployment, "one");
    await answers("/readyz", 200);
  });

  afterAll(async () => {
    await deployment?.close();
    await stack?.stop();
  });

  longTest("Postgres stopped: the check postgres fails, and passes when it is back", async () => {
    await stack.postgres!.stop({ immediate: true });
    expect(await answers("/readyz/postgres", 503)).toMatch(/^\[-\]postgres failed: Postgres does not answer: /);
    expect((await ask(url, "/livez")).status).toBe(200);
    expect((await ask(url, "/startupz")).status).toBe(200);
    await until(async () => (await scrape(url)).sum("lockstep_retries_total", { code: "STORE_UNAVAILABLE" }) > 0, {
      what: "retries to show",
    });
    await stack.postgres!.start();
    expect(await answers("/readyz", 200, BACK_MS)).toBe("ok\n");
  });

  longTest("Kafka stopped: the check kafka fails, and passes when it is back", async () => {
    const [node] = stack.kafka!.nodes;
    await node!.stop();
    expect(await answers("/readyz/kafka", 503)).toMatch(
      /coordinator has not answered worker \d for \d+ s|being started/,
    );
    expect((await ask(url, "/livez")).status).toBe(200);
    expect((await ask(url, "/startupz")).status).toBe(200);
    const shown = await scrape(url);
    const answered = shown.samples.filter(({ name }) => name === "lockstep_group_answer_timestamp_seconds");
    expect(answered.length).toBeGreaterThan(0);
    for (const { value } of answered) expect(value * 1_000).toBeLessThan(Date.now());
    await node!.start();
    expect(await answers("/readyz", 200, BACK_MS)).toBe("ok\n");
    await deployment.stopAll();
  });
});

async function answers(path: string, status: number, timeoutMs = 60_000): Promise<string> {
  const { body } = await until(
    async () => {
      const answer = await ask(url, path);
      return answer.status === status && answer;
    },
    { what: `${path} to answer ${status}`, timeoutMs },
  );
  return body;
}
