/**
 * Compiles the apps of the tests (test/support/apps) to .lockstep/test-apps, where a plain `node` can load them: file by file,
 * without a look at the types, which `npm run types` checks. Only what is older than its source is written.
 */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const root = fileURLToPath(new URL("..", import.meta.url));
const source = join(root, "test/support/apps");
const target = join(root, ".lockstep/test-apps");
const { compilerOptions } = ts.readConfigFile(join(root, "tsconfig.json"), ts.sys.readFile).config;
const { options } = ts.convertCompilerOptionsFromJson(
  {
    ...compilerOptions,
    module: "esnext",
    moduleResolution: "bundler",
    noEmit: false,
    declaration: false,
    sourceMap: false,
  },
  root,
);

const builderMs = statSync(fileURLToPath(import.meta.url)).mtimeMs;
const expected = new Set();
for (const path of filesBelow(source)) {
  const output = join(target, relative(source, path)).replace(/\.ts$/, ".js");
  expected.add(output);
  const changedMs = Math.max(statSync(path).mtimeMs, builderMs);
  if (existsSync(output) && statSync(output).mtimeMs > changedMs) continue;
  mkdirSync(dirname(output), { recursive: true });
  if (!path.endsWith(".ts")) copyFileSync(path, output);
  else {
    const { outputText } = ts.transpileModule(readFileSync(path, "utf8"), { compilerOptions: options, fileName: path });
    writeFileSync(output, outputText);
  }
}
for (const path of filesBelow(target)) if (!expected.has(path)) rmSync(path);

function filesBelow(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}
