/**
 * Kafka and Postgres in containers, with the settings of the embedded ones. The package `testcontainers` starts them; it is loaded
 * here, when it is wanted, and nowhere else. Its own reaper container ends them when this process is gone, also when it is killed.
 *
 * One broker only: three that replicate need the embedded stack.
 */
import { createRequire } from "node:module";
import type { StartedTestContainer } from "testcontainers";

import { LockstepError } from "../errors.ts";
import { missingEngine } from "./docker-engine.ts";
import { freePorts } from "./free-ports.ts";
import { KAFKA_VERSION } from "./kafka-libs.ts";
import { brokerSettings } from "./kafka-settings.ts";
import { POSTGRES_PASSWORD, POSTGRES_SETTINGS } from "./postgres-server.ts";
import type { Missing } from "./prerequisites.ts";

const POSTGRES_VERSION = "18";
const TESTCONTAINERS_VERSION = "11.14.0";
const KAFKA_PORT = 9092;
const CONTROLLER_PORT = 9093;
const POSTGRES_PORT = 5432;
/** The first time the image has to be fetched. */
const START_TIMEOUT_MS = 300_000;

/** A container as it is to be made: plain data. */
export interface ContainerPlan {
  readonly image: string;
  readonly env: Readonly<Record<string, string>>;
  readonly command: readonly string[];
  /** The container's port, and the one of the host that leads to it: fixed, since Kafka must tell its clients before it starts. */
  readonly port: { readonly container: number; readonly host: number };
  /** It serves when its log has had so many lines like this. */
  readonly ready: { readonly line: RegExp; readonly times: number };
}

/** What containers need and is not there. */
export async function missingContainers(options: { brokers: number; env: NodeJS.ProcessEnv }): Promise<Missing[]> {
  if (options.brokers > 1) {
    return [
      {
        what: `${options.brokers} brokers in containers, which the stack does not offer`,
        install: "take the embedded stack",
      },
    ];
  }
  const engine = await missingEngine(options.env);
  return [
    ...(isInstalled("testcontainers")
      ? []
      : [
          {
            what: "the package testcontainers",
            install: `npm install --no-save testcontainers@${TESTCONTAINERS_VERSION}`,
          },
        ]),
    ...(engine === null ? [] : [engine]),
  ];
}

/** @param at host and port under which its clients reach it */
export function kafkaPlan(at: { host: string; port: number }, config: Readonly<Record<string, string>>): ContainerPlan {
  const settings = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.quorum.voters": `1@localhost:${CONTROLLER_PORT}`,
    listeners: `PLAINTEXT://:${KAFKA_PORT},CONTROLLER://:${CONTROLLER_PORT}`,
    "advertised.listeners": `PLAINTEXT://${at.host}:${at.port}`,
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "log.dirs": "/tmp/kraft-combined-logs",
    ...brokerSettings(1),
    ...config,
  };
  return {
    image: `apache/kafka:${KAFKA_VERSION}`,
    env: Object.fromEntries(Object.entries(settings).map(([name, value]) => [variableOf(name), String(value)])),
    command: [],
    port: { container: KAFKA_PORT, host: at.port },
    ready: { line: /Kafka Server started/, times: 1 },
  };
}

export function postgresPlan(port: number, config: Readonly<Record<string, string>>): ContainerPlan {
  const settings = Object.entries({ ...POSTGRES_SETTINGS, ...config });
  return {
    image: `postgres:${POSTGRES_VERSION}`,
    env: { POSTGRES_PASSWORD, POSTGRES_INITDB_ARGS: "--encoding=UTF8 --locale=C --auth-host=scram-sha-256" },
    command: ["postgres", ...settings.flatMap(([name, value]) => ["-c", `${name}=${value}`])],
    port: { container: POSTGRES_PORT, host: port },
    // Once by the server that only initializes, once by the one that stays.
    ready: { line: /database system is ready to accept connections/, times: 2 },
  };
}

export interface ContainerServer {
  /** Under which its port is reached. */
  readonly host: string;
  readonly port: number;
  /** Idempotent. Its data goes with it. */
  stop(): Promise<void>;
}

/** @throws {LockstepError} STACK_UNAVAILABLE the engine refuses, the image cannot be had, or it did not come up */
export async function startContainer(
  what: string,
  planFor: (at: { host: string; port: number }) => ContainerPlan,
): Promise<ContainerServer> {
  const [port] = await freePorts(1);
  try {
    const { GenericContainer, getContainerRuntimeClient, Wait } = await import("testcontainers");
    const { host } = (await getContainerRuntimeClient()).info.containerRuntime;
    const plan = planFor({ host, port: port! });
    const container = new GenericContainer(plan.image)
      .withEnvironment({ ...plan.env })
      .withExposedPorts({ ...plan.port })
      .withWaitStrategy(Wait.forLogMessage(plan.ready.line, plan.ready.times))
      .withStartupTimeout(START_TIMEOUT_MS);
    if (plan.command.length > 0) container.withCommand([...plan.command]);
    const started = await container.start();
    return { host, port: port!, stop: once(started) };
  } catch (cause) {
    throw new LockstepError(
      "STACK_UNAVAILABLE",
      `${what} cannot be started in a container: ${(cause as Error).message}`,
      {
        cause,
      },
    );
  }
}

/** As the image of Kafka reads its settings: dots become underscores, underscores two, dashes three. */
export function variableOf(setting: string): string {
  const name = setting.replaceAll("_", "__").replaceAll("-", "___").replaceAll(".", "_");
  return `KAFKA_${name.toUpperCase()}`;
}

function once(container: StartedTestContainer): () => Promise<void> {
  let stopping: Promise<void> | null = null;
  return () => {
    stopping ??= container.stop().then(() => undefined);
    return stopping;
  };
}

function isInstalled(name: string): boolean {
  try {
    createRequire(import.meta.url).resolve(name);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "MODULE_NOT_FOUND") return false;
    throw error;
  }
}
