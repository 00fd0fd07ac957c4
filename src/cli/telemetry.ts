/**
 * Metrics and health of a process that an operator starts: `lockstep run`, and `lockstep relay run`.
 */
import { systemClock } from "../clock.ts";
import type { Config } from "../config.ts";
import type { Log } from "../log.ts";
import type { LoadedApp } from "../runtime/code.ts";
import { groupIdOf } from "../runtime/deployment.ts";
import { type ProcessTelemetry, startProcessTelemetry } from "../runtime/process-telemetry.ts";
import type { RelayMeter } from "../runtime/relay-meter.ts";
import { createPing } from "../storage/ping.ts";
import { sparing } from "../telemetry/health.ts";
import { packageVersion } from "../version.ts";

/** However many probes ask, Postgres is asked at most so often. */
const PING_EVERY_MS = 1_000;

/**
 * Lends them for the time of `work`.
 * @param of.workers    0: only a relay
 * @param of.relayMeter null: no relay
 * @throws {LockstepError} HTTP_UNAVAILABLE; else what `work` throws
 */
export async function withTelemetry<T>(
  of: { config: Config; loaded: LoadedApp; log: Log; workers: number; relayMeter: RelayMeter | null },
  work: (telemetry: ProcessTelemetry) => Promise<T>,
): Promise<T> {
  const { config, loaded, log, workers, relayMeter } = of;
  const ping = createPing(config.databaseUrl, log);
  try {
    const telemetry = await startProcessTelemetry({
      config,
      app: loaded.app.name,
      group: groupIdOf(config, loaded),
      workers,
      build: { version: packageVersion(), code: loaded.code, node: process.version },
      log,
      clock: systemClock,
      checks: [
        sparing({ name: "postgres", run: ping.why }, PING_EVERY_MS, systemClock.monotonicMs),
        ...(relayMeter ? [relayMeter.check] : []),
      ],
      onTick: () => relayMeter?.tick(),
    });
    try {
      return await work(telemetry);
    } finally {
      await telemetry.close();
    }
  } finally {
    await ping.close();
  }
}
