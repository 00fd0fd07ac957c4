/**
 * Which code runs: a digest over the app's own files, and the app module itself, loaded by name or by path.
 *
 * The digest covers the app module and everything it reaches through relative imports inside its own folder, plus the version
 * of xstate and the major version of Node (the text of an error that a machine throws is part of a dead letter), because a change in
 * any of them can change what a replay gives. Files are taken in the order of their paths.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, isAbsolute, join, relative, resolve, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import type { App } from "../actors/app.ts";
import { LockstepError } from "../errors.ts";

/** Apps that live in this package, by folder name. */
const OWN_APPS = new URL("../machines/", import.meta.url);
const IMPORT =
  /\b(?:import|export)\b[^"'`;]*?from\s*["'](\.{1,2}\/[^"']+)["']|\bimport\s*\(?\s*["'](\.{1,2}\/[^"']+)["']/g;

export interface LoadedApp {
  readonly app: App;
  /** Absolute path of the app module. */
  readonly path: string;
  /** Hex digest, 16 characters. */
  readonly code: string;
}

/**
 * @param reference name of an app of this package (`trading`), or the path of a module that exports an app as `default` or `app`
 * @throws {LockstepError} APP_NOT_LOADED, APP_INVALID
 */
export async function loadApp(reference: string): Promise<LoadedApp> {
  const path = appPath(reference);
  let module: { default?: unknown; app?: unknown };
  try {
    module = await import(pathToFileURL(path).href);
  } catch (cause) {
    if ((cause as { code?: unknown }).code === "APP_INVALID") throw cause;
    throw new LockstepError(
      "APP_NOT_LOADED",
      `App "${reference}" (${path}) cannot be loaded: ${(cause as Error).message}`,
      { cause },
    );
  }
  const app = (module.default ?? module.app) as App | undefined;
  if (!app || typeof app !== "object" || !Array.isArray(app.inputs) || typeof app.name !== "string") {
    throw new LockstepError(
      "APP_NOT_LOADED",
      `${path} exports no app: export the result of defineApp(...) as default.`,
    );
  }
  return { app, path, code: await codeDigest(path) };
}

function appPath(reference: string): string {
  if (/^[a-z][a-z0-9-]*$/.test(reference)) {
    for (const extension of ["js", "ts"]) {
      const path = fileURLToPath(new URL(`${reference}/app.${extension}`, OWN_APPS));
      if (existsSync(path)) return path;
    }
  }
  const path = isAbsolute(reference) ? reference : resolve(process.cwd(), reference);
  if (existsSync(path)) return path;
  throw new LockstepError("APP_NOT_LOADED", `App "${reference}" is neither an app of this package nor a file.`, {
    details: { reference },
  });
}

export async function codeDigest(path: string): Promise<string> {
  const folder = dirname(path) + sep;
  const files = new Map<string, string>();
  const queue = [path];
  for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
    if (files.has(file)) continue;
    const text = await readFile(file, "utf8");
    files.set(file, text);
    for (const match of text.matchAll(IMPORT)) {
      const target = resolve(dirname(file), match[1] ?? match[2]!);
      if (target.startsWith(folder) && existsSync(target)) queue.push(target);
    }
  }
  const hash = createHash("sha256");
  const xstate = createRequire(import.meta.url)("xstate/package.json") as { version: string };
  hash.update(`xstate ${xstate.version}, node ${process.versions.node.split(".")[0]}\n`);
  for (const file of [...files.keys()].sort()) hash.update(`${relative(folder, file)}\n${files.get(file)!}\n`);
  return hash.digest("hex").slice(0, 16);
}

/** Folder of this package's own app, for tools that lie beside it. */
export function toolsPath(appModule: string): string {
  const extension = appModule.endsWith(".ts") ? "ts" : "js";
  return join(dirname(appModule), `tools.${extension}`);
}
