/**
 * Health of real processes: each check that a process can fail while its servers are well. Servers that are away:
 * test/fault/health.test.ts.
 */
import { expect, test } from "vitest";

import { command } from "../support/command.ts";
import { MAIN } from "../support/deployment-settings.ts";
import { type Deployment, withDeployment } from "../support/harness.ts";
import { addressOf, ask, scrape } from "../support/scrape.ts";
import { until } from "../support/until.ts";

const WITH_RELAY = { LOCKSTEP_RELAY: "on" };

/** Until an endpoint answers with that status. @returns its body */
async function answers(url: string, path: string, status: number): Promise<string> {
  const { body } = await until(
    async () => {
      const answer = await ask(url, path);
      return answer.status === status && answer;
    },
    { what: `${path} to answer ${status}` },
  );
  return body;
}

/** Commits of every shard that no snapshot covers, left by a process that was killed. */
async function leaveReplay(deployment: Deployment): Promise<void> {
  deployment.start("killed");
  await deployment.untilRunning();
  await deployment.load({ total: 1_000 });
  await deployment.untilDrained();
  await deployment.kill("killed");
}

test("a process that runs is alive, ready and started, and says which build it is", () =>
  withDeployment({ app: "trading", env: WITH_RELAY }, async (deployment) => {
    deployment.start("one");
    await deployment.untilRunning();
    const url = await addressOf(deployment, "one");
    const body = await answers(url, "/readyz?verbose", 200);
    expect(body.trim().split("\n")).toEqual([
      ...["kafka", "migrations", "replay", "shards", "shutdown", "postgres", "relay"].map((name) => `[+]${name} ok`),
      "readyz check passed",
    ]);
    expect(await ask(url, "/livez?verbose")).toEqual({ status: 200, body: "[+]workers ok\nlivez check passed\n" });
    expect(await ask(url, "/startupz")).toEqual({ status: 200, body: "ok\n" });
    expect(await ask(url, "/healthz")).toEqual({ status: 200, body: "ok\n" });
    const { version, code, node } = JSON.parse((await ask(url, "/version")).body);
    expect([version, code, node]).toEqual([
      expect.any(String),
      expect.stringMatching(/^[0-9a-f]{16}$/),
      process.version,
    ]);
    expect((await scrape(url)).sum("lockstep_build_info", { version, code, node })).toBe(1);
    await deployment.stopAll();
  }));

test("replay under way: neither started nor ready, but alive; /metrics shows how far it is", () =>
  withDeployment({ app: "trading", env: { LOCKSTEP_BATCH_RECORDS_MAX: "20" } }, async (deployment) => {
    await leaveReplay(deployment);
    const [row] = await deployment.query<{ shard: number; seq: number }>(
      "SELECT shard, seq::int FROM lockstep.shard WHERE seq > 3 ORDER BY shard LIMIT 1",
    );
    const { shard, seq } = row!;
    deployment.start("replaying", { env: { LOCKSTEP_FAILPOINT: `restore.row:${seq - 1}:hang@${shard}` } });
    const url = await addressOf(deployment, "replaying");
    await until(() => deployment.running("replaying").length === deployment.shardCount - 1, {
      what: "all others to run",
    });

    const failed = new RegExp(`^\\[-\\]replay failed: shard ${shard} is being restored, \\d+ % replayed$`, "m");
    await until(async () => failed.test(await answers(url, "/readyz/replay", 503)), {
      what: "this shard alone to replay",
    });
    expect(await answers(url, "/startupz", 503)).toMatch(failed);
    expect((await ask(url, "/livez")).status).toBe(200);
    expect((await ask(url, "/readyz?exclude=replay")).status).toBe(200);
    const shown = await scrape(url);
    expect(shown.sum("lockstep_shard_state", { shard: String(shard), state: "restoring" })).toBe(1);
    expect(shown.samples.filter(({ name }) => name === "lockstep_restore_progress_ratio")).toMatchObject([
      { labels: { shard: String(shard) } },
    ]);
  }));

test("shard halted: not ready, with the code; alive and started all the same", () =>
  withDeployment({ app: "trading" }, async (deployment) => {
    await leaveReplay(deployment);
    const [row] = await deployment.query<{ shard: number }>(
      "DELETE FROM lockstep.journal WHERE (shard, seq) IN (SELECT shard, seq FROM lockstep.shard WHERE seq > 0 LIMIT 1) RETURNING shard",
    );
    const { shard } = row!;
    deployment.start("halted");
    const url = await addressOf(deployment, "halted");
    const body = await answers(url, "/readyz/shards", 503);
    const code = "POSITIONS_CONTRADICT"; // Kafka's offsets name a commit that the journal does not have
    expect(body).toContain(`[-]shards failed: shard ${shard} is halted: ${code}\n`);
    await answers(url, "/startupz", 200);
    expect((await ask(url, "/livez")).status).toBe(200);
    const shown = await scrape(url);
    expect(shown.sum("lockstep_shard_halted", { shard: String(shard), code })).toBe(1);
    expect(shown.sum("lockstep_shard_halts_total", { code })).toBe(1);
    expect(shown.sum("lockstep_asserts_failed_total", { name: code })).toBe(1);
    expect(shown.values("lockstep_shard_state", "state").sort()).toEqual(["halted", "running"]);
  }));

test("draining: not ready from SIGTERM on, before anything is drained; alive to the end", () =>
  withDeployment(
    { app: "trading", env: { LOCKSTEP_FAILPOINT: "release.start:1:hang@0", LOCKSTEP_DRAIN_MS: "8000" } },
    async (deployment) => {
      const process = deployment.start("one");
      await deployment.untilRunning();
      const url = await addressOf(deployment, "one");
      await answers(url, "/readyz", 200);
      process.signal("SIGTERM");
      await deployment.untilEvent("stopping");
      const { status, body } = await ask(url, "/readyz?verbose");
      expect([status, body]).toEqual([503, expect.stringContaining("[-]shutdown failed: draining\n")]);
      expect((await ask(url, "/livez")).status).toBe(200);
      expect((await process.exited).code).toBe(1); // one shard hangs, so not all was drained
    },
  ));

test("a relay alone has health and metrics of its own, and none of workers", () =>
  withDeployment({ app: "trading", env: WITH_RELAY }, async (deployment) => {
    deployment.start("relay", { command: ["relay", "run"] });
    const url = await addressOf(deployment, "relay");
    await until(async () => (await scrape(url)).sum("lockstep_relay_state", { state: "running" }) === 1, {
      what: "the relay to run",
    });
    expect(await answers(url, "/readyz?verbose", 200)).toContain("[+]relay ok\n");
    expect((await ask(url, "/livez")).status).toBe(200);
    const shown = await scrape(url);
    expect(shown.samples.some(({ name }) => name === "lockstep_replication_slot_lag_bytes")).toBe(true);
    expect(shown.samples.filter(({ name }) => name.startsWith("lockstep_worker_"))).toEqual([]);
    await deployment.stopAll();
  }));

test("a port that is taken ends the start, and says what to set", () =>
  withDeployment({ app: "trading" }, async (deployment) => {
    deployment.start("one");
    const { port } = new URL(await addressOf(deployment, "one"));
    const env = { ...deployment.env, LOCKSTEP_HTTP_PORT: port };
    const { code, stderr } = await command(globalThis.process.execPath, [MAIN, "run"], { env });
    expect(code).toBe(69);
    expect(stderr).toMatch(
      new RegExp(`^HTTP_UNAVAILABLE: .*127\\.0\\.0\\.1:${port}: it is in use.*LOCKSTEP_HTTP_PORT`, "m"),
    );
    await deployment.untilRunning();
    await deployment.stopAll();
  }));
