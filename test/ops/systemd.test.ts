/**
 * The unit for systemd, as systemd's own tool judges it. Where that is not installed the test is skipped, and says so.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

import { SETTINGS } from "../../src/config.ts";
import { command } from "../support/command.ts";
import { ROOT } from "../support/deployment-settings.ts";
import { withFile } from "../support/temporary-file.ts";

const UNIT = readFileSync(join(ROOT, "ops/systemd/lockstep.service"), "utf8");
const hasTool = spawnSync("systemd-analyze", ["--version"]).status === 0;
if (!hasTool) console.warn("skipped: systemd-analyze is not installed (apt-get install -y systemd)");

function verify(unit: string) {
  return withFile("lockstep.service", unit, (path) =>
    command("systemd-analyze", ["verify", path], { env: process.env }),
  );
}

/** The machine's own node: where it is differs, and systemd looks whether it is there. */
const here = UNIT.replace("/usr/bin/node", process.execPath);

describe("lockstep.service", () => {
  test.skipIf(!hasTool)("is understood by systemd, without a remark", async () => {
    const { code, stdout, stderr } = await verify(here);
    expect(`${stdout}${stderr}`).toBe("");
    expect(code).toBe(0);
  });

  test.skipIf(!hasTool)("would not be, with a word that systemd does not know", async () => {
    const { stdout, stderr } = await verify(here.replace("Restart=on-failure", "Restart=sometimes"));
    expect(`${stdout}${stderr}`).toContain("sometimes");
  });

  test("leaves more time to stop than a drain takes, and does not restart a faulty configuration", () => {
    const seconds = Number(/^TimeoutStopSec=(\d+)$/m.exec(UNIT)![1]);
    expect(seconds * 1_000).toBeGreaterThan(Number(SETTINGS.drainMs.fallback) * 2);
    expect(UNIT).toMatch(/^Restart=on-failure$/m);
    expect(UNIT).toMatch(/^RestartPreventExitStatus=78$/m);
  });
});
