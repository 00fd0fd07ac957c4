/**
 * Builds dist from src: tsc, and the files that tsc does not know (migrations, plain JavaScript).
 *
 *   node scripts/build.mjs            builds what has changed
 *   node scripts/build.mjs --quiet    says nothing unless something is wrong
 *
 * tsc keeps what it knows in dist/.tsbuildinfo, so that it is lost together with its output and never believes in files
 * that are gone. Exit code 1 when a type is wrong; what could be written has been written all the same.
 */
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const source = join(root, "src");
const target = join(root, "dist");
/** Its time is the beginning of the last build without errors. */
const stamp = join(target, ".built");
const buildInfo = join(target, ".tsbuildinfo");
const quiet = process.argv.includes("--quiet");

/** Copied as they are. */
const ASSETS = [".sql", ".mjs", ".json", ".html", ".css"];
/** What tsc writes for one source file. */
const OUTPUTS = [".js", ".js.map", ".d.ts"];

const startedAt = new Date();
const sources = filesBelow(source).filter((path) => path.endsWith(".ts"));
const assets = filesBelow(source).filter((path) => ASSETS.some((ending) => path.endsWith(ending)));
const expected = new Set([
  ...sources.flatMap((path) => OUTPUTS.map((ending) => inTarget(path).replace(/\.ts$/, ending))),
  ...assets.map(inTarget),
  stamp,
  buildInfo,
]);

if (isFresh()) {
  say("dist is up to date");
} else {
  const succeeded = compile();
  for (const path of assets) copyAsset(path);
  for (const path of orphans()) rmSync(path);
  const main = join(target, "main.js");
  if (existsSync(main)) chmodSync(main, 0o755);
  if (!succeeded) process.exit(1);
  writeFileSync(stamp, "");
  utimesSync(stamp, startedAt, startedAt); // a file saved while the build ran is newer than that
  say(`built dist in ${((Date.now() - startedAt.getTime()) / 1000).toFixed(1)} s`);
}

function isFresh() {
  if (!existsSync(stamp)) return false;
  const builtAt = statSync(stamp).mtimeMs;
  const settings = ["tsconfig.json", "tsconfig.build.json", "package-lock.json"].map((name) => join(root, name));
  if ([...sources, ...assets, ...settings].some((path) => statSync(path).mtimeMs >= builtAt)) return false;
  return [...expected].every((path) => existsSync(path)) && orphans().length === 0;
}

function compile() {
  mkdirSync(target, { recursive: true });
  const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
  const args = ["-p", "tsconfig.build.json", "--incremental", "--tsBuildInfoFile", buildInfo];
  return spawnSync(process.execPath, [tsc, ...args], { cwd: root, stdio: "inherit" }).status === 0;
}

/** Output of sources that are gone: it would still be imported, and published. */
function orphans() {
  return filesBelow(target).filter((path) => !expected.has(path));
}

function copyAsset(path) {
  mkdirSync(dirname(inTarget(path)), { recursive: true });
  copyFileSync(path, inTarget(path));
}

function inTarget(path) {
  return join(target, relative(source, path));
}

function filesBelow(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

function say(line) {
  if (!quiet) console.log(line);
}
