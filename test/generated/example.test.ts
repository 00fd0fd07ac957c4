/** The example in docs/testing.md is the file it names, and passes in Node's own runner. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const EXAMPLE = "examples/greeter/machines.test.js";

test("docs/testing.md shows the example as it is", () => {
  const page = readFileSync(join(ROOT, "docs/testing.md"), "utf8");
  const block = /<!-- example: (\S+) -->\n```js\n([\s\S]*?)```/.exec(page);
  expect(block?.[1]).toBe(EXAMPLE);
  expect(block?.[2]).toBe(readFileSync(join(ROOT, EXAMPLE), "utf8"));
});

test("the example runs in a runner of someone else, against the package as it is built", () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--test", "--test-reporter=tap", EXAMPLE], {
    cwd: ROOT,
    encoding: "utf8",
  });
  expect(status, `${stdout}\n${stderr}`).toBe(0);
  // MT4 twice: with the machine alone, and with its examples through the app.
  const passed = [...stdout.matchAll(/^ok \d+ - greeter greeter: (MT\d): /gm)].map(([, id]) => id);
  expect(passed).toEqual(["MT1", "MT2", "MT3", "MT4", "MT4"]);
  expect(stdout).toMatch(/greeter greeter +1\/1 +1\/1/);
});
