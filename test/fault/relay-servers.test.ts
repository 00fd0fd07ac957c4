/**
 * The relay when its lines are cut, and when Postgres restarts, crashes, is put back or is another one (docs/relay.md, R7 to R12).
 */
import { execFileSync } from "node:child_process";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";

import { type Stack, startStack } from "../../src/stack/index.ts";
import { longTest } from "../support/fault-rows.ts";
import { faultsOf, RelayBed } from "../support/relay-bed.ts";
import { TcpProxy } from "../support/tcp-proxy.ts";
import { until } from "../support/until.ts";

const NONE = { lost: 0, doubled: 0, outOfOrder: 0 };

let stack: Stack;
const beds: RelayBed[] = [];

beforeAll(async () => {
  stack = await startStack({ kafka: false });
});
afterEach(async () => {
  for (const bed of beds.splice(0)) await bed.close();
});
afterAll(async () => {
  await stack?.stop();
});

async function open(options: Parameters<typeof RelayBed.open>[0] = {}): Promise<RelayBed> {
  const bed = await RelayBed.open({ postgresUrl: stack.postgres!.url, ...options });
  beds.push(bed);
  return bed;
}

/** Inserts on and on, one database transaction of 5 rows after the other; what fails is tried again. @returns how many there are */
function insertOn(bed: RelayBed): { stop(): Promise<number> } {
  let inserting = true;
  let count = 0;
  const work = (async () => {
    while (inserting) {
      const from = count;
      await until(
        async () => {
          // The outcome of a COMMIT that was cut off is seen by looking.
          const [row] = await bed.query<{ n: number }>("SELECT count(*)::int AS n FROM app.outbox");
          if (row!.n === from + 5) return true;
          await bed.insertMany(5, from);
          return true;
        },
        { what: "rows to be inserted", timeoutMs: 60_000 },
      );
      count += 5;
    }
  })();
  return {
    stop: async () => {
      inserting = false;
      await work;
      return count;
    },
  };
}

longTest("R7: lines to Postgres are cut, and go silent: every row comes once, in order", async () => {
  const bed = await open();
  const { hostname, port } = new URL(bed.database.url);
  const proxy = await TcpProxy.open({ host: hostname, port: Number(port) });
  try {
    const url = new URL(bed.database.url);
    url.port = String(proxy.port);
    const relay = bed.start({ url: url.href });
    const runs = () => relay.lines.filter(({ event }) => event === "relay-running").length;
    await relay.said("relay-running");
    const inserting = insertOn(bed);
    for (let cut = 1; cut <= 3; cut += 1) {
      const published = (await bed.records()).length;
      await until(async () => (await bed.records()).length > published, { what: "rows to be published" });
      proxy.cut();
      await until(() => runs() > cut, { what: `the relay to run after cut ${cut}` });
    }
    const from = { lines: relay.lines.length, reports: relay.reports.length };
    proxy.toxics.dropReplies = true;
    const noticed = ({ event }: { event: string }) => event === "relay-lost" || event === "relay-retrying";
    await until(() => relay.lines.slice(from.lines).some(noticed), { what: "the silence to be noticed" });
    // RI11.
    await until(
      () => relay.reports.slice(from.reports).some(({ state, oldestAgeMs }) => state === "starting" && oldestAgeMs > 0),
      { what: "a report of the relay that it is without Postgres" },
    );
    const before = runs();
    proxy.heal();
    proxy.cut();
    await until(() => runs() > before, { what: "the relay to run after the silence" });
    const count = await inserting.stop();
    expect(faultsOf(await bed.untilPublished(count), count)).toEqual(NONE);
    console.log(`cut lines: ${count} rows, ${runs()} sessions`);
  } finally {
    await proxy.close();
  }
});

for (const [how, immediate] of [
  ["in order", false],
  ["by a crash", true],
] as const) {
  const run = immediate ? test : longTest;
  run(`R8: Postgres restarts ${how} under a working relay: every row comes once, in order`, async () => {
    const bed = await open();
    const relay = bed.start();
    await relay.said("relay-running");
    const inserting = insertOn(bed);
    for (let restart = 1; restart <= 2; restart += 1) {
      const published = (await bed.records()).length;
      await until(async () => (await bed.records()).length > published, { what: "rows to be published" });
      await stack.postgres!.restart({ immediate });
      await until(() => relay.lines.filter(({ event }) => event === "relay-running").length > restart, {
        what: "the relay to run again",
        timeoutMs: 60_000,
      });
    }
    const count = await inserting.stop();
    expect(faultsOf(await bed.untilPublished(count), count)).toEqual(NONE);
  });
}

test("R11: another server under the same group halts the relay", async () => {
  const bed = await open();
  const relay = bed.start();
  await bed.insertMany(3);
  await bed.untilPublished(3);
  await until(async () => (await bed.position()) !== null, { what: "a position" });
  await relay.stop();
  const other = await RelayBed.open({ of: bed }); // on the server of the test run
  beds.push(other);
  await other.insertMany(2, 3);
  const next = other.start();
  expect(await next.said("relay-halted")).toMatchObject({ err: { code: "RELAY_SERVER_CHANGED" } });
  expect(await bed.records()).toHaveLength(3);
});

test("R11: a server that was promoted, and so writes another timeline, halts the relay", async () => {
  const own = await startStack({ kafka: false });
  const bed = await RelayBed.open({ postgresUrl: own.postgres!.url });
  try {
    const before = bed.start();
    await bed.insertMany(3);
    await bed.untilPublished(3);
    await until(async () => (await bed.position()) !== null, { what: "a position" });
    await before.stop();
    await own.postgres!.stop();
    await writeFile(join(own.postgres!.dataDir!, "standby.signal"), "");
    await own.postgres!.start();
    await bed.query("SELECT pg_promote()");
    await bed.insertMany(2, 3);
    const after = bed.start();
    expect(await after.said("relay-halted")).toMatchObject({ err: { code: "RELAY_SERVER_CHANGED" } });
    expect(await bed.records()).toHaveLength(3);
  } finally {
    await bed.close();
    await own.stop();
  }
});

longTest("R12: a server that was put back to an earlier state halts the relay", async () => {
  const own = await startStack({ kafka: false });
  const bed = await RelayBed.open({ postgresUrl: own.postgres!.url });
  const data = own.postgres!.dataDir!;
  try {
    const relay = bed.start();
    await bed.insertMany(10);
    await bed.untilPublished(10);
    await own.postgres!.stop();
    execFileSync("cp", ["-a", data, `${data}.kept`]);
    await own.postgres!.start();
    await until(() => bed.insertMany(500, 10).then(() => true), { what: "Postgres to serve again" });
    await bed.untilPublished(510);
    const goal = (await bed.position())!.position.lsn;
    await relay.stop();
    await own.postgres!.stop({ immediate: true });
    await rm(data, { recursive: true });
    execFileSync("mv", [`${data}.kept`, data]);
    await own.postgres!.start();
    const next = bed.start();
    expect(await next.said("relay-halted")).toMatchObject({
      err: { code: "RELAY_POSITION_CONTRADICTS", message: expect.stringContaining("earlier state") },
    });
    expect((await bed.position())!.position.lsn).toBe(goal);
    expect(faultsOf(await bed.records(), 510)).toEqual(NONE);
  } finally {
    await bed.close();
    await own.stop();
  }
});
