/**
 * Until the relay has passed everything that is in Postgres' log now: what was committed by now is published.
 */
import type { App } from "../actors/app.ts";
import { systemClock } from "../clock.ts";
import type { Config } from "../config.ts";
import { openRelayPorts } from "../relay/open.ts";
import { parseLsn } from "../storage/lsn.ts";
import { createPool, query } from "../storage/pool.ts";
import { createLog } from "../telemetry/log.ts";

const POLL_MS = 100;

/** @returns false: the position stood still for `stallMs`, or the signal aborted */
export async function untilRelayed(options: {
  config: Config;
  app: App;
  groupId: string;
  stallMs: number;
  signal: AbortSignal;
  onProgress?: (behindBytes: number) => void;
}): Promise<boolean> {
  const { config, app, groupId, stallMs, signal } = options;
  const log = createLog({ level: "error", fd: 2 });
  const pool = createPool(config.databaseUrl, { max: 1, applicationName: "lockstep-relay-wait", log });
  const ports = openRelayPorts({ app, config, groupId, log, hook: () => {} });
  try {
    const { rows } = await query<{ lsn: string }>(pool, "SELECT pg_current_wal_insert_lsn()::text AS lsn");
    const goal = parseLsn(rows[0]!.lsn);
    let last = -1n;
    let movedMs = systemClock.monotonicMs();
    while (!signal.aborted) {
      const lsn = (await ports.committed())?.offset ?? 0n;
      if (lsn >= goal) return true;
      const nowMs = systemClock.monotonicMs();
      if (lsn > last) movedMs = nowMs;
      // The coordinator alone may not know it (K1 in docs/protocol.md).
      if (nowMs - movedMs > stallMs) return ((await ports.committedInLog())?.offset ?? 0n) >= goal;
      last = lsn;
      options.onProgress?.(Number(goal - lsn));
      await systemClock.sleep(POLL_MS, signal);
    }
    return false;
  } finally {
    await ports.close();
    await pool.end();
  }
}
