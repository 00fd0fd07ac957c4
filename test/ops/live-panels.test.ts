/**
 * A real Prometheus scrapes a real run: two processes of the trading app under load. The first loses answers of Postgres, Kafka and
 * the relay on the way; the second joins, leaves, joins again, is killed, and is stopped for longer than its session. Rows are set
 * aside and pruned. Then every query of every board is asked, as Grafana would ask it, and must return data.
 *
 * What is quiet while all is well is listed in quiet-panels.ts. The table of all queries, with what Prometheus returned, is printed.
 */
import { spawnSync } from "node:child_process";
import { beforeAll, describe, expect, test } from "vitest";

import { freePorts } from "../../src/stack/free-ports.ts";
import { annotationQueries, type BoardQuery, boardQueries, variableQueries } from "../support/board-queries.ts";
import { FaultLoad } from "../support/fault-load.ts";
import { type Deployment, withDeployment } from "../support/harness.ts";
import { type Prometheus, type RuleState, type Series, withPrometheus } from "../support/prometheus-server.ts";
import { type PrometheusTools, prometheusTools } from "../support/prometheus-tools.ts";
import { until } from "../support/until.ts";
import { PANELS_QUIET, type QuietPanel, RECORDINGS_QUIET } from "./quiet-panels.ts";

/** Enough for every rate to see several scrapes between two events. */
const SCRAPES_BETWEEN = 8;
/** Between a commit in Postgres and its publication: the next owner has redo to publish. */
const KILLED_AT = "pg.committed:40:kill";
const WAIT_MS = 120_000;
/** As prom-client and kafka_exporter have them; and the app's `count` routes are counters, so their metric may say so. */
const REMARKS_ALLOWED = /^(?:nodejs|process|kafka)_|^lockstep_app_counter_total .* should not include type 'counter'$/;
/** Answers that the process which lives all the time does not get: outcomes that it has to find out, a relay that has to begin again. */
const LOST_ANSWERS = "pg.commit-sent:60:throw,kafka.before-end:120:throw,relay.before-publish:40:throw";
const SETTINGS = {
  /** Snapshots of shards that stay where they are; the default is a minute. */
  LOCKSTEP_SNAPSHOT_MS: "15000",
  LOCKSTEP_RELAY: "on",
  LOCKSTEP_OUTBOX_KEEP_MS: "10000",
  /** Less than the load has keys, so that some actors have no series of their own. */
  LOCKSTEP_METRICS_ACTORS_MAX: "10",
};
/** Larger than any record of the orders topic may be. */
const ROW_BYTES = 4_000_000;

interface Answer {
  readonly query: BoardQuery;
  readonly series: readonly Series[];
  readonly quiet: QuietPanel | undefined;
}

interface Findings {
  readonly answers: readonly Answer[];
  readonly variables: readonly { readonly name: string; readonly values: readonly string[] }[];
  readonly rules: readonly RuleState[];
  readonly recordings: readonly { readonly name: string; readonly series: readonly Series[] }[];
  /** What /metrics said at the end. */
  readonly exposition: string;
}

let found: Findings;
let tools: PrometheusTools;

beforeAll(async () => {
  tools = await prometheusTools((line) => console.log(line));
  const ports = await freePorts(2);
  found = await withDeployment({ app: "trading", env: SETTINGS }, (deployment) =>
    withPrometheus(
      tools,
      ports.map((port) => `127.0.0.1:${port}`),
      async (prometheus) => {
        const from = nowSeconds();
        await eventfulRun(deployment, prometheus, ports);
        const answers = await ask(prometheus, { app: "trading", group: deployment.groupId, from, to: nowSeconds() });
        return { ...answers, exposition: await (await fetch(`http://127.0.0.1:${ports[0]}/metrics`)).text() };
      },
    ),
  );
  console.log(tableOf(found, tools));
});

describe("every query of every board", () => {
  test("returns data from a run with load, rebalances and a kill, or is listed with its reason", () => {
    expect(found.answers.filter(isSilent).map(({ query }) => nameOf(query))).toEqual([]);
  });

  test("finds something else than zeros, or is listed with its reason", () => {
    expect(found.answers.filter(isFlat).map(({ query }) => nameOf(query))).toEqual([]);
  });

  test("can be asked: each variable has values to choose from", () => {
    expect(found.variables.filter(({ values }) => values.length === 0)).toEqual([]);
  });
});

describe("/metrics", () => {
  test("is as promtool wants it", () => {
    const { stdout, stderr } = spawnSync(tools.promtool, ["check", "metrics"], {
      input: found.exposition,
      encoding: "utf8",
    });
    const remarks = `${stdout}${stderr}`.split("\n").filter(Boolean);
    expect(remarks.filter((remark) => !REMARKS_ALLOWED.test(remark))).toEqual([]);
  });
});

describe("the rules", () => {
  test("are evaluated without an error", () => {
    expect(found.rules.length).toBeGreaterThan(30);
    expect(found.rules.filter(({ health }) => health !== "ok")).toEqual([]);
  });

  test("record something", () => {
    const silent = found.recordings.filter(({ series }) => series.every(({ values }) => values.length === 0));
    expect(silent.map(({ name }) => name).filter((name) => !(name in RECORDINGS_QUIET))).toEqual([]);
  });

  test("report no halted shard and no failed assert of a run in which there was none", () => {
    const wrong = ["LockstepShardHalted", "LockstepAssertFailed", "LockstepStepsKilled", "LockstepRelayHalted"];
    expect(found.rules.filter(({ name, state }) => wrong.includes(name) && state !== "inactive")).toEqual([]);
  });
});

/**
 * One process works all the time; the other joins, leaves in order, joins again and is killed in the middle of a commit, and then is
 * stopped for as long as it takes the group to give its shards away.
 */
async function eventfulRun(deployment: Deployment, prometheus: Prometheus, ports: readonly number[]): Promise<void> {
  const [steady, other] = ports.map((port) => ({ LOCKSTEP_HTTP_PORT: String(port) }));
  await deployment.query("ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'");
  await deployment.query("SELECT pg_reload_conf()");
  deployment.start("steady", { env: { ...steady!, LOCKSTEP_FAILPOINT: LOST_ANSWERS } });
  await deployment.untilRunning();
  const load = new FaultLoad(deployment);
  load.resume();
  await scrapes(prometheus);

  deployment.start("guest", { env: other! });
  await shared(deployment, "guest");
  await scrapes(prometheus);
  await deployment.stop("guest");
  await deployment.untilRunning();
  await scrapes(prometheus);

  const victim = deployment.start("victim", { env: { ...other!, LOCKSTEP_FAILPOINT: KILLED_AT } });
  await deployment.untilTrue(() => victim.ended, "the victim to meet its end", { timeoutMs: WAIT_MS });
  await deployment.untilRunning();
  await scrapes(prometheus);

  const sleeper = deployment.start("sleeper", { env: other! });
  await shared(deployment, "sleeper");
  await setRowAside(deployment);
  await scrapes(prometheus);
  sleeper.signal("SIGSTOP");
  await deployment.untilTrue(
    () => deployment.running("steady").length === deployment.shardCount,
    "the other's shards to be given to the one that works",
    { timeoutMs: WAIT_MS },
  );
  await scrapes(prometheus);
  sleeper.signal("SIGCONT");
  await deployment.untilEvent("lost", { process: "sleeper", timeoutMs: WAIT_MS });
  await shared(deployment, "sleeper");
  await scrapes(prometheus);
  await load.end();
  await deployment.untilDrained();
  await scrapes(prometheus);
}

/** Somebody writes a row that the orders topic cannot take. */
async function setRowAside(deployment: Deployment): Promise<void> {
  await deployment.query(
    `INSERT INTO app.outbox (event_id, aggregate_type, aggregate_id, type, payload, occurred_at)
     VALUES (gen_random_uuid(), 'order', gen_random_uuid(), 'order.created', to_jsonb(repeat('x', $1)), now())`,
    [ROW_BYTES],
  );
}

/** Until all shards run, some of them in that process. */
async function shared(deployment: Deployment, name: string): Promise<void> {
  await deployment.untilTrue(
    () => deployment.running(name).length > 0 && deployment.running().length === deployment.shardCount,
    `${name} to have its share of the shards`,
    { timeoutMs: WAIT_MS },
  );
}

/** Until Prometheus has scraped often enough for what happened before to be seen in every rate. */
async function scrapes(prometheus: Prometheus): Promise<void> {
  const began = nowSeconds();
  const wanted = `count_over_time(up{job="lockstep"}[1h]) and timestamp(up{job="lockstep"}) >= ${began + SCRAPES_BETWEEN * prometheus.scrapeSeconds}`;
  await until(async () => (await prometheus.instant(wanted)).length > 0, { what: "scrapes", timeoutMs: WAIT_MS });
}

async function ask(
  prometheus: Prometheus,
  run: { app: string; group: string; from: number; to: number },
): Promise<Omit<Findings, "exposition">> {
  const step = prometheus.scrapeSeconds;
  const values: Record<string, string> = {
    $__rate_interval: `${4 * step}s`, // as Grafana has it: four scrapes
    $__range: `${Math.ceil(run.to - run.from)}s`,
    $actor_type: ".*",
    $key: ".*",
    $app: run.app,
    $group: run.group,
  };
  const filled = (text: string): string =>
    Object.entries(values).reduce((all, [name, value]) => all.replaceAll(name, value), text);
  const range = (expr: string) => prometheus.range(expr, { from: run.from, to: run.to, step });

  const answers: Answer[] = [];
  for (const query of [...boardQueries(), ...annotationQueries()]) {
    const expr = filled(query.expr);
    const series = query.instant ? await prometheus.instant(expr, run.to) : await range(expr);
    answers.push({ query, series, quiet: quietOf(query) });
  }
  const variables = [];
  for (const { board, variable, label, selector } of variableQueries()) {
    variables.push({ name: `${board} $${variable}`, values: await prometheus.labelValues(label, filled(selector)) });
  }
  const rules = await prometheus.rules();
  const recordings = [];
  for (const { name } of rules.filter(({ type }) => type === "recording")) {
    recordings.push({ name, series: await range(name) });
  }
  return { answers, variables, rules, recordings };
}

function quietOf(query: BoardQuery): QuietPanel | undefined {
  return PANELS_QUIET.find(
    ({ board, panel, legend }) => board === query.board && panel === query.panel && legend === query.legend,
  );
}

function isSilent({ series, quiet }: Answer): boolean {
  return quiet?.quiet !== "empty" && series.every(({ values }) => values.length === 0);
}

function isFlat(answer: Answer): boolean {
  return (
    answer.quiet === undefined &&
    !isSilent(answer) &&
    answer.series.every(({ values }) => values.every((value) => value === 0))
  );
}

function nameOf({ board, panel, legend }: BoardQuery): string {
  return `${board} / ${panel}${legend ? ` / ${legend}` : ""}`;
}

/** One line a query: how many series and samples, their least and greatest value, and the last one of the largest series. */
function tableOf({ answers, variables, rules, recordings }: Findings, tools: PrometheusTools): string {
  const rows = answers.map(({ query, series, quiet }) => {
    const all = series.flatMap(({ values }) => values);
    const least = all.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
    const greatest = all.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
    const last = series
      .map(({ values }) => values.at(-1) ?? 0)
      .reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
    const figures = all.length === 0 ? ["-", "-", "-"] : [least, greatest, last].map(shortened);
    return [
      nameOf(query),
      String(series.length),
      String(all.length),
      ...figures,
      quiet ? `${quiet.quiet}: ${quiet.why}` : "",
    ];
  });
  const firing = rules
    .filter(({ state }) => state === "firing" || state === "pending")
    .map(({ name, state }) => `${name} ${state}`);
  return [
    `Prometheus ${tools.version}: ${answers.length} queries`,
    aligned([["query", "series", "samples", "least", "greatest", "last", "quiet while all is well"], ...rows]),
    "",
    aligned([["variable", "values"], ...variables.map(({ name, values }) => [name, values.slice(0, 8).join(" ")])]),
    "",
    aligned([["recorded", "series"], ...recordings.map(({ name, series }) => [name, String(series.length)])]),
    "",
    `alerts at the end: ${firing.join(", ") || "none"}`,
  ].join("\n");
}

function aligned(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function shortened(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toPrecision(3);
}

function nowSeconds(): number {
  return Date.now() / 1_000;
}
