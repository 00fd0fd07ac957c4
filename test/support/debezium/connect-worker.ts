/**
 * A real Kafka Connect worker in distributed mode, as a process of its own that can be killed and started again, and its
 * REST interface. Its configuration is the shipped one.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { freePorts } from "../../../src/stack/free-ports.ts";
import { javaCommand } from "../../../src/stack/prerequisites.ts";
import { startReaper } from "../../../src/stack/reaper.ts";
import { endServer, type ServerProcess, spawnServer, untilReady } from "../../../src/stack/server-process.ts";
import { until } from "../until.ts";
import { fetchConnectLibs } from "./connect-libs.ts";
import { type Properties, propertiesText, shippedPath, workerProperties } from "./shipped.ts";

/** A cold JVM on a loaded machine; alone it takes about 3 s. */
const START_MS = 120_000;
const STOP_MS = 30_000;
/** Task start and, after a kill, the session of the dead worker in the group (10 s) and the wait of a retriable error (10 s). */
const TASK_MS = 120_000;

export interface ConnectorStatus {
  readonly connector: { readonly state: string };
  readonly tasks: readonly { readonly id: number; readonly state: string; readonly trace?: string }[];
}

export interface ConnectWorker {
  /** For what connectors refer to by a path: the only folder that their placeholders can read. */
  readonly secrets: string;
  readonly pid: number | null;
  start(): Promise<void>;
  /** SIGKILL. Resolves when the process is gone. */
  kill(): Promise<void>;
  /** Creates the connector, or gives it this configuration; resolves when its task runs. */
  put(name: string, config: Properties): Promise<void>;
  /** The same without waiting, for a configuration that is not expected to run. */
  putOnly(name: string, config: Properties): Promise<void>;
  untilRunning(name: string): Promise<void>;
  /** The trace of the task when it has failed. */
  untilFailed(name: string): Promise<string>;
  status(name: string): Promise<ConnectorStatus>;
  get(path: string): Promise<unknown>;
  /** PUT or POST without a body, such as /connectors/<name>/stop. */
  send(method: "PUT" | "POST", path: string): Promise<void>;
  delete(name: string): Promise<void>;
  log(lines: number): Promise<string>;
  /** Ends the process, and removes what was written for it. */
  close(): Promise<void>;
}

/** @returns a worker that is not started yet */
export async function createConnectWorker(brokers: readonly string[]): Promise<ConnectWorker> {
  const libs = await fetchConnectLibs((line) => console.log(line));
  const [port] = await freePorts(1);
  const folder = await mkdtemp(join(tmpdir(), "lockstep-connect-"));
  const reaper = await startReaper(process.env);
  reaper.remove(folder);
  const base = `http://127.0.0.1:${port}`;
  const configFile = join(folder, "worker.properties");
  const properties = await workerProperties({
    "bootstrap.servers": brokers.join(","),
    "plugin.path": libs.plugins,
    listeners: base,
    "config.providers.file.param.allowed.paths": folder,
  });
  await writeFile(configFile, propertiesText(properties));

  let server: ServerProcess | null = null;
  const end = async (steps: Parameters<typeof endServer>[1]): Promise<void> => {
    if (server !== null) await endServer(server, steps);
    server = null;
  };
  const rest = restOf(base);
  const worker: ConnectWorker = {
    secrets: folder,
    get pid() {
      return server === null || server.ending() !== null ? null : server.pid;
    },
    async start() {
      server = await spawnServer({
        name: "Kafka Connect",
        command: javaCommand(process.env),
        args: [
          "-Xmx512m",
          `-Dlog4j2.configurationFile=file:${shippedPath("log4j2.properties")}`,
          ...["-cp", join(libs.worker, "*")],
          "org.apache.kafka.connect.cli.ConnectDistributed",
          configFile,
        ],
        logFile: join(folder, "connect.log"),
        env: process.env,
        cwd: folder,
        reaper,
        reapedBy: "SIGKILL",
      });
      await untilReady(server, { answers: () => rest.answers("/connectors"), timeoutMs: START_MS });
    },
    kill: () => end([]),
    async put(name, config) {
      await worker.putOnly(name, config);
      await worker.untilRunning(name);
    },
    async putOnly(name, config) {
      // Refused while the worker joins its group: asked again.
      await until(() => rest.ask("PUT", `/connectors/${name}/config`, config).then(() => true), {
        what: `connector ${name} to be taken`,
        timeoutMs: TASK_MS,
      });
    },
    async untilRunning(name) {
      await until(
        async () => {
          const { connector, tasks } = await worker.status(name);
          return connector.state === "RUNNING" && tasks.length === 1 && tasks[0]!.state === "RUNNING";
        },
        { what: `the task of ${name} to run`, timeoutMs: TASK_MS },
      );
    },
    untilFailed: (name) =>
      until(async () => (await worker.status(name)).tasks.find(({ state }) => state === "FAILED")?.trace, {
        what: `the task of ${name} to fail`,
        timeoutMs: TASK_MS,
      }),
    status: (name) => rest.ask("GET", `/connectors/${name}/status`) as Promise<ConnectorStatus>,
    get: (path) => rest.ask("GET", path),
    async send(method, path) {
      await until(() => rest.ask(method, path).then(() => true), { what: `${method} ${path}`, timeoutMs: TASK_MS });
    },
    async delete(name) {
      await until(() => rest.ask("DELETE", `/connectors/${name}`).then(() => true), { what: `${name} to be deleted` });
    },
    log: async (lines) => (server === null ? "(not running)" : server.lastLines(lines)),
    async close() {
      await end([{ signal: "SIGTERM", waitMs: STOP_MS }]);
      await reaper.finish();
      await rm(folder, { recursive: true, force: true });
    },
  };
  return worker;
}

function restOf(base: string) {
  return {
    async ask(method: string, path: string, body?: unknown): Promise<unknown> {
      const response = await fetch(`${base}${path}`, {
        method,
        headers: { "Content-Type": "application/json" },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
      return text === "" ? null : JSON.parse(text);
    },
    answers: (path: string) =>
      fetch(`${base}${path}`).then(
        (response) => response.ok,
        () => false, // not listening yet
      ),
  };
}
