/**
 * Relays killed and paused (docs/relay.md, R1 to R6): `lockstep relay run` processes on one outbox, and what a read_committed reader sees.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { loadConfig } from "../../src/config.ts";
import { createKafkaClient } from "../../src/kafka/client.ts";
import { readTopic } from "../../src/kafka/read-topic.ts";
import { openRelayPorts } from "../../src/relay/open.ts";
import { parsePosition, type RelayPosition } from "../../src/relay/position.ts";
import { createLog } from "../../src/telemetry/log.ts";
import { longTest } from "../support/fault-rows.ts";
import { type Deployment, withDeployment } from "../support/harness.ts";
import { faultsOf } from "../support/relay-bed.ts";
import { until } from "../support/until.ts";

const NONE = { lost: 0, doubled: 0, outOfOrder: 0 };
const TOPIC = "trading.orders";
const WAIT_MS = 120_000;

function withRelays<T>(work: (deployment: Deployment) => Promise<T>): Promise<T> {
  const env = { LOCKSTEP_RELAY: "on", LOCKSTEP_RELAY_TIMEOUT_MS: "2000", LOCKSTEP_TRANSACTION_TIMEOUT_MS: "60000" };
  return withDeployment({ app: "trading", env }, work);
}

function startRelay(deployment: Deployment, name: string, env: Readonly<Record<string, string>> = {}) {
  return deployment.start(name, { command: ["relay", "run"], env });
}

/** Rows numbered from..to - 1 in one database transaction; 100 keys. */
async function insertMany(deployment: Deployment, from: number, to: number): Promise<void> {
  await deployment.query(
    `INSERT INTO app.outbox (event_id, aggregate_type, aggregate_id, type, payload, occurred_at)
     SELECT gen_random_uuid(), 'order', ('00000000-0000-4000-8000-0000000000' || lpad((n % 100)::text, 2, '0'))::uuid, 'Placed',
       jsonb_build_object('n', n, 'pad', repeat('x', 200)), '2026-01-01Z'::timestamptz + n * interval '1 ms' FROM generate_series($1::int, $2::int) n`,
    [from, to - 1],
  );
}

async function records(deployment: Deployment) {
  const client = createKafkaClient({ brokers: deployment.stack.brokers, clientId: "test" });
  const found = [];
  for await (const record of readTopic({ client, topic: TOPIC })) found.push(record);
  return found;
}

async function untilPublished(deployment: Deployment, count: number) {
  return until(
    async () => {
      const found = await records(deployment);
      return found.length >= count && found;
    },
    { what: `${count} records on ${TOPIC}`, timeoutMs: WAIT_MS },
  );
}

async function position(deployment: Deployment): Promise<RelayPosition | null> {
  const { groupId, loaded } = deployment;
  const log = createLog({ level: "error", fd: 2 });
  const ports = openRelayPorts({ app: loaded.app, config: loadConfig(deployment.env), groupId, log, hook: () => {} });
  try {
    const found = await ports.committed();
    return found && (parsePosition(found.offset, found.metadata)?.position ?? null);
  } finally {
    await ports.close();
  }
}

async function untilKilled(deployment: Deployment, name: string): Promise<void> {
  const ended = await Promise.race([deployment.process(name).exited, sleep(WAIT_MS, null)]);
  if (ended?.signal !== "SIGKILL") throw new Error(`${name} did not meet its fail-point: ${JSON.stringify(ended)}`);
}

/** One database transaction, whose publishing is killed at each of the points in turn. */
async function oneTransaction(
  rows: number,
  points: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<void> {
  await withRelays(async (deployment) => {
    await insertMany(deployment, 0, rows);
    const begunMs = performance.now();
    const under: number[] = [];
    for (const [index, point] of points.entries()) {
      startRelay(deployment, `victim-${index}`, { ...env, LOCKSTEP_FAILPOINT: `${point}:kill` });
      await untilKilled(deployment, `victim-${index}`);
      const resume = (await position(deployment))!.underWay;
      expect(resume!.rows).toBeGreaterThan(under.at(-1) ?? 0);
      under.push(resume!.rows);
    }
    expect(under.at(-1)).toBeLessThan(rows);
    startRelay(deployment, "last", env);
    const found = await untilPublished(deployment, rows);
    expect(faultsOf(found, rows)).toEqual(NONE);
    await until(async () => (await position(deployment))!.underWay === null, { what: "the position to be whole" });
    await deployment.stop("last");
    console.log(
      `one database transaction of ${rows} rows, killed after ${under.join(", ")} published rows: ${found.length} records, 0 lost, 0 doubled, 0 out of order, ${((performance.now() - begunMs) / 1000).toFixed(1)} s in all`,
    );
  });
}

test("R2, R4, R5: one database transaction of 5,000 rows, killed in the middle three times: every row once, in order", async () => {
  const points = ["relay.published:2", "relay.kafka.produced:4", "relay.kafka.ended:5"];
  await oneTransaction(5_000, points, { LOCKSTEP_RELAY_BATCH_RECORDS_MAX: "400" });
});

longTest("R5: one database transaction of 100,000 rows, killed in the middle: every row once, in order", async () => {
  await oneTransaction(100_000, ["relay.published:10", "relay.kafka.produced:12", "relay.kafka.offsets-sent:9"], {});
});

/** 100 rows come so often, which is slower than a relay and fast enough that there are always rows on their way. */
const PACE_MS = 20;

/** Rows come while the relay is killed, wherever it is; each kill once the one before has published something, and before the last rows came. */
async function killedMidway(rows: number, kills: number): Promise<void> {
  await withRelays(async (deployment) => {
    const begunMs = performance.now();
    let generation = 0;
    const start = () => {
      generation += 1;
      startRelay(deployment, `relay-${generation}`, { LOCKSTEP_RELAY_BATCH_RECORDS_MAX: "500" });
    };
    start();
    const share = Math.floor(rows / (kills + 2));
    const killed: { published: number; inserted: number }[] = [];
    let inserted = 0;
    const inserting = (async () => {
      while (inserted < rows) {
        const isDue = () => killed.length === kills || inserted < share * (killed.length + 2);
        await until(async () => isDue(), { what: "the next kill", timeoutMs: WAIT_MS });
        await insertMany(deployment, inserted, inserted + 100);
        inserted += 100;
        await sleep(PACE_MS);
      }
    })();
    for (let kill = 1; kill <= kills; kill += 1) {
      const goal = Math.max(share * kill, (killed.at(-1)?.published ?? 0) + 1);
      await until(async () => (await records(deployment)).length >= goal, {
        what: `${goal} records`,
        timeoutMs: WAIT_MS,
      });
      const name = `relay-${generation}`;
      deployment.process(name).signal("SIGKILL");
      await deployment.process(name).exited;
      const published = (await records(deployment)).length;
      if (published >= rows) throw new Error(`all ${published} records were there at kill ${kill}: it proves nothing`);
      killed.push({ published, inserted });
      start();
    }
    await inserting;
    const found = await untilPublished(deployment, rows);
    expect(faultsOf(found, rows)).toEqual(NONE);
    await deployment.stop(`relay-${generation}`);
    console.log(
      `${rows} rows, killed ${killed.map(({ published, inserted }) => `at ${published} of ${inserted}`).join(", ")}: ${found.length} records, 0 lost, 0 doubled, 0 out of order, ${((performance.now() - begunMs) / 1000).toFixed(1)} s`,
    );
  });
}

test("R1 to R4: 4,000 rows, the relay killed midway: none lost, none doubled", async () => {
  await killedMidway(4_000, 1);
});

longTest("R1 to R4: 50,000 rows, the relay killed midway, again and again: none lost, none doubled", async () => {
  await killedMidway(50_000, 4);
});

const PAUSED: readonly (readonly [where: string, point: string, run: typeof longTest])[] = [
  ["before a publish", "relay.before-publish:3", longTest],
  ["with records and offsets pending", "relay.kafka.before-end:4", test],
  ["after Kafka's commit, before the slot is told", "relay.published:3", longTest],
];
/** What a zombie says when it finds out, whichever it meets first. */
const FOUND_OUT: readonly string[] = ["relay-fenced", "relay-lost"];

for (const [where, point, run] of PAUSED) {
  run(
    `R6: the holder is stopped ${where}, replaced, and woken: it publishes nothing more, and its word to the slot is harmless`,
    async () => {
      await withRelays(async (deployment) => {
        startRelay(deployment, "zombie", {
          LOCKSTEP_FAILPOINT: `${point}:stop`,
          LOCKSTEP_RELAY_BATCH_RECORDS_MAX: "100",
        });
        await deployment.untilEvent("relay-running", { process: "zombie" });
        startRelay(deployment, "heir");
        await deployment.untilEvent("relay-standby", { process: "heir" });
        await insertMany(deployment, 0, 1_000);
        await deployment.untilEvent("relay-running", { process: "heir" });
        expect(faultsOf(await untilPublished(deployment, 1_000), 1_000)).toEqual(NONE);
        const from = deployment.events.length;
        deployment.process("zombie").signal("SIGCONT");
        await until(
          () =>
            deployment.events
              .slice(from)
              .some(({ process, event }) => process === "zombie" && FOUND_OUT.includes(event ?? "")),
          { what: "the zombie to find out" },
        );
        await deployment.untilEvent("relay-standby", { process: "zombie", from });
        await insertMany(deployment, 1_000, 2_000);
        expect(faultsOf(await untilPublished(deployment, 2_000), 2_000)).toEqual(NONE);
        // And back again: the former zombie takes over.
        await deployment.kill("heir");
        await insertMany(deployment, 2_000, 3_000);
        expect(faultsOf(await untilPublished(deployment, 3_000), 3_000)).toEqual(NONE);
        await deployment.stop("zombie");
      });
    },
  );
}
