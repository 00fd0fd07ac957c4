import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { withFileLock } from "../../../src/stack/file-lock.ts";

let folder = "";
let path = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "lockstep-unit-"));
  path = join(folder, "lock");
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe("a lock between processes", () => {
  test("L2: lets one in at a time, and all in the end", async () => {
    let inside = 0;
    let insideMax = 0;
    const work = async (): Promise<void> => {
      insideMax = Math.max(insideMax, ++inside);
      await new Promise((resolve) => setImmediate(resolve));
      inside -= 1;
    };
    await Promise.all(Array.from({ length: 4 }, () => withFileLock(path, { timeoutMs: 20_000 }, work)));
    expect(insideMax).toBe(1);
    expect(existsSync(path)).toBe(false);
  });

  test("is taken from a holder that has died", async () => {
    const dead = spawnSync(process.execPath, ["-e", ""]).pid;
    await writeFile(path, String(dead));
    expect(await withFileLock(path, { timeoutMs: 20_000 }, async () => "done")).toBe("done");
  });

  test("is not taken from a holder that lives", async () => {
    await writeFile(path, String(process.pid));
    await expect(withFileLock(path, { timeoutMs: 50 }, async () => "done")).rejects.toMatchObject({
      code: "STACK_UNAVAILABLE",
      details: { holder: process.pid },
    });
  });

  test("is given back when the work fails", async () => {
    const failing = withFileLock(path, { timeoutMs: 50 }, () => Promise.reject(new Error("no")));
    await expect(failing).rejects.toThrow("no");
    expect(existsSync(path)).toBe(false);
  });
});
