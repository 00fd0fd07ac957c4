/**
 * Writes the JSON of Grafana's boards (ops/grafana/dashboards) from the code that builds them (ops/grafana/*.ts).
 *
 *   npm run dashboards
 *
 * Both are committed: Grafana reads the JSON, test/house/ops.test.ts holds it to the code.
 */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { runnerImport } from "vite";

const root = fileURLToPath(new URL("..", import.meta.url));
const target = join(root, "ops/grafana/dashboards");

const { module } = await runnerImport(join(root, "ops/grafana/index.ts"), {
  root,
  configFile: false,
  logLevel: "error",
});
const names = Object.keys(module.BOARDS);

mkdirSync(target, { recursive: true });
for (const file of readdirSync(target)) if (!names.includes(file.replace(/\.json$/, ""))) rmSync(join(target, file));
for (const name of names) writeFileSync(join(target, `${name}.json`), module.boardJson(name));
console.log(`wrote ${names.map((name) => `${name}.json`).join(", ")} to ops/grafana/dashboards`);
