/**
 * One Kafka node of the embedded stack: broker and controller in one Java process (KRaft), data in a folder of its own.
 *
 * Settings are those of a small development cluster: few partitions of internal topics, so that it starts in seconds,
 * and no waiting for members of a group.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

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
/** Few: each costs files and a place in the start-up. They still spread over three brokers. */
const INTERNAL_PARTITIONS = 4;
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
  const replicas = Math.min(3, plan.nodes.length);
  const inSync = Math.min(2, replicas);
  const settings: Record<string, string | number | boolean> = {
    "process.roles": "broker,controller",
    "node.id": node.id,
    "controller.quorum.voters": plan.nodes.map((peer) => `${peer.id}@127.0.0.1:${peer.controllerPort}`).join(","),
    listeners: `PLAINTEXT://127.0.0.1:${node.port},CONTROLLER://127.0.0.1:${node.controllerPort}`,
    "advertised.listeners": `PLAINTEXT://127.0.0.1:${node.port}`,
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "log.dirs": dataFolder,
    "default.replication.factor": replicas,
    "min.insync.replicas": inSync,
    "offsets.topic.replication.factor": replicas,
    "offsets.topic.num.partitions": INTERNAL_PARTITIONS,
    "transaction.state.log.replication.factor": replicas,
    "transaction.state.log.min.isr": inSync,
    "transaction.state.log.num.partitions": INTERNAL_PARTITIONS,
    "share.coordinator.state.topic.replication.factor": replicas,
    "share.coordinator.state.topic.min.isr": inSync,
    "share.coordinator.state.topic.num.partitions": INTERNAL_PARTITIONS,
    "group.initial.rebalance.delay.ms": 0,
    // A killed node may register again only when its old session has ended (default 9 s); this is how long a restart takes.
    "broker.session.timeout.ms": 4000,
    "broker.heartbeat.interval.ms": 500,
    "auto.create.topics.enable": false,
    // Record timestamps are event time. Data with times of last month would otherwise be deleted minutes after it was written.
    "log.retention.ms": -1,
    // Of the heap; the default of 128 MB is for compacting much larger topics than offsets and transactions here.
    "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
    "num.io.threads": 4,
    "group.coordinator.threads": 2,
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
