/**
 * One Kafka node of the embedded stack: broker and controller in one Java process (KRaft), data in a folder of its own.
 *
 * Settings: kafka-settings.ts.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { type BrokerSettings, brokerSettings } from "./kafka-settings.ts";
import { brokersKnownTo } from "./probe.ts";
import type { Reaper } from "./reaper.ts";
import { runProgram } from "./run-program.ts";
import { endServer, type ServerProcess, spawnServer, untilReady } from "./server-process.ts";

export interface KafkaNodePlan {
  readonly id: number;
  readonly port: number;
  readonly controllerPort: number;
}

export interface KafkaClusterPlan {
  readonly clusterId: string;
  readonly nodes: readonly KafkaNodePlan[];
  readonly java: string;
  readonly libs: string;
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
  /** Broker settings that win over the ones here. */
  readonly config: Readonly<Record<string, string>>;
  readonly reaper: Reaper;
}

/** A node, for tests that take it away and give it back. */
export interface KafkaNode {
  readonly id: number;
  readonly address: string;
  /** Its logs, settings and data; removed when the stack is stopped. */
  readonly folder: string;
  /** Of the running process; null while it is down. */
  readonly pid: number | null;
  /** SIGKILL. Resolves when the process is gone. */
  kill(): Promise<void>;
  /** An orderly shutdown. Resolves when the process is gone. */
  stop(): Promise<void>;
  /** Starts it again on its old data and port. Resolves when it knows of all nodes that are up. */
  start(): Promise<void>;
}

/** A cold JVM on a loaded machine of two cores; alone it takes about 3 s. */
const START_TIMEOUT_MS = 90_000;
const STOP_TIMEOUT_MS = 30_000;
const FORMAT_TIMEOUT_MS = 60_000;
/** 54 MB of classes, a metadata log and a few hundred partitions fit with room; three brokers stay under 2 GB. */
const HEAP = ["-Xms256m", "-Xmx512m"];

/** Writes the node's files and formats its storage; `start` does the rest. */
export async function createKafkaNode(plan: KafkaClusterPlan, node: KafkaNodePlan): Promise<KafkaNode> {
  const folder = join(plan.folder, `kafka-${node.id}`);
  const propertiesFile = join(folder, "server.properties");
  const log4jFile = join(folder, "log4j2.properties");
  const java = [`-Dlog4j2.configurationFile=file:${log4jFile}`, "-cp", join(plan.libs, "*")];
  await mkdir(join(folder, "data"), { recursive: true });
  await writeFile(propertiesFile, propertiesOf(plan, node, join(folder, "data")));
  await writeFile(log4jFile, LOG4J);
  await runProgram({
    what: `formatting the storage of Kafka node ${node.id}`,
    command: plan.java,
    args: [...FORMAT_JVM, ...java, "kafka.tools.StorageTool", "format", "-t", plan.clusterId, "-c", propertiesFile],
    env: plan.env,
    cwd: folder,
    timeoutMs: FORMAT_TIMEOUT_MS,
    reaper: plan.reaper,
  });

  let server: ServerProcess | null = null;
  const end = async (steps: Parameters<typeof endServer>[1]): Promise<void> => {
    if (server !== null) await endServer(server, steps);
    server = null;
  };
  return {
    id: node.id,
    address: `127.0.0.1:${node.port}`,
    folder,
    get pid() {
      return server === null || server.ending() !== null ? null : server.pid;
    },
    kill: () => end([]),
    stop: () => end([{ signal: "SIGTERM", waitMs: STOP_TIMEOUT_MS }]),
    async start() {
      if (server !== null && server.ending() === null) return;
      server = await spawnServer({
        name: `Kafka node ${node.id}`,
        command: plan.java,
        args: [...HEAP, ...java, "kafka.Kafka", propertiesFile],
        logFile: join(folder, "server.log"),
        env: plan.env,
        cwd: folder,
        reaper: plan.reaper,
        reapedBy: "SIGKILL", // its data goes with it: nothing to be orderly about
      });
      await untilReady(server, {
        answers: async () => (await brokersKnownTo(node.port)) > 0,
        timeoutMs: START_TIMEOUT_MS,
      });
    },
  };
}

function propertiesOf(plan: KafkaClusterPlan, node: KafkaNodePlan, dataFolder: string): string {
  const settings: BrokerSettings = {
    "process.roles": "broker,controller",
    "node.id": node.id,
    "controller.quorum.voters": plan.nodes.map((peer) => `${peer.id}@127.0.0.1:${peer.controllerPort}`).join(","),
    listeners: `PLAINTEXT://127.0.0.1:${node.port},CONTROLLER://127.0.0.1:${node.controllerPort}`,
    "advertised.listeners": `PLAINTEXT://127.0.0.1:${node.port}`,
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "log.dirs": dataFolder,
    ...brokerSettings(plan.nodes.length),
    ...plan.config,
  };
  return Object.entries(settings)
    .map(([name, value]) => `${name}=${value}\n`)
    .join("");
}

/** For a process that lives a second: no optimizing compiler, no parallel collector. */
const FORMAT_JVM = ["-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];

const LOG4J = `rootLogger.level=INFO
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{HH:mm:ss.SSS} %p %c{1} %m%n
`;
