/**
 * Kafka's jars: the broker, and the Java tools that tests use as an independent reader. Fetched from Maven once, or
 * those of a folder that the environment names.
 */
import { readdir } from "node:fs/promises";
import { join, resolve } from "node:path";

import { LockstepError } from "../errors.ts";
import { cacheRoot, fetchMavenLibs, hasMavenLibs, type MavenArtifact, type MavenLibs } from "./maven-libs.ts";

export const KAFKA_VERSION = "4.3.0";

const LOG4J_VERSION = "2.25.4";
/** slf4j 1.7 is what this Kafka brings, so the binding of log4j for it, and not log4j-slf4j2-impl. */
export const LOG4J_ARTIFACTS: readonly MavenArtifact[] = [
  { group: "org.apache.logging.log4j", artifact: "log4j-core", version: LOG4J_VERSION },
  { group: "org.apache.logging.log4j", artifact: "log4j-slf4j-impl", version: LOG4J_VERSION },
];

const ARTIFACTS: readonly MavenArtifact[] = [
  { group: "org.apache.kafka", artifact: "kafka_2.13", version: KAFKA_VERSION },
  { group: "org.apache.kafka", artifact: "kafka-tools", version: KAFKA_VERSION },
  ...LOG4J_ARTIFACTS,
];

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
  return hasMavenLibs(inMaven(libs));
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
  return fetchMavenLibs(inMaven(libs), env, log);
}

function inMaven({ folder }: KafkaLibs): MavenLibs {
  return { name: "kafka-libs", what: `Kafka ${KAFKA_VERSION}`, megabytes: 54, folder, artifacts: ARTIFACTS };
}

async function filesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
}
