/**
 * `lockstep audit`: wires the audit to real readers. What was published is read by Kafka's own console consumer (Java,
 * read_committed), so that the reader shares no code with the writer; where there is no Java our own reader stands in, and the
 * report says so.
 */
import { readFile } from "node:fs/promises";

import { outboxOf } from "../actors/app.ts";
import { audit } from "../audit/audit.ts";
import type { AuditReport } from "../audit/report.ts";
import type { Database, OutputSource } from "../audit/sources.ts";
import { reportJson, reportTable } from "../audit/table.ts";
import { type Config, loadConfig } from "../config.ts";
import { hasCode } from "../errors.ts";
import { createKafkaClient, type KafkaClient } from "../kafka/client.ts";
import { readTopic } from "../kafka/read-topic.ts";
import { type LoadedApp, loadApp } from "../runtime/code.ts";
import { fetchKafkaLibs } from "../stack/index.ts";
import { readInstance } from "../storage/instance.ts";
import { createPool } from "../storage/pool.ts";
import { createLog } from "../telemetry/log.ts";
import { type AppTools, loadTools } from "./app-tools.ts";
import { openJavaOutputs } from "./java-outputs.ts";
import { EXIT } from "./output.ts";

export async function auditCommand(
  options: { manifest?: string; json: boolean },
  env: NodeJS.ProcessEnv,
): Promise<number> {
  const config = loadConfig(env);
  const loaded = await loadApp(config.app);
  const tools = await loadTools(loaded);
  const manifest: unknown =
    options.manifest === undefined ? undefined : JSON.parse(await readFile(options.manifest, "utf8"));
  const { report, reader } = await runAudit({
    config,
    loaded,
    tools,
    manifest,
    env,
    say: (line) => process.stderr.write(`${line}\n`),
  });
  if (options.json) process.stdout.write(`${reportJson(report)}\n`);
  else process.stdout.write(`${reportTable(report)}\noutputs read by: ${reader}\n`);
  return report.ok ? EXIT.ok : EXIT.failure;
}

export interface AuditRun {
  readonly report: AuditReport;
  /** Who read what was published. */
  readonly reader: string;
}

export async function runAudit(options: {
  config: Config;
  loaded: LoadedApp;
  tools: AppTools;
  manifest: unknown;
  env: NodeJS.ProcessEnv;
  say: (line: string) => void;
}): Promise<AuditRun> {
  const { config, loaded, tools, manifest, env, say } = options;
  const log = createLog({ level: "error", fd: 2 });
  const client = createKafkaClient({ brokers: config.brokers, clientId: "lockstep-audit", logger: log });
  const pool = createPool(config.databaseUrl, {
    max: 2,
    applicationName: "lockstep-audit",
    log,
    limits: { statementTimeoutMs: 600_000, queryTimeoutMs: 610_000 },
  });
  try {
    const instance = await readInstance({ pool, app: loaded.app.name, name: config.instance });
    const rules = tools.auditRules({ relayed: config.relay && outboxOf(loaded.app) !== null });
    const topics = rules.streams.filter(({ kind }) => kind === "topic").map(({ name }) => name);
    const { outputs, reader, close } = await openOutputs({ client, config, topics, env, say });
    const database: Database = {
      query: async (sql, params) => (await pool.query(sql, [...params])).rows as Record<string, unknown>[],
    };
    try {
      const report = await audit({
        rules,
        instance: instance.id,
        database,
        inputs: { read: (topic) => readTopic({ client, topic }) },
        outputs,
        ...(manifest === undefined ? {} : { manifest }),
      });
      return { report, reader };
    } finally {
      await close();
    }
  } finally {
    await pool.end();
  }
}

async function openOutputs(options: {
  client: KafkaClient;
  config: Config;
  topics: readonly string[];
  env: NodeJS.ProcessEnv;
  say: (line: string) => void;
}): Promise<{ outputs: OutputSource; reader: string; close(): Promise<void> }> {
  const { client, config, topics, env, say } = options;
  try {
    const libs = await fetchKafkaLibs(env, say);
    const outputs = openJavaOutputs({ libs, brokers: config.brokers, client, topics, env });
    return {
      reader: "Kafka's console consumer, isolation.level=read_committed",
      outputs,
      close: () => outputs.close(),
    };
  } catch (error) {
    // Only where Java or Maven is not there; any other failure would quietly swap the judge.
    if (!hasCode(error, "STACK_UNAVAILABLE")) throw error;
    say(
      `No Java consumer can be had (${(error as Error).message.split("\n")[0]}); reading with our own reader instead.`,
    );
    return {
      reader: "our own read_committed reader (no Java here)",
      outputs: { read: (topic) => ownReader(client, topic) },
      close: async () => {},
    };
  }
}

async function* ownReader(client: KafkaClient, topic: string) {
  for await (const record of readTopic({ client, topic })) {
    yield {
      topic,
      partition: record.partition,
      offset: record.offset,
      timestampMs: Number(record.timestampMs),
      key: record.key?.toString("utf8") ?? null,
      headers: Object.fromEntries(record.headers.map(([name, value]) => [name, value?.toString("utf8") ?? ""])),
      value: record.value?.toString("utf8") ?? null,
    };
  }
}
