/**
 * The stack itself: what it starts serves, and nothing that it started outlives the process that asked for it.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { chmod, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { type Stack, startStack } from "../../src/stack/index.ts";
import { until } from "../support/until.ts";

let dir = "";
let stack: Stack | null = null;
let child: ChildProcess | null = null;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "lockstep-stack-"));
  await chmod(dir, 0o755); // for the user that runs Postgres
});
afterEach(async () => {
  await stack?.stop();
  stack = null;
  child?.kill("SIGKILL");
  child = null;
  await rm(dir, { recursive: true, force: true });
});

describe("a stack whose host goes away", () => {
  test.each(["SIGKILL", "exit"] as const)("R2, ST1: ends with it and leaves no data (%s)", async (way) => {
    const pids = await startInChild(`
      const { kafka, postgres } = await startStack({ dir: ${JSON.stringify(dir)} });
      console.log(JSON.stringify([kafka.nodes[0].pid, postgres.pid]));
      process.stdin.once("data", () => process.exit(0)).resume();
      setInterval(() => {}, 1000);
    `);
    expect(pids.map(isAlive)).toEqual([true, true]);
    if (way === "SIGKILL") child!.kill("SIGKILL");
    else child!.stdin!.write("exit\n");
    await untilNothingIsLeft();
  });

  test("R1: ends with it also in the middle of its start", async () => {
    child = spawnHost(`await startStack({ dir: ${JSON.stringify(dir)} });`);
    await until(() => filesBelow(dir).some((path) => path.endsWith("server.log")), { what: "the start of the broker" });
    child.kill("SIGKILL");
    await untilNothingIsLeft();
  });
});

describe("a stack", () => {
  test("ST1: is gone after stop, with its data, and does not start again", async () => {
    stack = await startStack({ dir, kafka: false });
    const { pid } = stack.postgres!;
    expect(isAlive(pid!)).toBe(true);
    await Promise.all([stack.stop(), stack.stop()]);
    await untilNothingIsLeft();
    expect(stack.postgres!.pid).toBeNull();
    await expect(stack.postgres!.start()).rejects.toMatchObject({ code: "STACK_UNAVAILABLE" });
  });

  test.runIf(process.getuid?.() === 0)("has its Postgres elsewhere when its user cannot enter the folder", async () => {
    await chmod(dir, 0o700);
    stack = await startStack({ dir, kafka: false });
    const { dataDir, url } = stack.postgres!;
    expect(dataDir!.startsWith(dir)).toBe(false);
    expect(await query(url, "select 1 as one")).toEqual([{ one: 1 }]);
    await stack.stop();
    expect(existsSync(dataDir!)).toBe(false);
  });

  test("has a Postgres that keeps what was committed when it crashes", async () => {
    stack = await startStack({ dir, kafka: false, postgresConfig: { max_connections: "30" } });
    const postgres = stack.postgres!;
    await query(postgres.url, "create table kept (id int); insert into kept values (1)");
    const before = postgres.pid;
    await postgres.restart({ immediate: true });
    expect(postgres.pid).not.toBe(before);
    expect(await query(postgres.url, "select id from kept")).toEqual([{ id: 1 }]);
    const settings =
      "select name, setting from pg_settings where name in ('wal_level', 'fsync', 'max_connections') order by 1";
    expect(await query(postgres.url, settings)).toEqual([
      { name: "fsync", setting: "on" },
      { name: "max_connections", setting: "30" },
      { name: "wal_level", setting: "logical" },
    ]);
  });
});

async function query(url: string, text: string): Promise<unknown> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

/** Runs the code in a process of its own, and resolves with the first line that it prints, parsed. */
async function startInChild(code: string): Promise<number[]> {
  child = spawnHost(code);
  let output = "";
  child.stdout!.on("data", (chunk: Buffer) => {
    output += chunk.toString();
  });
  return until(() => output.includes("\n") && (JSON.parse(output) as number[]), {
    what: "the stack of the child",
    timeoutMs: 120_000,
  });
}

function spawnHost(code: string): ChildProcess {
  const entry = new URL("../../dist/stack/index.js", import.meta.url).href;
  const program = `import { startStack } from ${JSON.stringify(entry)};\n${code}`;
  return spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: ["pipe", "pipe", "inherit"] });
}

/** Every server has its folder in its command line. */
async function untilNothingIsLeft(): Promise<void> {
  await until(() => !execFileSync("ps", ["-eo", "args"], { encoding: "utf8" }).includes(`${dir}/`), {
    what: "the end of every server",
  });
  await until(async () => (await readdir(dir)).length === 0, { what: "the removal of its data" });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false; // no such process
  }
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" });
}
