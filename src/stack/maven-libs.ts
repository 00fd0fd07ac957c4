/**
 * A folder of jars, fetched from Maven once: the artifacts of a list and all that they need at run time.
 *
 * Invariants
 *   L1  A folder is used only when its marker says that it is complete and made from the same list of artifacts.
 *   L2  Of several processes that need it at once, one fetches, the others wait for it.
 */
import { createHash } from "node:crypto";
import { chmod, mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join, sep } from "node:path";
import { fileURLToPath } from "node:url";

import { withFileLock } from "./file-lock.ts";
import { runProgram } from "./run-program.ts";

export interface MavenArtifact {
  readonly group: string;
  readonly artifact: string;
  readonly version: string;
  /** Groups of which nothing is fetched on its account: what the process that loads it brings already. */
  readonly without?: readonly string[];
}

export interface MavenLibs {
  /** Of the set: letters, digits, dashes. */
  readonly name: string;
  /** For messages, as in "Kafka 4.3.0". */
  readonly what: string;
  /** What is to be expected of the line, in megabytes. */
  readonly megabytes: number;
  readonly folder: string;
  readonly artifacts: readonly MavenArtifact[];
}

const MARKER = ".complete";
/** The largest set is 54 MB: over a slow line, and what other processes may wait for the one that fetches. */
const FETCH_TIMEOUT_MS = 15 * 60_000;

/** The repository when run inside it; else, installed in another project, the folder that project is run in. */
export function cacheRoot(): string {
  const packageRoot = fileURLToPath(new URL("../..", import.meta.url));
  return packageRoot.includes(`${sep}node_modules${sep}`) ? process.cwd() : packageRoot;
}

export async function hasMavenLibs(libs: MavenLibs): Promise<boolean> {
  const marker = await readFile(join(libs.folder, MARKER), "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
  return marker === digestOf(pomOf(libs));
}

/**
 * The folder with the jars, fetched when it is not there yet.
 * @throws {LockstepError} STACK_UNAVAILABLE Maven cannot be run, or does not get the artifacts
 */
export async function fetchMavenLibs(
  libs: MavenLibs,
  env: NodeJS.ProcessEnv,
  log: (line: string) => void,
): Promise<string> {
  if (await hasMavenLibs(libs)) return libs.folder;
  await mkdir(dirname(libs.folder), { recursive: true });
  await withFileLock(`${libs.folder}.lock`, { timeoutMs: FETCH_TIMEOUT_MS }, async () => {
    if (await hasMavenLibs(libs)) return; // another process has fetched them meanwhile
    log(`fetching ${libs.what} from Maven (about ${libs.megabytes} MB, once)`);
    const work = await mkdtemp(`${libs.folder}.partial-`);
    try {
      await resolveInto(work, libs, env);
      await rm(libs.folder, { recursive: true, force: true });
      await rename(work, libs.folder); // L1: complete or absent
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  });
  return libs.folder;
}

async function resolveInto(folder: string, libs: MavenLibs, env: NodeJS.ProcessEnv): Promise<void> {
  await chmod(folder, 0o755); // made for us alone; the jars are for every user
  await writeFile(join(folder, "pom.xml"), pomOf(libs));
  await runProgram({
    what: `fetching ${libs.what} from Maven`,
    command: "mvn",
    args: ["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", `-DoutputDirectory=${folder}`],
    env,
    cwd: folder,
    timeoutMs: FETCH_TIMEOUT_MS,
  });
  await writeFile(join(folder, MARKER), digestOf(pomOf(libs)));
}

function pomOf({ name, artifacts }: MavenLibs): string {
  return [
    '<project xmlns="http://maven.apache.org/POM/4.0.0">',
    "  <modelVersion>4.0.0</modelVersion>",
    `  <groupId>lockstep</groupId><artifactId>${name}</artifactId><version>1</version><packaging>pom</packaging>`,
    "  <dependencies>",
    ...artifacts.map((each) => `    ${dependencyOf(each)}`),
    "  </dependencies>",
    "</project>",
    "",
  ].join("\n");
}

function dependencyOf({ group, artifact, version, without = [] }: MavenArtifact): string {
  const excluded = without.map((each) => `<exclusion><groupId>${each}</groupId><artifactId>*</artifactId></exclusion>`);
  const exclusions = excluded.length === 0 ? "" : `<exclusions>${excluded.join("")}</exclusions>`;
  return `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version>${exclusions}</dependency>`;
}

function digestOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
