/**
 * The Postgres of the embedded stack: a real server with fsync on and `wal_level=logical`, data in a folder of its own.
 */
import { chown, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { freePorts } from "./free-ports.ts";
import { postgresBinaries, type RunAs } from "./postgres-binaries.ts";
import { postgresServes } from "./probe.ts";
import type { Reaper } from "./reaper.ts";
import { runProgram } from "./run-program.ts";
import { endServer, type ServerProcess, spawnServer, untilReady } from "./server-process.ts";

export interface PostgresServer {
  /** Of the superuser, to the database `postgres`. */
  readonly url: string;
  readonly dataDir: string;
  /** Of the postmaster; null while it is down. */
  readonly pid: number | null;
  /** `immediate` is a crash: nothing is flushed, and the next start recovers from the log. */
  stop(options?: { immediate?: boolean }): Promise<void>;
  /** Starts it again on its old data and port. Resolves when it takes log-ins. */
  start(): Promise<void>;
  restart(options?: { immediate?: boolean }): Promise<void>;
}

export interface PostgresPlan {
  /** Must be one that `runAs` can enter. */
  readonly folder: string;
  readonly runAs: RunAs | null;
  readonly env: NodeJS.ProcessEnv;
  /** Server settings that win over the ones here. */
  readonly config: Readonly<Record<string, string>>;
  readonly reaper: Reaper;
}

export const POSTGRES_PASSWORD = "postgres";
const START_TIMEOUT_MS = 60_000;
/** Fast shutdown waits for walsenders to catch up; a stuck one must not hold up a test for ever. */
const STOP_TIMEOUT_MS = 20_000;
const INIT_TIMEOUT_MS = 60_000;

/** @throws {LockstepError} STACK_UNAVAILABLE */
export async function startPostgres(plan: PostgresPlan): Promise<PostgresServer> {
  const dataDir = join(plan.folder, "postgres");
  const [port] = await freePorts(1);
  const binaries = await postgresBinaries(plan.runAs, plan.folder);
  const env = { ...plan.env, LC_ALL: "C" };
  const settings = Object.entries({ ...LOCAL, ...POSTGRES_SETTINGS, ...plan.config }).flatMap(([name, value]) => [
    "-c",
    `${name}=${value}`,
  ]);
  await initialize(binaries.initdb, { dataDir, plan, env });

  let server: ServerProcess | null = null;
  const control: PostgresServer = {
    url: `postgres://postgres:${POSTGRES_PASSWORD}@127.0.0.1:${port}/postgres`,
    dataDir,
    get pid() {
      return server === null || server.ending() !== null ? null : server.pid;
    },
    async stop({ immediate = false } = {}) {
      if (server === null) return;
      const fast = { signal: "SIGINT", waitMs: STOP_TIMEOUT_MS } as const;
      const crash = { signal: "SIGQUIT", waitMs: STOP_TIMEOUT_MS } as const;
      await endServer(server, immediate ? [crash] : [fast, crash]);
      server = null;
    },
    async start() {
      if (control.pid !== null) return;
      server = await spawnServer({
        name: "Postgres",
        command: binaries.postgres,
        args: ["-D", dataDir, "-p", String(port), ...settings],
        logFile: join(plan.folder, "postgres.log"),
        env,
        cwd: plan.folder,
        runAs: plan.runAs,
        reaper: plan.reaper,
        reapedBy: "SIGQUIT", // SIGKILL would leave its children and its shared memory behind
      });
      await untilReady(server, { answers: () => postgresServes(port!), timeoutMs: START_TIMEOUT_MS });
    },
    async restart(options = {}) {
      await control.stop(options);
      await control.start();
    },
  };
  await control.start();
  return control;
}

/** Of the server, embedded or in a container. */
export const POSTGRES_SETTINGS: Readonly<Record<string, string>> = {
  wal_level: "logical",
  fsync: "on",
  synchronous_commit: "on",
  max_connections: "200",
  max_wal_senders: "20",
  max_replication_slots: "20",
  timezone: "UTC",
  log_timezone: "UTC",
};

const LOCAL: Readonly<Record<string, string>> = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "", // a path below a deep folder may exceed the 107 bytes that a socket's name may have
};

async function initialize(
  initdb: string,
  options: { dataDir: string; plan: PostgresPlan; env: NodeJS.ProcessEnv },
): Promise<void> {
  const { dataDir, plan } = options;
  const passwordFile = join(plan.folder, "postgres-password");
  await mkdir(dataDir, { mode: 0o700 });
  await writeFile(passwordFile, `${POSTGRES_PASSWORD}\n`);
  if (plan.runAs !== null) await chown(dataDir, plan.runAs.uid, plan.runAs.gid);
  const args = [
    `--pgdata=${dataDir}`,
    "--username=postgres",
    `--pwfile=${passwordFile}`,
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--no-sync", // an empty cluster is not worth a flush of the disk; the server itself runs with fsync on
  ];
  await runProgram({
    what: "initdb of Postgres",
    command: initdb,
    args,
    env: options.env,
    cwd: plan.folder,
    timeoutMs: INIT_TIMEOUT_MS,
    runAs: plan.runAs,
    reaper: plan.reaper,
  });
}
