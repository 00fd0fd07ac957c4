import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { fetchKafkaLibs, hasKafkaLibs } from "../../../src/stack/kafka-libs.ts";

let folder = "";
let libs = "";
let env: NodeJS.ProcessEnv = {};
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "lockstep-unit-"));
  libs = join(folder, "cache", "libs");
  env = { LOCKSTEP_KAFKA_LIBS: libs, PATH: `${join(folder, "bin")}:/bin:/usr/bin` };
  await mkdir(join(folder, "bin"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** A Maven that notes that it ran, and puts one jar where it is told to; `script` comes after that. */
async function fakeMaven(script = ""): Promise<void> {
  const text = `#!/bin/sh
echo run >> ${join(folder, "runs")}
for argument; do case $argument in -DoutputDirectory=*) echo jar > "\${argument#*=}/some.jar";; esac; done
${script}`;
  await writeFile(join(folder, "bin", "mvn"), text, { mode: 0o755 });
}

async function runs(): Promise<number> {
  return (await readFile(join(folder, "runs"), "utf8")).trim().split("\n").length;
}

describe("Kafka's jars", () => {
  test("L2: are fetched once, however many ask for them at once", async () => {
    await fakeMaven();
    const lines: string[] = [];
    await Promise.all([1, 2, 3].map(() => fetchKafkaLibs(env, (line) => lines.push(line))));
    expect(await runs()).toBe(1);
    expect(lines).toEqual([expect.stringMatching(/^fetching Kafka .* from Maven \(about 54 MB, once\)$/)]);
    expect(await readdir(libs)).toContain("some.jar");
    await fetchKafkaLibs(env, (line) => lines.push(line));
    expect(lines).toHaveLength(1);
  });

  test("L1: an attempt that failed leaves nothing that could be taken for them", async () => {
    await fakeMaven("echo 'Could not resolve dependencies'; exit 1");
    await expect(fetchKafkaLibs(env, () => {})).rejects.toMatchObject({
      code: "STACK_UNAVAILABLE",
      message: expect.stringContaining("Could not resolve dependencies"),
    });
    expect(await readdir(join(folder, "cache"))).toEqual([]);
  });

  test("L1: a folder made from another list of artifacts is not used", async () => {
    await fakeMaven();
    await fetchKafkaLibs(env, () => {});
    expect(await hasKafkaLibs({ folder: libs, given: false })).toBe(true);
    await appendFile(join(libs, ".complete"), "x");
    expect(await hasKafkaLibs({ folder: libs, given: false })).toBe(false);
  });
});
