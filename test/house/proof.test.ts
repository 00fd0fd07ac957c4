/**
 * docs/proof.md says what a run showed and nothing else: what did not happen is printed as NOT RUN, what failed as FAILED. And every
 * row of the crash table has a test that carries its id.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";

import { filesOf, ROOT } from "./source-files.ts";

const folder = mkdtempSync(join(tmpdir(), "lockstep-house-"));
afterAll(() => rmSync(folder, { recursive: true }));

const TABLE = "\n| id | what happens | rest |\n|---|---|---|\n| C1 | killed | x |\n| Z2 | stopped | x |\n";
const RUN = JSON.stringify({ commit: "c0ffee", changes: "none", node: "20.19.0", kafka: "4.3.0", postgres: "18.0" });
const HIT = { fault: "pg.committed:3:kill", evidence: "victim-1, shard 2" };

interface Planted {
  readonly title: string;
  readonly status?: string;
  readonly hits?: readonly object[];
}

/** The page of a run with these tests in one file. */
function proof(tests: readonly Planted[], file: { status?: string; message?: string } = {}) {
  writeFileSync(join(folder, "table.md"), TABLE);
  writeFileSync(
    join(folder, "results.json"),
    JSON.stringify({
      startTime: Date.UTC(2026, 0, 2),
      testResults: [
        {
          name: join(ROOT, "test/fault/planted.test.ts"),
          status: tests.some(({ status }) => status === "failed") ? "failed" : "passed",
          message: "",
          ...file,
          assertionResults: tests.map(({ title, status = "passed", hits }) => ({
            title,
            status,
            duration: 1_000,
            failureMessages: status === "failed" ? ["AssertionError: two copies\n    at x"] : [],
            meta: hits ? { proof: { hits, checks: ["one copy"], run: RUN } } : {},
          })),
        },
      ],
    }),
  );
  const args = ["scripts/proof.mjs", "--table", join(folder, "table.md"), "--results", join(folder, "results.json")];
  const { status, stdout, stderr } = spawnSync(process.execPath, [...args, "--out", "-"], {
    cwd: ROOT,
    encoding: "utf8",
  });
  expect(stderr).toBe("");
  return { code: status, page: stdout };
}

const Z2 = { title: "Z2: stopped, woken: one copy", hits: [HIT] };

describe("the page of a run", () => {
  test("has rows, hits, checks, versions, date and commit when all went well", () => {
    const { code, page } = proof([{ title: "C1: killed: taken again", hits: [HIT] }, Z2]);
    expect(code).toBe(0);
    expect(page).toContain("2 rows, 2 tests: 2 rows passed, 0 failed, 0 not run");
    expect(page).toContain(
      "| killed: taken again (planted) | `pg.committed:3:kill` at victim-1, shard 2 | one copy | PASSED | 1 |",
    );
    expect(page).toContain(
      "Commit `c0ffee`. Node 20.19.0, Kafka 4.3.0, Postgres 18.0. Begun 2026-01-02T00:00:00.000Z.",
    );
  });

  test.each([
    ["passed without a hit", [{ title: "C1: killed: taken again", hits: [] }, Z2]],
    ["never recorded anything", [{ title: "C1: killed: taken again" }, Z2]],
    ["was skipped", [{ title: "C1: killed: taken again", status: "skipped", hits: [HIT] }, Z2]],
    ["has no test", [Z2]],
    ["has one test with a hit and one without", [{ title: "C1: killed: a", hits: [HIT] }, { title: "C1: b: c" }, Z2]],
  ])("says NOT RUN of a row that %s", (_, tests) => {
    const { code, page } = proof(tests);
    expect(code).toBe(1);
    expect(page).toMatch(/^\| \[C1\]\(#c1\) \|.*\| NOT RUN \|$/m);
    expect(page).toMatch(/^\| \[Z2\]\(#z2\) \|.*\| PASSED \|$/m);
  });

  test("says FAILED of a row whose test failed, hit or not", () => {
    for (const hits of [[HIT], []]) {
      const { code, page } = proof([{ title: "C1: killed: taken again", status: "failed", hits }, Z2]);
      expect(code).toBe(1);
      expect(page).toMatch(/^\| \[C1\]\(#c1\) \|.*\| FAILED \|$/m);
      expect(page).toContain("FAILED: AssertionError: two copies");
      expect(page).toMatch(/^\| \[Z2\]\(#z2\) \|.*\| PASSED \|$/m);
    }
  });

  test("says FAILED of all rows of a file whose last audit failed", () => {
    const { code, page } = proof([Z2], { status: "failed", message: "expected [ 'lost' ] to equal []" });
    expect(code).toBe(1);
    expect(page).toContain("FAILED: the end of its file failed: expected [ 'lost' ] to equal []");
  });
});

test("results of one file from two runs are refused: nobody may choose the better one", () => {
  proof([Z2]);
  const results = join(folder, "results.json");
  const { status, stderr } = spawnSync(
    process.execPath,
    ["scripts/proof.mjs", "--results", results, "--results", results, "--out", "-"],
    { cwd: ROOT, encoding: "utf8" },
  );
  expect({ status, stderr }).toEqual({ status: 2, stderr: "planted.test.ts is in the results twice\n" });
});

test("every row of the crash table is in the name of a fault test", () => {
  const rows = [...readFileSync(join(ROOT, "docs/protocol.md"), "utf8").matchAll(/^\| ([CZBJS]\d+) \| /gm)].map(
    ([, id]) => id!,
  );
  expect(rows).toHaveLength(38);
  // A template begins with its id too.
  const names = filesOf("test/fault", ".test.ts").flatMap(({ text }) =>
    [...text.matchAll(/["'`]([A-Z]\d+(?:, [A-Z]\d+)*): /g)].flatMap(([, ids]) => ids!.split(", ")),
  );
  expect(rows.filter((id) => !names.includes(id))).toEqual([]);
});

test("docs/proof.md names the commit, the date and the versions of its run, and has every row", () => {
  const page = readFileSync(join(ROOT, "docs/proof.md"), "utf8");
  expect(page).toMatch(
    /^Commit `[0-9a-f]{40}`.*\. Node [\d.]+, Kafka [\d.]+, Postgres [\d.]+\. Begun \d{4}-\d\d-\d\dT.+Z\.$/m,
  );
  expect([...page.matchAll(/^\| \[[CZBJS]\d+\]\(#\w+\) \|.+\| (?:PASSED|FAILED|NOT RUN) \|$/gm)]).toHaveLength(38);
});
