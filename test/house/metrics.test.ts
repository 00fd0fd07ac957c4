/**
 * docs/metrics.md and src/telemetry/metrics-list.ts tell of the same metrics, and their names follow the rules.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

import { METRICS, type MetricDefinition } from "../../src/telemetry/metrics-list.ts";
import { ROOT } from "./source-files.ts";

type List = Readonly<Record<string, Pick<MetricDefinition, "type" | "labels">>>;

/** Rows of the form | `name` | type | labels | meaning | absent | */
function docFaults(list: List, markdown: string): string[] {
  const rows = markdown
    .split("\n")
    .filter((line) => /^\|\s*`[a-z_]+`/.test(line))
    .map((line) =>
      line
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
  const names = rows.map(([name]) => name!.replaceAll("`", ""));
  const faults = rows.flatMap(([, type, labels, meaning, absent, ...more], index) => {
    const name = names[index]!;
    const metric = list[name];
    if (metric === undefined) return [`${name} is listed, but is no metric`];
    if (names.indexOf(name) !== index) return [`${name} is listed twice`];
    if (metric.type !== type) return [`${name} is a ${metric.type}, the list says ${type}`];
    if (metric.labels.join(", ") !== labels) return [`${name} has the labels ${metric.labels.join(", ") || "none"}`];
    return meaning && absent && more.length === 0 ? [] : [`${name} wants a meaning, and when it is absent`];
  });
  return [...faults, ...Object.keys(list).flatMap((name) => (names.includes(name) ? [] : [`${name} is not listed`]))];
}

/** Labels that every series has, or that Prometheus gives. */
const TAKEN_LABELS = ["app", "group", "instance", "job", "le"];

function nameFaults(list: List): string[] {
  return Object.entries(list).flatMap(([name, { type, labels }]) => [
    ...(/^(lockstep|kafka)_[a-z]+(_[a-z]+)*$/.test(name) ? [] : [`${name} is no name of ours`]),
    ...((type === "counter") === name.endsWith("_total") ? [] : [`${name}: counters, and nothing else, end in _total`]),
    ...(/_(ms|millis|minutes|kb|mb|percent)$/.test(name) ? [`${name} is in no base unit`] : []),
    ...(/_timestamp(?!_seconds)/.test(name) ? [`${name}: a time is in seconds`] : []),
    ...labels.filter((label) => TAKEN_LABELS.includes(label)).map((label) => `${name} cannot have a label ${label}`),
  ]);
}

describe("docs/metrics.md", () => {
  test("lists every metric, with type, labels, meaning and when it is absent, and no other", () => {
    expect(docFaults(METRICS, readFileSync(join(ROOT, "docs/metrics.md"), "utf8"))).toEqual([]);
  });

  test("names of metrics follow the rules", () => {
    expect(nameFaults(METRICS)).toEqual([]);
  });
});

describe("the check finds", () => {
  const list: List = {
    lockstep_a_total: { type: "counter", labels: ["x", "y"] },
    lockstep_b: { type: "gauge", labels: [] },
  };
  const good = "| `lockstep_a_total` | counter | x, y | why | never |\n| `lockstep_b` | gauge | | why | never |";
  test("nothing wrong in a good list", () => expect(docFaults(list, good)).toEqual([]));
  test.each([
    ["a metric that is not listed", good.split("\n")[0]!],
    ["a listed one that is no metric", `${good}\n| \`lockstep_c\` | gauge | | why | never |`],
    ["another type", good.replace("gauge", "counter")],
    ["other labels", good.replace("x, y", "x")],
    ["a metric listed twice", `${good}\n| \`lockstep_b\` | gauge | | why | never |`],
    ["a missing meaning", good.replace("| | why |", "| | |")],
  ])("%s", (_what, markdown) => expect(docFaults(list, markdown)).toHaveLength(1));

  test.each([
    ["a counter without _total", { lockstep_x: { type: "counter", labels: [] } }],
    ["a gauge with _total", { lockstep_x_total: { type: "gauge", labels: [] } }],
    ["milliseconds", { lockstep_x_ms: { type: "gauge", labels: [] } }],
    ["a label that Prometheus gives", { lockstep_x: { type: "gauge", labels: ["instance"] } }],
    ["another prefix", { x_total: { type: "counter", labels: [] } }],
  ] as [string, List][])("%s", (_what, bad) => expect(nameFaults(bad)).toHaveLength(1));
});
