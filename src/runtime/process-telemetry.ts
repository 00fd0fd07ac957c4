/**
 * Metrics and health of one process, from its first moment to its last: collected whether or not they are served.
 */
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import type { Log } from "../log.ts";
import { createExposition } from "../telemetry/exposition.ts";
import type { Check } from "../telemetry/health.ts";
import { startHttpServer } from "../telemetry/http.ts";
import { ProcessHealth } from "./process-health.ts";
import { ProcessMetrics } from "./process-metrics.ts";
import type { SupervisorObserver } from "./supervisor.ts";
import { REPORT_EVERY_MS } from "./worker-meter.ts";

export interface ProcessTelemetry {
  readonly metrics: ProcessMetrics;
  readonly health: ProcessHealth;
  readonly observer: SupervisorObserver;
  close(): Promise<void>;
}

export interface ProcessTelemetryOptions {
  readonly config: Config;
  readonly app: string;
  readonly group: string;
  readonly workers: number;
  readonly build: { readonly version: string; readonly code: string; readonly node: string };
  readonly log: Log;
  readonly clock: Clock;
  /** Checks of readyz besides those of the runtime. */
  readonly checks: readonly Check[];
  /** Called each `REPORT_EVERY_MS`. */
  readonly onTick?: () => void;
}

/** @throws {LockstepError} HTTP_UNAVAILABLE */
export async function startProcessTelemetry(options: ProcessTelemetryOptions): Promise<ProcessTelemetry> {
  const { config, app, group, workers, build, log, clock, checks } = options;
  const metrics = new ProcessMetrics({ workers, actorsMax: config.metricsActorsMax, build });
  const health = new ProcessHealth({ workers, sessionTimeoutMs: config.sessionTimeoutMs, clock, more: checks });
  const server = config.http
    ? await startHttpServer({
        host: config.httpHost,
        port: config.httpPort,
        log,
        exposition: createExposition({
          labels: { app, group },
          samples: (name) => metrics.samples(name),
          refresh: () => metrics.refresh(),
        }),
        checks: health.checks,
        version: build,
      })
    : null;
  if (server) log.info({ event: "http-listening", url: server.url }, "serving metrics and health");
  const ticks = setInterval(() => {
    health.tick();
    options.onTick?.();
  }, REPORT_EVERY_MS);
  return {
    metrics,
    health,
    observer: {
      workerStarted(worker) {
        metrics.workerStarted(worker);
        health.workerStarted(worker);
      },
      workerReported(worker, report) {
        metrics.workerReported(worker, report);
        health.workerReported(worker, report);
      },
      workerEnded(worker) {
        metrics.workerEnded(worker);
        health.workerEnded(worker);
      },
      stepEndedWorker: () => metrics.stepEndedWorker(),
    },
    close: async () => {
      clearInterval(ticks);
      await server?.close();
    },
  };
}
