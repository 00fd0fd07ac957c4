/**
 * What a process shows on `/metrics` and answers about its health, read as strictly as Prometheus' text format is written.
 */
import type { Deployment } from "./harness.ts";
import { until } from "./until.ts";

export interface Scraped {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Scrape {
  /** Metric -> type, in the order shown. */
  readonly types: ReadonlyMap<string, string>;
  readonly samples: readonly Scraped[];
  /** Sum of the samples of that name whose labels are as given; 0 when there is none. */
  sum(name: string, labels?: Readonly<Record<string, string>>): number;
  /** Values of one label of a metric, each once, ascending. */
  values(name: string, label: string): string[];
}

/** Address of a process' HTTP server, as its log has it. */
export async function addressOf(deployment: Deployment, process: string): Promise<string> {
  const { events } = deployment;
  const line = await until(
    () => events.findLast((each) => each.process === process && each.event === "http-listening"),
    { what: `the address of ${process}` },
  );
  return String(line["url"]);
}

export async function scrape(url: string): Promise<Scrape> {
  const answer = await fetch(`${url}/metrics`);
  if (answer.status !== 200) throw new Error(`/metrics answered ${answer.status}`);
  return parseExposition(await answer.text());
}

export async function ask(url: string, path: string): Promise<{ status: number; body: string }> {
  const answer = await fetch(`${url}${path}`);
  return { status: answer.status, body: await answer.text() };
}

const NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*";
const SAMPLE = new RegExp(`^(${NAME})(?:\\{(.*)\\})? (\\S+)$`);
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/y;
const SUFFIXES: Readonly<Record<string, readonly string[]>> = {
  counter: [""],
  gauge: [""],
  histogram: ["_bucket", "_sum", "_count"],
  summary: ["", "_sum", "_count"],
};

/** @throws {Error} the text is not in the format: a sample outside of its metric, a series shown twice, buckets that fall */
export function parseExposition(text: string): Scrape {
  if (!text.endsWith("\n")) throw new Error("the last line has no end");
  const types = new Map<string, string>();
  const helped = new Set<string>();
  const samples: Scraped[] = [];
  const seen = new Set<string>();
  let current = "";
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const comment = new RegExp(`^# (HELP|TYPE) (${NAME}) (.*)$`).exec(line);
    if (comment) {
      const [, kind, name, rest] = comment as unknown as [string, string, string, string];
      if (kind === "HELP") {
        if (helped.has(name)) throw new Error(`${name} is described twice`);
        helped.add(name);
      } else {
        if (types.has(name) || !(rest in SUFFIXES)) throw new Error(`a second or unknown type: ${line}`);
        types.set(name, rest);
      }
      current = name;
      continue;
    }
    const match = SAMPLE.exec(line);
    if (!match) throw new Error(`no sample: ${line}`);
    const [, name, inner = "", number] = match as unknown as [string, string, string | undefined, string];
    const suffixes = SUFFIXES[types.get(current) ?? ""] ?? [];
    if (!suffixes.some((suffix) => current + suffix === name)) throw new Error(`outside of its metric: ${line}`);
    // Prometheus reads NaN in any case; prom-client writes Nan, of a mean of nothing.
    const value = number === "+Inf" ? Number.POSITIVE_INFINITY : Number(number);
    if (Number.isNaN(value) && number.toLowerCase() !== "nan") throw new Error(`no number: ${line}`);
    const labels = parseLabels(inner, line);
    const id = name + JSON.stringify(Object.entries(labels).sort());
    if (seen.has(id)) throw new Error(`shown twice: ${line}`);
    seen.add(id);
    samples.push({ name, labels, value });
  }
  checkHistograms(types, samples);
  const has = (sample: Scraped, labels: Readonly<Record<string, string>>) =>
    Object.entries(labels).every(([label, value]) => sample.labels[label] === value);
  return {
    types,
    samples,
    sum: (name, labels = {}) =>
      samples.filter((one) => one.name === name && has(one, labels)).reduce((sum, { value }) => sum + value, 0),
    values: (name, label) =>
      [...new Set(samples.filter((one) => one.name === name).map(({ labels }) => labels[label]!))].sort(),
  };
}

function parseLabels(text: string, line: string): Record<string, string> {
  const labels: Record<string, string> = {};
  LABEL.lastIndex = 0;
  while (LABEL.lastIndex < text.length) {
    const match = LABEL.exec(text);
    if (!match || match[1]! in labels) throw new Error(`no labels: ${line}`);
    labels[match[1]!] = match[2]!.replace(/\\(.)/g, (_, c: string) => (c === "n" ? "\n" : c));
  }
  return labels;
}

function checkHistograms(types: ReadonlyMap<string, string>, samples: readonly Scraped[]): void {
  for (const [name, type] of types) {
    if (type !== "histogram") continue;
    const groups = new Map<string, { last: number; value: number }>();
    const idOf = ({ le: _, ...labels }: Record<string, string>) => JSON.stringify(labels);
    for (const { labels, value } of samples.filter((one) => one.name === `${name}_bucket`)) {
      const bound = labels["le"] === "+Inf" ? Number.POSITIVE_INFINITY : Number(labels["le"]);
      const before = groups.get(idOf(labels)) ?? { last: Number.NEGATIVE_INFINITY, value: 0 };
      if (!(bound > before.last) || value < before.value) throw new Error(`buckets of ${name} fall`);
      groups.set(idOf(labels), { last: bound, value });
    }
    for (const { labels, value } of samples.filter((one) => one.name === `${name}_count`)) {
      const all = groups.get(idOf(labels));
      if (all?.last !== Number.POSITIVE_INFINITY || all.value !== value) throw new Error(`count of ${name} differs`);
    }
  }
}
