/**
 * A real Prometheus for a test: with our rules, on a free port, scraping the given targets every second.
 */
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { freePorts } from "../../src/stack/free-ports.ts";
import { ROOT } from "./deployment-settings.ts";
import type { PrometheusTools } from "./prometheus-tools.ts";
import { until } from "./until.ts";

const LINES_KEPT = 50;
const STOP_MS = 10_000;

export interface Series {
  readonly labels: Readonly<Record<string, string>>;
  /** Finite values only, in order of time. */
  readonly values: readonly number[];
}

export interface RuleState {
  readonly name: string;
  readonly type: "alerting" | "recording";
  readonly health: string;
  readonly lastError?: string;
  /** Of alerts: "inactive", "pending" or "firing". */
  readonly state?: string;
}

export interface Prometheus {
  readonly scrapeSeconds: number;
  /** What is at this time, in seconds since the Unix epoch; default: now. */
  instant(expr: string, atSeconds?: number): Promise<Series[]>;
  range(expr: string, span: { from: number; to: number; step: number }): Promise<Series[]>;
  labelValues(label: string, selector: string): Promise<string[]>;
  rules(): Promise<RuleState[]>;
}

export async function withPrometheus<T>(
  tools: PrometheusTools,
  targets: readonly string[],
  work: (prometheus: Prometheus) => Promise<T>,
): Promise<T> {
  await mkdir(join(ROOT, ".lockstep/tests"), { recursive: true });
  const folder = await mkdtemp(join(ROOT, ".lockstep/tests/prometheus-"));
  const scrapeSeconds = 1;
  await writeFile(join(folder, "prometheus.yml"), config(targets, scrapeSeconds));
  const [port] = await freePorts(1);
  const lines: string[] = [];
  const server = spawn(
    tools.prometheus,
    [
      `--config.file=${join(folder, "prometheus.yml")}`,
      `--storage.tsdb.path=${join(folder, "data")}`,
      `--web.listen-address=127.0.0.1:${port}`,
    ],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  server.stderr.on("data", (chunk: Buffer) => {
    lines.push(...chunk.toString().split("\n"));
    lines.splice(0, lines.length - LINES_KEPT);
  });
  const ended = new Promise<void>((resolve) => {
    server.once("close", () => resolve());
    server.once("error", (error) => {
      lines.push(String(error));
      resolve();
    });
  });
  try {
    const url = `http://127.0.0.1:${port}`;
    await until(async () => (await fetch(`${url}/-/ready`)).ok, { what: "Prometheus to be ready" }).catch((error) => {
      throw new Error(`Prometheus did not come up:\n${lines.join("\n")}`, { cause: error });
    });
    return await work(client(url, scrapeSeconds));
  } finally {
    server.kill("SIGTERM");
    const timer = setTimeout(() => server.kill("SIGKILL"), STOP_MS);
    await ended;
    clearTimeout(timer);
    await rm(folder, { recursive: true, force: true });
  }
}

/** JSON is YAML. The job has the name that the rules know. */
function config(targets: readonly string[], scrapeSeconds: number): string {
  const interval = `${scrapeSeconds}s`;
  return JSON.stringify({
    global: { scrape_interval: interval, scrape_timeout: interval, evaluation_interval: interval },
    rule_files: [join(ROOT, "ops/prometheus/rules/*.yml")],
    scrape_configs: [{ job_name: "lockstep", static_configs: [{ targets }] }],
  });
}

interface RawSeries {
  metric: Record<string, string>;
  value?: [number, string];
  values?: [number, string][];
}

function client(url: string, scrapeSeconds: number): Prometheus {
  const ask = async <R>(path: string, params: Record<string, string>): Promise<R> => {
    const answer = await fetch(`${url}/api/v1/${path}?${new URLSearchParams(params)}`);
    const body = (await answer.json()) as { status: string; error?: string; data: R };
    if (body.status !== "success") throw new Error(`${path} ${JSON.stringify(params)}: ${body.error}`);
    return body.data;
  };
  const query = async (path: string, params: Record<string, string>): Promise<Series[]> => {
    const { result } = await ask<{ result: RawSeries[] }>(path, params);
    return result.map(({ metric, value, values }) => ({
      labels: metric,
      values: (values ?? [value!]).map(([, text]) => Number(text)).filter(Number.isFinite),
    }));
  };
  return {
    scrapeSeconds,
    instant: (expr, at) => query("query", { query: expr, ...(at === undefined ? {} : { time: String(at) }) }),
    range: (expr, { from, to, step }) =>
      query("query_range", { query: expr, start: String(from), end: String(to), step: String(step) }),
    labelValues: (label, selector) => ask<string[]>(`label/${label}/values`, { "match[]": selector }),
    rules: async () =>
      (await ask<{ groups: { rules: RuleState[] }[] }>("rules", {})).groups.flatMap(({ rules }) => rules),
  };
}
