/**
 * Kafka's jars: the broker, and the Java tools that tests use as an independent reader. Fetched from Maven once.
 *
 * Invariants
 *   L1  A folder is used only when its marker says that it is complete and made from the same list of artifacts.
 *   L2  Of several processes that need it at once, one fetches, the others wait for it.
 */
import { createHash } from "node:crypto";
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";

import { LockstepError } from "../errors.ts";
import { withFileLock } from "./file-lock.ts";
import { runProgram } from "./run-program.ts";

export const KAFKA_VERSION = "4.3.0";

/** slf4j 1.7 is what this Kafka brings, so the binding of log4j for it, and not log4j-slf4j2-impl. */
const LOG4J_VERSION = "2.25.4";
const MARKER = ".complete";
/** 54 MB over a slow line, and what other processes may wait for the one that fetches. */
const FETCH_TIMEOUT_MS = 15 * 60_000;

const ARTIFACTS = [
  ["org.apache.kafka", "kafka_2.13", KAFKA_VERSION],
  ["org.apache.kafka", "kafka-tools", KAFKA_VERSION],
  ["org.apache.logging.log4j", "log4j-core", LOG4J_VERSION],
  ["org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_VERSION],
] as const;

export interface KafkaLibs {
  readonly folder: string;
  /** The folder was named by LOCKSTEP_KAFKA_LIBS: jars found there are taken as they are, and nothing there is removed. */
  readonly given: boolean;
}

export function kafkaLibsFolder(env: NodeJS.ProcessEnv): KafkaLibs {
  if (env["LOCKSTEP_KAFKA_LIBS"]) return { folder: resolve(env["LOCKSTEP_KAFKA_LIBS"]), given: true };
  return { folder: join(cacheRoot(), ".lockstep", `kafka-libs-${KAFKA_VERSION}`), given: false };
}

export async function hasKafkaLibs(libs: KafkaLibs): Promise<boolean> {
  if (libs.given && (await filesIn(libs.folder)).some((name) => /^kafka_.*\.jar$/.test(name))) return true;
  const marker = await readFile(join(libs.folder, MARKER), "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
  return marker === digestOf(pom());
}

/**
 * The folder with the jars, fetched when it is not there yet.
 * @throws {LockstepError} STACK_UNAVAILABLE Maven cannot be run, or does not get the artifacts
 */
export async function fetchKafkaLibs(env: NodeJS.ProcessEnv, log: (line: string) => void): Promise<string> {
  const libs = kafkaLibsFolder(env);
  if (await hasKafkaLibs(libs)) return libs.folder;
  if (libs.given && (await filesIn(libs.folder)).length > 0) {
    throw new LockstepError(
      "STACK_UNAVAILABLE",
      `LOCKSTEP_KAFKA_LIBS=${libs.folder} holds files, but none of them is Kafka's jar`,
    );
  }
  await mkdir(dirname(libs.folder), { recursive: true });
  await withFileLock(`${libs.folder}.lock`, { timeoutMs: FETCH_TIMEOUT_MS }, async () => {
    if (await hasKafkaLibs(libs)) return; // another process has fetched them meanwhile
    log(`fetching Kafka ${KAFKA_VERSION} from Maven (about 54 MB, once)`);
    const work = await mkdtemp(`${libs.folder}.partial-`);
    try {
      await resolveInto(work, env);
      await rm(libs.folder, { recursive: true, force: true });
      await rename(work, libs.folder); // L1: complete or absent
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  });
  return libs.folder;
}

async function resolveInto(folder: string, env: NodeJS.ProcessEnv): Promise<void> {
  await chmod(folder, 0o755); // made for us alone; the jars are for every user
  await writeFile(join(folder, "pom.xml"), pom());
  await runProgram({
    what: "fetching Kafka's jars from Maven",
    command: "mvn",
    args: ["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", `-DoutputDirectory=${folder}`],
    env,
    cwd: folder,
    timeoutMs: FETCH_TIMEOUT_MS,
  });
  await writeFile(join(folder, MARKER), digestOf(pom()));
}

async function filesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
}

/** The repository when run inside it; else, installed in another project, the folder that project is run in. */
function cacheRoot(): string {
  const packageRoot = fileURLToPath(new URL("../..", import.meta.url));
  return packageRoot.includes(`${sep}node_modules${sep}`) ? process.cwd() : packageRoot;
}

function pom(): string {
  const dependencies = ARTIFACTS.map(
    ([group, artifact, version]) =>
      `    <dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version></dependency>`,
  );
  return [
    '<project xmlns="http://maven.apache.org/POM/4.0.0">',
    "  <modelVersion>4.0.0</modelVersion>",
    "  <groupId>lockstep</groupId><artifactId>kafka-libs</artifactId><version>1</version><packaging>pom</packaging>",
    "  <dependencies>",
    ...dependencies,
    "  </dependencies>",
    "</project>",
    "",
  ].join("\n");
}

function digestOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
