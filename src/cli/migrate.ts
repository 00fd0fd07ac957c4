/** `lockstep migrate`: tables of Lockstep and of the app, then the instance with a row for each of its shards. */
import { outboxOf } from "../actors/app.ts";
import { type Config, loadConfig } from "../config.ts";
import { LockstepError } from "../errors.ts";
import { createKafkaClient } from "../kafka/client.ts";
import { clusterIdentity, describeTopics, inputFaults } from "../kafka/topics.ts";
import type { Log } from "../log.ts";
import { type LoadedApp, loadApp } from "../runtime/code.ts";
import { groupIdOf } from "../runtime/deployment.ts";
import { databaseFaults } from "../storage/database-faults.ts";
import { ensureInstance, type Instance } from "../storage/instance.ts";
import { type MigrationReport, migrate } from "../storage/migrate.ts";
import { createPool } from "../storage/pool.ts";
import { createLog } from "../telemetry/log.ts";
import { EXIT, printJson } from "./output.ts";

export async function migrateCommand(options: { json: boolean }, env: NodeJS.ProcessEnv): Promise<number> {
  const config = loadConfig(env);
  const loaded = await loadApp(config.app);
  const log = createLog({ level: "warn", fd: 2 });
  const { report, instance } = await migrateAll(config, loaded, log);
  if (options.json) printJson({ applied: report.applied, unchanged: report.unchanged, instance });
  else {
    for (const file of report.applied)
      process.stdout.write(`applied ${file.owner} ${String(file.number).padStart(4, "0")}-${file.name}\n`);
    if (report.applied.length === 0)
      process.stdout.write(`nothing to apply: ${report.unchanged} migrations are there\n`);
    process.stdout.write(
      `instance "${instance.name}" of ${instance.app}: ${instance.id}, ${instance.shards} shards, group ${instance.groupId}${instance.created ? " (new)" : ""}\n`,
    );
  }
  return EXIT.ok;
}

/** @throws {LockstepError} what keeps the app from being deployed here */
export async function migrateAll(
  config: Config,
  loaded: LoadedApp,
  log: Log,
): Promise<{ report: MigrationReport; instance: Instance & { created: boolean } }> {
  const { app } = loaded;
  const kafka = createKafkaClient({ brokers: config.brokers, clientId: "lockstep-migrate", logger: log });
  const pool = createPool(config.databaseUrl, { max: 2, applicationName: "lockstep-migrate", log });
  try {
    const inputs = app.inputs.map((definition) => definition.topic);
    const cluster = await clusterIdentity(kafka);
    const described = await describeTopics(kafka, inputs);
    const faults = [
      ...cluster.faults,
      ...inputFaults(described, inputs),
      ...(await databaseFaults(pool, { unsafe: config.unsafe })),
    ];
    if (faults.length > 0) {
      throw new LockstepError(
        "TOPICS_UNSUITABLE",
        `This app cannot be deployed here:\n${faults.map((f) => `  - ${f}`).join("\n")}`,
        { details: { faults } },
      );
    }
    const outbox = config.relay ? outboxOf(app) : null;
    const groupId = groupIdOf(config, loaded);
    const relay = outbox && { app: app.name, table: outbox.table, groupId };
    const report = await migrate({ pool, app, log, relay });
    const instance = await ensureInstance({
      pool,
      app: app.name,
      name: config.instance,
      identity: {
        kafkaClusterId: cluster.clusterId,
        groupId,
        inputs: inputs.map((topic) => ({ topic, partitions: described.get(topic)!.partitions })),
      },
    });
    return { report, instance };
  } finally {
    await pool.end();
  }
}
