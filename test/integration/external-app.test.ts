/**
 * The package as its users get it: packed, installed in an empty folder of theirs, hosting an app of theirs. And the example
 * of the README, which is that app.
 */
import { copyFile, cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { RunProcess } from "../../src/cli/processes.ts";
import { openSender } from "../../src/kafka/sender.ts";
import { type CommandResult, command } from "../support/command.ts";
import { committedRecords } from "../support/console-consumer.ts";
import { withDatabase } from "../support/database.ts";
import { FAST, inheritedEnv, ROOT } from "../support/deployment-settings.ts";
import { recreateTopics } from "../support/recreate-topics.ts";
import { testStack } from "../support/stack.ts";
import { until } from "../support/until.ts";

const EXAMPLE = join(ROOT, "examples/greeter");
const TOPICS = ["greeter.arrivals", "greeter.arrivals.dlq", "greeter.greetings"];

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "lockstep-external-"));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

test("the example of the README is the file that the tests run", async () => {
  const readme = await readFile(join(ROOT, "README.md"), "utf8");
  const block = /<!-- example: examples\/greeter\/app\.js -->\n```js\n([\s\S]*?)```/.exec(readme);
  expect(block?.[1]).toBe(await readFile(join(EXAMPLE, "app.js"), "utf8"));
});

test("an app outside of this repository is hosted by the installed package alone", async () => {
  const stack = testStack();
  await recreateTopics(stack.brokers, [], TOPICS);
  await installPackage();
  await cp(join(EXAMPLE, "migrations"), join(folder, "migrations"), { recursive: true });
  await copyFile(join(EXAMPLE, "app.js"), join(folder, "my-app.js"));

  await withDatabase(async (database) => {
    const env = {
      ...inheritedEnv(),
      ...FAST,
      LOCKSTEP_APP: "./my-app.js",
      LOCKSTEP_INSTANCE: database.name,
      LOCKSTEP_KAFKA_BROKERS: stack.brokers.join(","),
      LOCKSTEP_DATABASE_URL: database.url,
    };
    for (const args of [["topics", "apply"], ["topics", "check"], ["migrate"]]) {
      succeeded(
        await command("npx", ["--no-install", "lockstep", ...args, "--app", "./my-app.js"], { env, cwd: folder }),
      );
    }
    const greetings = await host(env, database.url);
    expect(greetings).toEqual([
      { name: "Ada", visits: 1 },
      { name: "Ada", visits: 2 },
      { name: "Grace", visits: 1 },
    ]);
  });
  const published = (await committedRecords("greeter.greetings")).map(({ key, value }) => [key, JSON.parse(value!)]);
  expect(published.filter(([key]) => key === "Ada")).toEqual([
    ["Ada", { name: "Ada", visits: 1 }],
    ["Ada", { name: "Ada", visits: 2 }],
  ]);
  expect(published.filter(([key]) => key === "Grace")).toEqual([["Grace", { name: "Grace", visits: 1 }]]);
});

/** Without optional packages: the embedded servers are for development. */
async function installPackage(): Promise<void> {
  const npm = (args: string[], cwd: string) => command("npm", args, { env: inheritedEnv(), cwd });
  succeeded(await npm(["pack", "--ignore-scripts", "--pack-destination", folder], ROOT)); // dist is fresh: global-setup.ts
  const tarball = (await readdir(folder)).find((name) => name.endsWith(".tgz"))!;
  await writeFile(join(folder, "package.json"), JSON.stringify({ private: true, type: "module" }));
  const quiet = ["--omit=optional", "--prefer-offline", "--no-audit", "--no-fund"];
  succeeded(await npm(["install", ...quiet, `./${tarball}`], folder));
}

/** Runs the installed package until three arrivals have their rows, and stops it. @returns the rows */
async function host(env: NodeJS.ProcessEnv, databaseUrl: string): Promise<unknown[]> {
  const sender = await openSender(testStack().brokers, ["greeter.arrivals"]);
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  const process = new RunProcess({
    name: "external",
    main: join(folder, "node_modules/lockstep/dist/main.js"),
    env: { ...env, LOCKSTEP_APP: join(folder, "my-app.js") },
    logFile: join(folder, "run.log"),
  });
  try {
    const at = Date.now();
    const arrivals = ["Ada", "Grace", "Ada"].map((name, index) => ({
      topic: "greeter.arrivals",
      key: Buffer.from(name),
      value: Buffer.from(JSON.stringify({ name, at: at + index })),
      headers: {},
      timestampMs: at,
    }));
    await sender.send(arrivals);
    const rows = await until(
      async () => {
        if (process.ended) throw new Error(`the process ended: ${process.stderr}`);
        const result = await client.query("SELECT name, visits FROM greeter.greetings ORDER BY name, visits");
        return result.rows.length === arrivals.length && result.rows;
      },
      { what: "the rows of three arrivals", timeoutMs: 60_000 },
    );
    process.signal("SIGTERM");
    expect(await process.exited).toEqual({ code: 0, signal: null });
    return rows;
  } finally {
    process.signal("SIGKILL");
    await process.exited;
    await client.end();
    await sender.close();
  }
}

function succeeded({ code, stdout, stderr }: CommandResult): void {
  expect(code, `${stdout}\n${stderr}`).toBe(0);
}
