/**
 * Source files as the house tests read them. Checks are functions of files, so that each test also shows that its check
 * finds what it is for: it is run on files made up to break the rule.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

export interface SourceFile {
  /** From the root of the repository, with slashes. */
  readonly path: string;
  readonly text: string;
}

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

export function filesOf(folder: string, ending: string): SourceFile[] {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(ending))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
    .map((path) => ({ path: relative(ROOT, path).replaceAll(sep, "/"), text: readFileSync(path, "utf8") }));
}

/** The file without its comments, so that prose is not taken for code. */
export function codeOf(file: SourceFile): string {
  return file.text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/(^|\s)\/\/.*$/gm, "$1");
}

/** What a file imports: packages by name (without a path below it), files by their path from the root. */
export function importsOf(file: SourceFile): string[] {
  const pattern = /(?:\bfrom\s*|\bimport\s*\(\s*|\bimport\s+)["']([^"']+)["']/g;
  return [...codeOf(file).matchAll(pattern)].map(([, target]) => {
    if (target!.startsWith(".")) return join(file.path, "..", target!).replaceAll(sep, "/");
    return target!.startsWith("@")
      ? target!.split("/").slice(0, 2).join("/")
      : target!.replace(/(?<!^node:.*)\/.*$/, "");
  });
}
