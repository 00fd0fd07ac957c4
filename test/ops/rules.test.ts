/**
 * Prometheus' own tools on our configuration, rules, and the tests of the alerts.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";

import { boardQueries } from "../support/board-queries.ts";
import { command } from "../support/command.ts";
import { ROOT } from "../support/deployment-settings.ts";
import { type PrometheusTools, prometheusTools } from "../support/prometheus-tools.ts";
import { withFile } from "../support/temporary-file.ts";

const OPS = join(ROOT, "ops/prometheus");
const RULES = filesIn("rules");
const TESTS = filesIn("tests");

let tools: PrometheusTools;
beforeAll(async () => {
  tools = await prometheusTools((line) => console.log(line));
  console.log(`promtool ${tools.version}`);
});

function filesIn(folder: string): string[] {
  return readdirSync(join(OPS, folder)).map((name) => join(OPS, folder, name));
}

async function promtool(...args: string[]): Promise<{ code: number | null; output: string }> {
  const { code, stdout, stderr } = await command(tools.promtool, args, { env: process.env });
  return { code, output: `${stdout}${stderr}` };
}

describe("promtool", () => {
  test("accepts the configuration, and finds the rules from there", async () => {
    const { code, output } = await promtool("check", "config", join(OPS, "prometheus.yml"));
    expect(output).toContain(`${RULES.length} rule files found`);
    expect(code, output).toBe(0);
  });

  test("accepts the rules, without a remark", async () => {
    const { code, output } = await promtool("check", "rules", "--lint=all", "--lint-fatal", ...RULES);
    expect(code, output).toBe(0);
  });

  test.each(TESTS.map((path) => [path.slice(OPS.length + 1), path]))(
    "finds that alerts fire when they should, and only then: %s",
    async (_name, path) => {
      const { code, output } = await promtool("test", "rules", path);
      expect(code, output).toBe(0);
    },
  );

  test("understands every query of the boards", async () => {
    const rules = boardQueries().map(({ expr }, index) => ({ record: `query:${index}`, expr: withoutVariables(expr) }));
    const { code, output } = await withFile(
      "queries.yml",
      JSON.stringify({ groups: [{ name: "boards", rules }] }),
      (path) => promtool("check", "rules", path),
    );
    expect(output).toContain(`${rules.length} rules found`);
    expect(code, output).toBe(0);
  });

  test("would have found a test that fails, and a query that is none", async () => {
    const wrong = await withFile(
      "wrong.yml",
      JSON.stringify({ groups: [{ name: "g", rules: [{ record: "a:b", expr: "sum(" }] }] }),
      (path) => promtool("check", "rules", path),
    );
    expect(wrong.code).not.toBe(0);
    const tests = {
      rule_files: RULES,
      tests: [
        { input_series: [], alert_rule_test: [{ eval_time: "5m", alertname: "LockstepNoProcess", exp_alerts: [] }] },
      ],
    };
    const failed = await withFile("failed.test.yml", JSON.stringify(tests), (path) => promtool("test", "rules", path));
    expect(failed.output).toContain("LockstepNoProcess");
    expect(failed.code).not.toBe(0);
  });
});

function withoutVariables(expr: string): string {
  return expr.replaceAll("$__rate_interval", "1m").replaceAll("$__range", "1h");
}
