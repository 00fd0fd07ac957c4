/**
 * The audit between two tests of a file: the same judge, with our own `read_committed` reader for what was published. Kafka's Java
 * consumer takes seconds a topic, and reads at the end of each file.
 */
import { audit } from "../../src/audit/audit.ts";
import type { AuditReport } from "../../src/audit/report.ts";
import type { PublishedRecord } from "../../src/audit/sources.ts";
import { createKafkaClient, type KafkaClient } from "../../src/kafka/client.ts";
import { readTopic } from "../../src/kafka/read-topic.ts";
import type { Deployment } from "./harness.ts";

export async function quickAudit(deployment: Deployment): Promise<AuditReport> {
  const client = createKafkaClient({ brokers: deployment.stack.brokers, clientId: "lockstep-test-audit" });
  return audit({
    rules: deployment.tools.auditRules({ relayed: false }),
    instance: await deployment.instanceId(),
    database: { query: (sql, params) => deployment.query(sql, params) },
    inputs: { read: (topic) => readTopic({ client, topic }) },
    outputs: { read: (topic) => published(client, topic) },
  });
}

async function* published(client: KafkaClient, topic: string): AsyncGenerator<PublishedRecord> {
  for await (const { partition, offset, timestampMs, key, value, headers } of readTopic({ client, topic })) {
    yield {
      topic,
      partition,
      offset,
      timestampMs: Number(timestampMs),
      key: key?.toString("utf8") ?? null,
      headers: Object.fromEntries(headers.map(([name, bytes]) => [name, bytes?.toString("utf8") ?? ""])),
      value: value?.toString("utf8") ?? null,
    };
  }
}
