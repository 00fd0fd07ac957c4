/**
 * `lockstep run`: the process an operator starts. Checks everything, hosts the app, drains on SIGTERM.
 *
 * Exit codes: 0 drained; 1 ended before all was drained, or a fault; 69 a dependency is not there; 78 bad configuration.
 */
import { outboxOf } from "../actors/app.ts";
import { systemClock } from "../clock.ts";
import { loadConfig, maskedConfig } from "../config.ts";
import { createKafkaClient } from "../kafka/client.ts";
import { leaveGroup } from "../kafka/membership.ts";
import { loadApp } from "../runtime/code.ts";
import { prepareDeployment } from "../runtime/deployment.ts";
import { startRelayHost } from "../runtime/relay-host.ts";
import { startSupervisor, workerCount } from "../runtime/supervisor.ts";
import { createLog } from "../telemetry/log.ts";
import { EXIT } from "./output.ts";

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
  const deployment = await prepareDeployment(config, loaded, log);

  const kafka = createKafkaClient({
    brokers: config.brokers,
    clientId: `${loaded.app.name}-${config.host}-${process.pid}-main`,
    logger: log,
  });
  const supervisor = startSupervisor({
    config,
    deployment,
    loaded,
    log,
    clock: systemClock,
    leaveGroup: (memberId) => leaveGroup(kafka, deployment.groupId, memberId),
  });
  const relay =
    config.relay && outboxOf(loaded.app) !== null
      ? startRelayHost({ config, groupId: deployment.groupId, loaded, log, clock: systemClock })
      : null;

  const signal = await firstSignal();
  log.info(
    { event: "stopping", signal, drainMs: config.drainMs },
    "draining; a second signal ends the process at once",
  );
  for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => process.exit(EXIT.failure));
  const drained = await supervisor.stop(config.drainMs);
  await relay?.stop(RELAY_STOP_MS);
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
