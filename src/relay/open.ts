/**
 * The adapters of one relay: real Kafka, real Postgres. `lockstep run` calls this in a thread of its own, `lockstep relay run` in its process.
 */
import { type App, outboxOf } from "../actors/app.ts";
import type { CommittedOffset } from "../actors/ports.ts";
import { systemClock } from "../clock.ts";
import type { Config } from "../config.ts";
import { assert, LockstepError } from "../errors.ts";
import { createKafkaClient, type KafkaClient } from "../kafka/client.ts";
import { createPublisher } from "../kafka/publisher.ts";
import { describeTopics, maxMessageBytes, timestampLimits } from "../kafka/topics.ts";
import { fenceWriter } from "../kafka/transactional-writer.ts";
import type { Log } from "../log.ts";
import { createPool, query } from "../storage/pool.ts";
import { openLockSession } from "../storage/relay-lock.ts";
import { openReplicationStream } from "../storage/replication-stream.ts";
import { type RelayContext, type RelayHook, type RelayPorts, type RelaySettings, relayGroupId } from "./context.ts";
import type { OutboxTarget, OutboxTargets } from "./outbox-record.ts";
import type { CommittedPosition } from "./position.ts";
import { runRelay } from "./relay.ts";
import { RelayObserver, type RelayReport } from "./status.ts";

export interface RelayOptions {
  readonly app: App;
  readonly config: Config;
  readonly groupId: string;
  readonly log: Log;
  readonly hook?: RelayHook;
  /** Every second, and at every change of state. */
  readonly onReport?: (report: RelayReport) => void;
  /** In place of single ones of the defaults, for tests. */
  readonly settings?: Partial<RelaySettings>;
}

const REPORT_MS = 1_000;
/** Offsets of a group without members expire after seven days (`offsets.retention.minutes`). */
const REFRESH_MS = 3_600_000;
const MEASURE_MS = 5_000;
const LOCK_POLL_MS = 500;
const HALT_MS = 15_000;
/** One record batch on the wire; a topic that takes less sets the measure. */
const BATCH_BYTES = 512 * 1024;
/** Bytes of a record batch that are not its records' keys, values or headers, rounded up. */
const OVERHEAD_BYTES = 256;
const COMMITTED_MS = 10_000;

/** Resolves when the signal aborts and everything is closed. */
export async function hostRelay(options: RelayOptions, signal: AbortSignal): Promise<void> {
  const context = createRelay(options);
  const { observer } = context;
  const report = () => options.onReport?.(observer.report(systemClock.wallMs()));
  let said = observer.state;
  const timer = setInterval(report, REPORT_MS);
  const watch = setInterval(() => {
    if (observer.state === said) return;
    said = observer.state;
    report();
  }, REPORT_MS / 10);
  try {
    await runRelay(context, signal);
  } finally {
    clearInterval(timer);
    clearInterval(watch);
    report();
    await context.ports.close();
  }
}

export function createRelay(options: RelayOptions): RelayContext {
  const { app, config, groupId, log, hook = () => {} } = options;
  return {
    app: app.name,
    groupId,
    settings: {
      batchRecordsMax: config.relayBatchRecordsMax,
      batchBytesMax: config.relayBatchBytesMax,
      lingerMs: config.relayLingerMs,
      positionMs: config.relayPositionMs,
      refreshMs: REFRESH_MS,
      lockPollMs: LOCK_POLL_MS,
      haltMs: HALT_MS,
      measureMs: MEASURE_MS,
      keepMs: config.outboxKeepMs,
      ...options.settings,
    },
    ports: openRelayPorts({ app, config, groupId, log, hook }),
    observer: new RelayObserver(),
    log,
    clock: systemClock,
    hook,
  };
}

export function openRelayPorts(options: {
  app: App;
  config: Config;
  groupId: string;
  log: Log;
  hook: RelayHook;
}): RelayPorts {
  const { app, config, groupId, log, hook } = options;
  const outbox = outboxOf(app);
  assert(outbox !== null, `app ${app.name} has no outbox route`);
  const clientId = `${app.name}-${config.host}-${process.pid}-relay`;
  const client = createKafkaClient({ brokers: config.brokers, clientId, logger: log });
  const group = relayGroupId(groupId);
  const reader = createPublisher({ client, groupId: group, topics: [outbox.topic], readDeadlineMs: COMMITTED_MS });
  // Connects when it is first asked, which without pruning is never.
  const pool = createPool(config.databaseUrl, { max: 1, applicationName: `${clientId}-prune`, log });
  let targets: OutboxTargets | null = null;
  const ofTopic = (found: Record<string, CommittedOffset>): CommittedPosition | null => {
    const { offset, metadata } = found[outbox.topic]!; // the one topic that was asked for
    return offset === null ? null : { offset, metadata };
  };
  return {
    openSession: () =>
      openLockSession({
        url: config.databaseUrl,
        app: app.name,
        applicationName: clientId,
        timeoutMs: config.relayTimeoutMs,
      }),
    fence: async () => {
      // Read anew for each session: what an operator has changed counts at the next one.
      targets = await readTargets(client, outbox);
      return fenceWriter({
        client,
        transactionalId: group,
        groupId: group,
        transactionTimeoutMs: config.transactionTimeoutMs,
        maxBatchBytes: Math.min(BATCH_BYTES, targets.events.bytesMax, targets.deadLetters.bytesMax),
        hook: (point) => hook(point),
      });
    },
    committed: async () => ofTopic(await reader.committed(0)),
    committedInLog: async () => {
      const found = await reader.committedInLog(0);
      return found && ofTopic(found);
    },
    targets: async () => targets ?? readTargets(client, outbox),
    openStream: (at, signal) =>
      openReplicationStream({
        url: config.databaseUrl,
        applicationName: `${clientId}-stream`,
        ...at,
        timeoutMs: config.relayTimeoutMs,
        signal,
      }),
    prune: async (text, values) => (await query(pool, text, values)).rows as never,
    close: async () => {
      await Promise.all([reader.close(), pool.end()]);
    },
  };
}

/** @throws {LockstepError} PUBLISH_REFUSED a topic is not there */
async function readTargets(
  client: KafkaClient,
  { table, topic, deadLetters }: { table: string; topic: string; deadLetters: string },
): Promise<OutboxTargets> {
  const described = await describeTopics(client, [topic, deadLetters]);
  const target = (name: string): OutboxTarget => {
    const description = described.get(name);
    if (description === undefined) {
      throw new LockstepError(
        "PUBLISH_REFUSED",
        `The relay's topic "${name}" does not exist. Run \`lockstep topics apply\`.`,
        {
          details: { topics: [name] },
        },
      );
    }
    return {
      topic: name,
      partitions: description.partitions,
      bytesMax: maxMessageBytes(description) - OVERHEAD_BYTES,
      ...timestampLimits(description),
    };
  };
  return { table, events: target(topic), deadLetters: target(deadLetters) };
}
