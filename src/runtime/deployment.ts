/**
 * Start-up: is everything there that this app needs, and is it what the instance was made with? Every fault is listed at once.
 *
 * Reads only; `lockstep migrate` and `lockstep topics apply` are what change things.
 */
import { deadLetterTopic, outputTopics } from "../actors/app.ts";
import type { Config } from "../config.ts";
import { type ErrorCode, isBug, isLockstepError, LockstepError } from "../errors.ts";
import { createKafkaClient } from "../kafka/client.ts";
import {
  clusterIdentity,
  describeTopics,
  inputFaults,
  maxMessageBytes,
  type TopicDescription,
  timestampLimits,
} from "../kafka/topics.ts";
import type { Log } from "../log.ts";
import { databaseFaults } from "../storage/database-faults.ts";
import { type Instance, instanceDifferences, readInstance } from "../storage/instance.ts";
import { pendingMigrations } from "../storage/migrate.ts";
import { createPool } from "../storage/pool.ts";
import type { LoadedApp } from "./code.ts";
import type { Deployment } from "./worker.ts";

/** Bytes of a record that are not its key, value or headers: batch and record overhead, rounded up. */
const OVERHEAD_BYTES = 256;

export function groupIdOf(config: Config, loaded: LoadedApp): string {
  return config.groupId || `${loaded.app.name}-${config.instance}`;
}

/**
 * @throws {LockstepError} with the code of the first fault, and all of them in the message and in `details.faults`
 */
export async function prepareDeployment(config: Config, loaded: LoadedApp, log: Log): Promise<Deployment> {
  const { app } = loaded;
  const kafka = createKafkaClient({
    brokers: config.brokers,
    clientId: `${app.name}-${config.host}-${process.pid}-check`,
    logger: log,
  });
  const pool = createPool(config.databaseUrl, { max: 2, applicationName: "lockstep-check", log });
  const faults: { code: ErrorCode; text: string }[] = [];
  const inputs = app.inputs.map((definition) => definition.topic);
  const outputs = outputTopics(app);
  let clusterId: string | null = null;
  let described: ReadonlyMap<string, TopicDescription> = new Map();
  let instance: Instance | null = null;
  try {
    await collect(faults, async () => {
      const identity = await clusterIdentity(kafka);
      clusterId = identity.clusterId;
      for (const text of identity.faults) faults.push({ code: "KAFKA_UNSUITABLE", text });
      described = await describeTopics(kafka, [...inputs, ...outputs]);
      for (const text of topicFaults(app.name, described, { inputs, outputs, late: app.late?.topic }))
        faults.push({ code: "TOPICS_UNSUITABLE", text });
    });
    await collect(faults, async () => {
      for (const text of await databaseFaults(pool, { unsafe: config.unsafe }))
        faults.push({ code: "DATABASE_UNSUITABLE", text });
      const pending = await pendingMigrations({ pool, app });
      if (pending.length > 0) {
        faults.push({
          code: "NOT_MIGRATED",
          text: `${pending.length} migrations are not applied. Run \`lockstep migrate\`.`,
        });
        return;
      }
      instance = await readInstance({ pool, app: app.name, name: config.instance });
    });
    await collect(faults, async () => {
      if (instance === null || clusterId === null || inputs.some((topic) => !described.has(topic))) return;
      const differences = await instanceDifferences(pool, instance, {
        kafkaClusterId: clusterId,
        groupId: groupIdOf(config, loaded),
        inputs: inputs.map((topic) => ({ topic, partitions: described.get(topic)!.partitions })),
      });
      for (const text of differences)
        faults.push({ code: "IDENTITY_CHANGED", text: `Instance "${config.instance}": ${text}.` });
    });
    warnOf(described, inputs, log);
  } finally {
    await pool.end();
  }
  if (faults.length > 0 || instance === null) throw startError(faults);
  return {
    instance: (instance as Instance).id,
    clusterId: (instance as Instance).kafkaClusterId,
    groupId: groupIdOf(config, loaded),
    shardCount: (instance as Instance).shards,
    outputs: Object.fromEntries(
      outputs.map((topic) => {
        const description = described.get(topic)!;
        return [topic, { partitions: description.partitions, bytesMax: maxMessageBytes(description) - OVERHEAD_BYTES }];
      }),
    ),
  };
}

function topicFaults(
  app: string,
  described: ReadonlyMap<string, TopicDescription>,
  names: { inputs: readonly string[]; outputs: readonly string[]; late: string | undefined },
): string[] {
  const faults = inputFaults(described, names.inputs);
  for (const topic of names.outputs) {
    if (!described.has(topic))
      faults.push(`Output topic "${topic}" does not exist. Run \`lockstep topics apply --app ${app}\`.`);
  }
  for (const topic of names.inputs) {
    const input = described.get(topic);
    const letters = described.get(deadLetterTopic(topic));
    // A dead letter is its record and the cause: where the record just fits, both must.
    if (input && letters && maxMessageBytes(letters) < maxMessageBytes(input)) {
      faults.push(
        `"${letters.name}" takes ${maxMessageBytes(letters)} bytes a record, less than "${topic}" (${maxMessageBytes(input)}): a record could neither be taken nor set aside.`,
      );
    }
    for (const name of [deadLetterTopic(topic), ...(names.late === undefined ? [] : [names.late])]) {
      const output = described.get(name);
      if (input && output) faults.push(...timestampFaults(input, output));
    }
  }
  return [...new Set(faults)];
}

/** What is set aside keeps its timestamp: a topic that refuses one which the input takes would hold up the shard for good. */
function timestampFaults(input: TopicDescription, output: TopicDescription): string[] {
  const limits = timestampLimits(output);
  const faults: string[] = [];
  // The broker of such an input writes the time of arrival, which is never ahead.
  const ahead = input.config["message.timestamp.type"] === "LogAppendTime" ? 0 : timestampLimits(input).aheadMsMax;
  if (limits.aheadMsMax < ahead) {
    faults.push(
      `"${output.name}" refuses records more than ${limits.aheadMsMax} ms ahead of the broker's clock, "${input.name}" takes them up to ${ahead} ms: such a record could neither be taken nor set aside. Give both the same message.timestamp.after.max.ms, better a small one.`,
    );
  }
  if (limits.behindMsMax < Number.MAX_SAFE_INTEGER) {
    faults.push(
      `"${output.name}" refuses records older than ${limits.behindMsMax} ms, and what is set aside keeps its time however late it is read: set message.timestamp.before.max.ms of that topic to 9223372036854775807.`,
    );
  }
  return faults;
}

/** What is allowed, but will hurt one day. */
function warnOf(described: ReadonlyMap<string, TopicDescription>, inputs: readonly string[], log: Log): void {
  for (const topic of inputs) {
    const ahead = Number(described.get(topic)?.config["message.timestamp.after.max.ms"]);
    if (ahead > 3_600_000) {
      log.warn(
        { event: "topic-warning", topic, aheadMs: ahead },
        "the topic takes timestamps far ahead of the broker's clock; one such record makes all others late. `lockstep topics apply` bounds new topics",
      );
    }
  }
}

async function collect(faults: { code: ErrorCode; text: string }[], check: () => Promise<void>): Promise<void> {
  try {
    await check();
  } catch (error) {
    if (!isLockstepError(error) || isBug(error.code)) throw error;
    faults.push({ code: error.code, text: error.message });
  }
}

function startError(faults: readonly { code: ErrorCode; text: string }[]): LockstepError {
  const [first] = faults;
  if (faults.length === 1) return new LockstepError(first!.code, first!.text, { details: { faults } });
  return new LockstepError(
    first!.code,
    `${faults.length} faults keep this from starting:\n${faults.map((f) => `  - ${f.code}: ${f.text}`).join("\n")}`,
    {
      details: { faults },
    },
  );
}
