/**
 * ops/ and the code agree: the boards' JSON is what the code builds, and boards, rules and runbooks speak of metrics, anchors and
 * alerts that exist. Whether the queries find anything is for `npm run test:ops`, which asks a real Prometheus.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

import { BOARDS, boardJson } from "../../ops/grafana/index.ts";
import { NODE_METRICS } from "../../ops/grafana/node-metrics.ts";
import { METRICS } from "../../src/telemetry/metrics-list.ts";
import { PANELS_QUIET } from "../ops/quiet-panels.ts";
import { annotationQueries, boardQueries } from "../support/board-queries.ts";
import { ROOT } from "./source-files.ts";

const RULES = join(ROOT, "ops/prometheus/rules");
const TESTS = join(ROOT, "ops/prometheus/tests");

/** Everything that /metrics can have: a histogram has three series, a summary two more. */
function shownNames(): Set<string> {
  const names = Object.entries(METRICS).flatMap(([name, { type }]) => {
    if (type === "histogram") return [`${name}_bucket`, `${name}_sum`, `${name}_count`];
    return type === "summary" ? [name, `${name}_sum`, `${name}_count`] : [name];
  });
  return new Set([...names, ...NODE_METRICS, "up"]);
}

/** Names in PromQL: what is no function, keyword, label or duration. Metrics of ours, of Kafka and of Node.js have these beginnings. */
function metricNames(text: string): string[] {
  return [...new Set(text.match(/\b(?:lockstep|kafka|nodejs|process)_[a-z0-9_]+\b(?!:)/g))];
}

interface Alert {
  readonly name: string;
  /** The lines of the rule. */
  readonly text: string;
}

function alertsOf(yaml: string): Alert[] {
  return yaml
    .split(/^ {6}- (?=alert: |record: )/m)
    .slice(1)
    .filter((text) => text.startsWith("alert: "))
    .map((text) => ({ name: /^alert: (\w+)/.exec(text)![1]!, text }));
}

/** GitHub's anchors: lower case, spaces as dashes, other signs gone. */
function anchorsOf(markdown: string): Set<string> {
  return new Set(
    [...markdown.matchAll(/^#+ (.+)$/gm)].map(([, title]) =>
      title!
        .toLowerCase()
        .replace(/[^\w\- ]/g, "")
        .replaceAll(" ", "-"),
    ),
  );
}

function alertFaults(alert: Alert, anchors: ReadonlySet<string>): string[] {
  const value = (key: string): string => new RegExp(`^ +${key}: (.+)$`, "m").exec(alert.text)?.[1] ?? "";
  const anchor = /^docs\/runbooks\.md#(\S+)$/.exec(value("runbook_url"))?.[1];
  return [
    ...(["critical", "warning"].includes(value("severity")) ? [] : ["has no severity"]),
    ...(value("summary") && value("description") ? [] : ["wants a summary and a description"]),
    ...(anchor !== undefined && anchors.has(anchor) ? [] : [`has a runbook_url that leads nowhere`]),
  ].map((fault) => `${alert.name} ${fault}`);
}

/** Of a file of promtool's tests: alert -> whether it was expected to fire, and not to. */
function expectations(yaml: string): Map<string, Set<"fires" | "does not fire">> {
  const found = new Map<string, Set<"fires" | "does not fire">>();
  for (const [, name, alerts] of yaml.matchAll(/alertname: (\w+)\n +exp_alerts:(.*)/g)) {
    found.set(name!, (found.get(name!) ?? new Set()).add(alerts!.trim() === "[]" ? "does not fire" : "fires"));
  }
  return found;
}

function filesIn(folder: string): { name: string; text: string }[] {
  return readdirSync(folder).map((name) => ({ name, text: readFileSync(join(folder, name), "utf8") }));
}

const alerts = filesIn(RULES).flatMap(({ text }) => alertsOf(text));
const runbooks = readFileSync(join(ROOT, "docs/runbooks.md"), "utf8");

describe("the boards", () => {
  test.each(Object.keys(BOARDS) as (keyof typeof BOARDS)[])(
    "%s.json is what the code builds (npm run dashboards)",
    (name) => {
      expect(readFileSync(join(ROOT, `ops/grafana/dashboards/${name}.json`), "utf8")).toBe(boardJson(name));
    },
  );

  test("are all there, and no others", () => {
    const files = readdirSync(join(ROOT, "ops/grafana/dashboards"));
    expect(files.sort()).toEqual(
      Object.keys(BOARDS)
        .map((name) => `${name}.json`)
        .sort(),
    );
  });

  test("have a stable uid, ids of their own for all panels, and titles that tell them apart", () => {
    const boards = Object.values(BOARDS).map((build) => build());
    expect(new Set(boards.map(({ uid }) => uid)).size).toBe(boards.length);
    for (const { uid, tags, panels = [] } of boards) {
      expect(uid).toMatch(/^lockstep-[a-z]+$/);
      expect(tags).toContain("lockstep");
      expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
      const named = panels.filter(({ type }) => type !== "row");
      expect(new Set(named.map(({ type, title }) => `${type} ${title}`)).size).toBe(named.length);
    }
  });

  test("ask the data source of their variable, and say units and what a panel means", () => {
    for (const build of Object.values(BOARDS)) {
      for (const panel of (build().panels ?? []).filter(({ type }) => type !== "row")) {
        if (!("targets" in panel)) throw new Error(`${panel.title} asks nothing`);
        expect(panel.description, panel.title).toMatch(/\.$/);
        expect(panel.fieldConfig?.defaults.unit, panel.title).toBeTruthy();
        // biome-ignore lint/suspicious/noTemplateCurlyInString: Grafana's variable
        for (const target of panel.targets!) expect(target).toMatchObject({ datasource: { uid: "${datasource}" } });
      }
    }
  });

  test("show only metrics that there are", () => {
    const names = [...boardQueries(), ...annotationQueries()].flatMap(({ expr }) => metricNames(expr));
    expect(names.length).toBeGreaterThan(60);
    expect(names.filter((name) => !shownNames().has(name))).toEqual([]);
  });

  test("have the panels that the list of quiet ones names", () => {
    const there = new Set(
      [...boardQueries(), ...annotationQueries()].map(({ board, panel, legend }) => `${board} / ${panel} / ${legend}`),
    );
    expect(PANELS_QUIET.filter(({ board, panel, legend }) => !there.has(`${board} / ${panel} / ${legend}`))).toEqual(
      [],
    );
  });
});

describe("the rules", () => {
  test("speak only of metrics that there are", () => {
    const texts = [...filesIn(RULES), ...filesIn(TESTS)];
    const unknown = texts.flatMap(({ name, text }) =>
      metricNames(text)
        .filter((metric) => !shownNames().has(metric))
        .map((metric) => `${name}: ${metric}`),
    );
    expect(unknown).toEqual([]);
  });

  test("have severity, summary, description and a runbook", () => {
    expect(alerts.length).toBeGreaterThan(20);
    expect(alerts.flatMap((alert) => alertFaults(alert, anchorsOf(runbooks)))).toEqual([]);
  });

  test("of alerts have each a test in which it fires, and one in which it does not", () => {
    const tested = filesIn(TESTS).map(({ text }) => expectations(text));
    const missing = alerts.flatMap(({ name }) =>
      (["fires", "does not fire"] as const)
        .filter((outcome) => !tested.some((file) => file.get(name)?.has(outcome)))
        .map((outcome) => `no test in which ${name} ${outcome}`),
    );
    expect(missing).toEqual([]);
  });

  test("are what the runbooks are about: no section without an alert", () => {
    const sections = [...runbooks.matchAll(/^### (.+)$/gm)].map(([, title]) => title!);
    expect(sections.sort()).toEqual(alerts.map(({ name }) => name).sort());
  });
});

describe("the checks find", () => {
  const alert = (changes: Record<string, string> = {}): Alert => {
    const values = {
      severity: "critical",
      summary: "S",
      description: "D",
      runbook_url: "docs/runbooks.md#a",
      ...changes,
    };
    return {
      name: "A",
      text: Object.entries(values)
        .map(([key, value]) => `          ${key}: ${value}\n`)
        .join(""),
    };
  };
  const anchors = anchorsOf("# Runbooks\n\n### A\n");

  test("nothing wrong in a good alert", () => expect(alertFaults(alert(), anchors)).toEqual([]));
  test.each([
    [{ severity: "urgent" }],
    [{ summary: "" }],
    [{ runbook_url: "docs/runbooks.md#b" }],
    [{ runbook_url: "docs/errors.md#a" }],
  ])("what an alert lacks: %o", (changes) => expect(alertFaults(alert(changes), anchors)).toHaveLength(1));

  test("names of metrics, and leaves recorded ones", () => {
    const text =
      "sum by (topic) (rate(lockstep_tx_total[5m])) / group:lockstep_tx:rate5m > nodejs_heap_size_used_bytes";
    expect(metricNames(text)).toEqual(["lockstep_tx_total", "nodejs_heap_size_used_bytes"]);
  });

  test("that an alert is only ever expected to fire", () => {
    const file = "      - eval_time: 1m\n        alertname: A\n        exp_alerts:\n          - exp_labels:\n";
    expect(expectations(file)).toEqual(new Map([["A", new Set(["fires"])]]));
  });
});
