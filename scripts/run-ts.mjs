/**
 * Runs a program of the tests that is written in TypeScript, which Node 20 cannot read by itself:
 *
 *   node scripts/run-ts.mjs test/overload/main.ts [its arguments]
 *
 * The module exports `main(args, env)`, which resolves to the exit code. Types are checked by `npm run types`, not here.
 */
import { resolve } from "node:path";
import { createServer } from "vite";

const [file, ...args] = process.argv.slice(2);
const vite = await createServer({
  configFile: false,
  logLevel: "error",
  appType: "custom",
  server: { middlewareMode: true, hmr: false, ws: false, watch: null },
  optimizeDeps: { noDiscovery: true },
});
try {
  const { main } = await vite.ssrLoadModule(resolve(file));
  process.exitCode = await main(args, process.env);
} finally {
  await vite.close();
}
