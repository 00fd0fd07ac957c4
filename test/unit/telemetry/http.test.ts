import { afterAll, beforeAll, describe, expect, test } from "vitest";

import type { Log } from "../../../src/log.ts";
import { createExposition } from "../../../src/telemetry/exposition.ts";
import { answerHealth, type Check, latched, sparing } from "../../../src/telemetry/health.ts";
import { type HttpServer, startHttpServer } from "../../../src/telemetry/http.ts";
import { Series } from "../../../src/telemetry/series.ts";
import { Totals } from "../../../src/telemetry/totals.ts";

const silent: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };
const fine = (name: string): Check => ({ name, run: () => null });
const failing = (name: string, why: string): Check => ({ name, run: async () => why });

describe("health", () => {
  const checks = [fine("kafka"), failing("postgres", "it is away")];

  test("is told by the status, and says what failed without being asked", async () => {
    expect(await answerHealth("readyz", [fine("kafka")], { verbose: false })).toEqual({ status: 200, body: "ok\n" });
    const { status, body } = await answerHealth("readyz", checks, { verbose: false });
    expect(status).toBe(503);
    expect(body).toBe("[+]kafka ok\n[-]postgres failed: it is away\nreadyz check failed\n");
  });

  test("lists every check when asked", async () => {
    const { body } = await answerHealth("livez", [fine("workers")], { verbose: true });
    expect(body).toBe("[+]workers ok\nlivez check passed\n");
  });

  test("is told of one check alone, or without some", async () => {
    expect(await answerHealth("readyz", checks, { verbose: false, only: "kafka" })).toMatchObject({ status: 200 });
    expect(await answerHealth("readyz", checks, { verbose: false, only: "postgres" })).toMatchObject({ status: 503 });
    const without = await answerHealth("readyz", checks, { verbose: true, exclude: ["postgres"] });
    expect(without).toEqual({ status: 200, body: "[+]kafka ok\n[+]postgres excluded: ok\nreadyz check passed\n" });
    expect(await answerHealth("readyz", checks, { verbose: false, only: "kafak" })).toMatchObject({ status: 404 });
  });

  test("asks a sparing check once in its time, however many ask", async () => {
    let asked = 0;
    let now = 0;
    const check = sparing({ name: "postgres", run: async () => String(++asked) }, 1_000, () => now);
    expect(await Promise.all([check.run(), check.run()])).toEqual(["1", "1"]);
    now = 999;
    expect(await check.run()).toBe("1");
    now = 1_000;
    expect(await check.run()).toBe("2");
  });

  test("once started stays started, and not before all checks were fine at once", async () => {
    const why = { kafka: null as string | null, replay: "shard 1 is being restored" as string | null };
    const started = latched([
      { name: "kafka", run: () => why.kafka },
      { name: "replay", run: () => why.replay },
    ]);
    const status = async () => (await answerHealth("startupz", started, { verbose: false })).status;
    expect(await status()).toBe(503);
    Object.assign(why, { kafka: "gone", replay: null });
    expect(await status()).toBe(503);
    Object.assign(why, { kafka: null });
    expect(await status()).toBe(200);
    Object.assign(why, { kafka: "gone", replay: "again" });
    expect(await status()).toBe(200);
  });
});

describe("the server", () => {
  const totals = new Totals();
  const series = new Series();
  const options = {
    host: "127.0.0.1",
    log: silent,
    exposition: createExposition({
      labels: { app: "trading", group: "g" },
      samples: (name) => totals.samples(name),
      refresh: () => totals.accept("main", series.take()),
    }),
    checks: { livez: [fine("workers")], readyz: [failing("shutdown", "draining")], startupz: [fine("replay")] },
    version: { version: "1.2.3" },
  };
  let server: HttpServer;
  const get = (path: string, init?: RequestInit) => fetch(`${server.url}${path}`, init);

  beforeAll(async () => {
    server = await startHttpServer({ ...options, port: 0 });
  });
  afterAll(() => server.close());

  test("answers each endpoint by its state", async () => {
    for (const [path, status] of [
      ["/livez", 200],
      ["/readyz", 503],
      ["/healthz", 503],
      ["/readyz/shutdown", 503],
      ["/readyz?exclude=shutdown", 200],
      ["/startupz?verbose", 200],
      ["/version", 200],
      ["/", 200],
      ["/nothing", 404],
      ["/livez/workers/more", 404],
      ["/metrics/x", 404],
      ["//", 404],
    ] as const)
      expect([path, (await get(path)).status]).toEqual([path, status]);
    expect(await (await get("/version")).json()).toEqual({ version: "1.2.3" });
    expect((await get("/livez", { method: "POST" })).status).toBe(405);
    expect(await (await get("/livez", { method: "HEAD" })).text()).toBe("");
  });

  test("shows metrics in Prometheus' text format, with the labels of the process, values escaped", async () => {
    series.add("lockstep_dlq_records_total", { topic: 'a"\\\n', reason: "X" }, 2);
    series.observe("lockstep_commit_records", {}, 3);
    const answer = await get("/metrics");
    expect(answer.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
    const lines = (await answer.text()).split("\n");
    expect(lines).toContain("# TYPE lockstep_dlq_records_total counter");
    expect(lines).toContain('lockstep_dlq_records_total{topic="a\\"\\\\\\n",reason="X",app="trading",group="g"} 2');
    expect(lines).toContain('lockstep_commit_records_bucket{le="5",app="trading",group="g"} 1');
    expect(lines).toContain('lockstep_commit_records_bucket{le="2",app="trading",group="g"} 0');
    expect(lines).toContain('lockstep_commit_records_sum{app="trading",group="g"} 3');
    expect(lines.some((line) => line.startsWith("process_resident_memory_bytes{"))).toBe(true);
  });

  test("says what to do when the port is taken", async () => {
    const port = Number(new URL(server.url).port);
    await expect(startHttpServer({ ...options, port })).rejects.toMatchObject({
      code: "HTTP_UNAVAILABLE",
      message: expect.stringMatching(/127\.0\.0\.1:\d+: it is in use.*LOCKSTEP_HTTP_PORT/),
    });
    await expect(startHttpServer({ ...options, host: "203.0.113.1", port: 0 })).rejects.toMatchObject({
      code: "HTTP_UNAVAILABLE",
      message: expect.stringMatching(/LOCKSTEP_HTTP_HOST/),
    });
  });
});
