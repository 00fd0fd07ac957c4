/**
 * Prometheus' own programs: those on the path, else Debian's package, fetched and unpacked once below `.lockstep/tools`. Nothing is
 * installed on the machine.
 */
import { execFile } from "node:child_process";
import { access, constants, mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";

import { withFileLock } from "../../src/stack/file-lock.ts";
import { ROOT } from "./deployment-settings.ts";

const run = promisify(execFile);
const TOOLS = join(ROOT, ".lockstep/tools");
const UNPACKED = join(TOOLS, "prometheus");
/** 19 MB over a slow line, and what other processes may wait for the one that fetches. */
const FETCH_TIMEOUT_MS = 10 * 60_000;

export interface PrometheusTools {
  readonly prometheus: string;
  readonly promtool: string;
  /** As promtool says it: "2.42.0+ds". */
  readonly version: string;
}

/** @throws {Error} they are not there and cannot be fetched; the message has the line that installs them */
export async function prometheusTools(log: (line: string) => void): Promise<PrometheusTools> {
  const found = (await onPath()) ?? (await unpacked()) ?? (await fetched(log));
  const { stdout, stderr } = await run(found.promtool, ["--version"]);
  return { ...found, version: /version (\S+)/.exec(`${stdout}${stderr}`)?.[1] ?? "unknown" };
}

type Programs = Pick<PrometheusTools, "prometheus" | "promtool">;

async function onPath(): Promise<Programs | null> {
  for (const folder of (process.env["PATH"] ?? "").split(delimiter).filter(Boolean)) {
    const programs = await programsIn(folder);
    if (programs !== null) return programs;
  }
  return null;
}

function unpacked(): Promise<Programs | null> {
  return programsIn(UNPACKED);
}

async function fetched(log: (line: string) => void): Promise<Programs> {
  await mkdir(TOOLS, { recursive: true });
  await withFileLock(`${UNPACKED}.lock`, { timeoutMs: FETCH_TIMEOUT_MS }, async () => {
    if ((await unpacked()) !== null) return; // another process has fetched them meanwhile
    log("fetching Prometheus from Debian (about 19 MB, once)");
    const work = await mkdtemp(`${UNPACKED}.partial-`);
    try {
      await download(work);
      const deb = (await readdir(work)).find((name) => name.endsWith(".deb"))!;
      await run("dpkg-deb", ["-x", join(work, deb), join(work, "unpacked")]);
      await rm(UNPACKED, { recursive: true, force: true });
      await rename(join(work, "unpacked/usr/bin"), UNPACKED); // complete or absent
    } catch (error) {
      throw notThere(error);
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  });
  const programs = await unpacked();
  if (programs === null) throw notThere(new Error("the package has no usr/bin/prometheus and promtool"));
  return programs;
}

/** A machine without lists of packages, as a fresh container is, gets them first. */
async function download(folder: string): Promise<void> {
  const options = { cwd: folder, timeout: FETCH_TIMEOUT_MS };
  try {
    await run("apt-get", ["download", "-q", "prometheus"], options);
  } catch {
    await run("apt-get", ["update", "-q"], options); // whatever was wrong, the second attempt says it
    await run("apt-get", ["download", "-q", "prometheus"], options);
  }
}

async function programsIn(folder: string): Promise<Programs | null> {
  const programs = { prometheus: join(folder, "prometheus"), promtool: join(folder, "promtool") };
  for (const path of Object.values(programs)) {
    const executable = await access(path, constants.X_OK).then(
      () => true,
      () => false, // not in this folder
    );
    if (!executable) return null;
  }
  return programs;
}

function notThere(cause: unknown): Error {
  const said = cause as Error & { stderr?: string };
  return new Error(
    "prometheus and promtool are not on the path, and Debian's package could not be fetched. Install them:\n" +
      `  apt-get install -y --no-install-recommends prometheus\n${said.stderr || said.message}`,
    { cause },
  );
}
