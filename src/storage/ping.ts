/**
 * Whether Postgres answers: for health. It has a connection of its own, so that it waits for nobody's.
 */
import { createPool, type Log } from "./pool.ts";

export interface Ping {
  /** @returns why not, or null when it answers */
  why(): Promise<string | null>;
  close(): Promise<void>;
}

/** Shorter than a probe waits. */
const PING_MS = 2_000;

export function createPing(url: string, log: Log): Ping {
  const limits = { connectTimeoutMs: PING_MS, queryTimeoutMs: PING_MS, statementTimeoutMs: PING_MS };
  const pool = createPool(url, { max: 1, applicationName: "lockstep-health", log, limits });
  return {
    async why() {
      try {
        await pool.query("SELECT 1");
        return null;
      } catch (error) {
        return `Postgres does not answer: ${error instanceof Error ? error.message : String(error)}`;
      }
    },
    close: () => pool.end(),
  };
}
