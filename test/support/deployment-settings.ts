/**
 * Which apps a test deployment can host, and the settings of its processes.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** The file an operator starts. */
export const MAIN = join(ROOT, "dist/main.js");

/** What `LOCKSTEP_APP` is set to: a name of the package, or the path of a compiled test app (scripts/build-test-apps.mjs). */
export const APPS = {
  trading: "trading",
  visits: join(ROOT, ".lockstep/test-apps/visits/app.js"),
  hostile: join(ROOT, ".lockstep/test-apps/hostile/app.js"),
} as const;

/** Fast, so that a takeover takes seconds; slow enough for two cores that others use too. */
export const FAST = {
  LOCKSTEP_WORKERS: "2",
  LOCKSTEP_SESSION_TIMEOUT_MS: "2000",
  LOCKSTEP_HEARTBEAT_INTERVAL_MS: "400",
  LOCKSTEP_REBALANCE_TIMEOUT_MS: "5000",
  LOCKSTEP_HANDOVER_MS: "300",
  LOCKSTEP_TRANSACTION_TIMEOUT_MS: "10000",
  LOCKSTEP_INPUT_WAIT_MS_MAX: "500",
  LOCKSTEP_IDLE_MS: "200",
  LOCKSTEP_HTTP_PORT: "0",
  LOG_LEVEL: "info",
  // A relay in every process would take its share of two cores; the tests of the relay turn it on.
  LOCKSTEP_RELAY: "off",
  LOCKSTEP_RELAY_TIMEOUT_MS: "3000",
  LOCKSTEP_RELAY_POSITION_MS: "300",
} as const;

/** What a process needs of the caller's environment to run at all; settings of Lockstep or of the test runner are not. */
export function inheritedEnv(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !name.startsWith("LOCKSTEP_") && !["NODE_OPTIONS", "LOG_LEVEL", "PORT"].includes(name),
  );
  return Object.fromEntries(kept);
}
