/**
 * `lockstep run`: the process an operator starts. Checks everything, hosts the app, drains on SIGTERM. Metrics and health are served
 * from before the checks until everything is drained; after SIGTERM, /readyz says so first.
 *
 * Exit codes: 0 drained; 1 ended before all was drained, or a fault; 69 a dependency is not there; 78 bad configuration.
 */
import { outboxOf } from "../actors/app.ts";
import { systemClock } from "../clock.ts";
import { type Config, loadConfig, maskedConfig } from "../config.ts";
import { createKafkaClient } from "../kafka/client.ts";
import { leaveGroup } from "../kafka/membership.ts";
import type { Log } from "../log.ts";
import { type LoadedApp, loadApp } from "../runtime/code.ts";
import { prepareDeployment } from "../runtime/deployment.ts";
import type { ProcessTelemetry } from "../runtime/process-telemetry.ts";
import { startRelayHost } from "../runtime/relay-host.ts";
import { RelayMeter } from "../runtime/relay-meter.ts";
import { startSupervisor, workerCount } from "../runtime/supervisor.ts";
import { createPool } from "../storage/pool.ts";
import { createSuspectStore } from "../storage/suspect-store.ts";
import { createLog } from "../telemetry/log.ts";
import { EXIT } from "./output.ts";
import { withTelemetry } from "./telemetry.ts";

/** The relay has nothing to drain: what it does not publish, the next one does. */
const RELAY_STOP_MS = 5_000;

export async function run(env: NodeJS.ProcessEnv): Promise<number> {
  const config = loadConfig(env);
  const log = createLog({ level: config.logLevel });
  const loaded = await loadApp(config.app);
  log.info(
    {
      event: "starting",
      config: maskedConfig(config),
      app: loaded.app.name,
      code: loaded.code,
      workers: workerCount(config),
    },
    "starting",
  );
  const relayMeter = config.relay && outboxOf(loaded.app) !== null ? new RelayMeter() : null;
  return withTelemetry({ config, loaded, log, workers: workerCount(config), relayMeter }, (telemetry) =>
    host({ config, loaded, log, telemetry, relayMeter }),
  );
}

async function host(parts: {
  config: Config;
  loaded: LoadedApp;
  log: Log;
  telemetry: ProcessTelemetry;
  /** null: this process runs no relay. */
  relayMeter: RelayMeter | null;
}): Promise<number> {
  const { config, loaded, log, telemetry, relayMeter } = parts;
  const deployment = await prepareDeployment(config, loaded, log);
  telemetry.health.deploymentChecked();

  const kafka = createKafkaClient({
    brokers: config.brokers,
    clientId: `${loaded.app.name}-${config.host}-${process.pid}-main`,
    logger: log,
  });
  // Opened when it is first needed: a worker's own connections die with it.
  const pool = createPool(config.databaseUrl, { max: 1, applicationName: kafka.clientId, log });
  const supervisor = startSupervisor({
    config,
    deployment,
    loaded,
    log,
    clock: systemClock,
    leaveGroup: (memberId) => leaveGroup(kafka, deployment.groupId, memberId),
    observer: telemetry.observer,
    suspects: createSuspectStore({ pool, instance: deployment.instance }),
  });
  relayMeter?.start(telemetry.metrics);
  const relay =
    relayMeter &&
    startRelayHost({
      config,
      groupId: deployment.groupId,
      loaded,
      log,
      clock: systemClock,
      onReport: (report) => relayMeter.reported(report),
      onDied: () => relayMeter.died(),
    });

  const signal = await firstSignal();
  telemetry.health.stopping();
  log.info(
    { event: "stopping", signal, drainMs: config.drainMs },
    "draining; a second signal ends the process at once",
  );
  for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => process.exit(EXIT.failure));
  const drained = await supervisor.stop(config.drainMs);
  await relay?.stop(RELAY_STOP_MS);
  await pool.end();
  log.info(
    { event: "stopped", drained },
    drained
      ? "stopped; everything was drained"
      : "stopped before everything was drained; the next owner takes over where it stands",
  );
  return drained ? EXIT.ok : EXIT.failure;
}

function firstSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    const handler = (signal: NodeJS.Signals) => {
      process.off("SIGTERM", handler);
      process.off("SIGINT", handler);
      resolve(signal);
    };
    process.on("SIGTERM", handler);
    process.on("SIGINT", handler);
  });
}
