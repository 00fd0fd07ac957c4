/**
 * `lockstep relay resync`: the way on when the log cannot tell what was published (docs/relay.md, "`relay resync`").
 *
 *   1. lock, fence
 *   2. publication and table as they must be; a new slot, noted before it is made, with a snapshot of where it begins. It waits, within
 *      bounds and aloud, for the transactions that are in progress. A dry run reads the table as it is
 *   3. the ids that the topic and its dead letters have
 *   4. rows of the snapshot that are not among them, published in order of occurred_at; each transaction names the new slot as its position
 *   5. the row in Postgres names the new slot: from here on the relay goes on from it. Before, every start halts (R15)
 *
 * Invariant
 *   RI10  Between the snapshot and the slot no row is missed and none comes twice; run again after a crash, it publishes only what is lacking.
 */
import { LockstepError } from "../errors.ts";
import type { KafkaClient } from "../kafka/client.ts";
import { lowWatermarks, readTopic } from "../kafka/read-topic.ts";
import { describeTopics } from "../kafka/topics.ts";
import type { Writer } from "../kafka/transactional-writer.ts";
import { formatLsn } from "../storage/lsn.ts";
import type { LoggedValues } from "../storage/pgoutput.ts";
import type { LockSession } from "../storage/relay-lock.ts";
import type { NewSlot, TableSnapshot } from "../storage/relay-resync.ts";
import { createSlot, mendPublication, openSnapshot } from "../storage/relay-resync.ts";
import { adoptSlot, dropStraySlots, inspectRelay, noteNewSlot } from "../storage/relay-store.ts";
import type { RelayContext } from "./context.ts";
import { type OutboxTargets, toOutboxRecord } from "./outbox-record.ts";
import { formatPosition, type LogIdentity } from "./position.ts";

export interface ResyncOptions {
  readonly context: RelayContext;
  readonly client: KafkaClient;
  readonly databaseUrl: string;
  /** Rows that occurred before are taken as published. */
  readonly since: Date | null;
  /** Only counts. */
  readonly dryRun: boolean;
  readonly say: (text: string) => void;
  /** How long transactions in progress may hold up the new slot, and how often they are named; for tests. */
  readonly slotWait?: { readonly sayMs: number; readonly maxMs: number };
}

export interface ResyncReport {
  readonly rows: number;
  /** Ids that the topic and its dead letters have. */
  readonly onTopic: number;
  /** Rows that the topic lacks: published, or, in a dry run, to be. */
  readonly missing: number;
  readonly oldestMissing: string | null;
  readonly slot: string | null;
  readonly position: string | null;
}

/** Relays that have halted look again every 15 s, and give the lock back at once. */
const LOCK_MS_MAX = 30_000;
const LOCK_POLL_MS = 100;
const FENCE_MS_MAX = 60_000;
const SLOT_WAIT = { sayMs: 3_000, maxMs: 120_000 };

/** @throws {LockstepError} RELAY_LOST another relay works */
export async function resync(options: ResyncOptions): Promise<ResyncReport> {
  const { context } = options;
  const lock = await context.ports.openSession();
  try {
    await takeLock(context, lock);
    return await underLock(options, lock);
  } finally {
    await lock.close();
  }
}

async function underLock(options: ResyncOptions, lock: LockSession): Promise<ResyncReport> {
  const { context, databaseUrl, dryRun, say } = options;
  const { app, groupId, hook } = context;
  const { row, server } = await inspectRelay(lock.query, app);
  if (row === null || row.slotLsn === null)
    throw new LockstepError("RELAY_NOT_SET_UP", `No relay is set up for ${app}: run \`lockstep migrate\`.`);
  const writer = await fence(context);
  try {
    await assertTopicsTell(options, await context.ports.targets());
  } catch (error) {
    await writer.close();
    throw error;
  }
  const connect = { url: databaseUrl, applicationName: `${app}-relay-resync` };
  let made: NewSlot | null = null;
  let snapshot: TableSnapshot | null = null;
  const slot = dryRun ? null : await noteNewSlot(lock.query, app);
  try {
    if (slot === null) snapshot = await openSnapshot(connect);
    else {
      await mendPublication(lock.query, row);
      say("making a slot, for which Postgres waits until every transaction in progress has ended");
      const wait = { ask: lock.query, clock: context.clock, say, ...SLOT_WAIT, ...options.slotWait };
      snapshot = made = await createSlot({ ...connect, slot }, wait);
      await hook("resync-slot");
    }
    const targets = await context.ports.targets();
    say("reading the ids on the topic");
    const onTopic = await idsOnTopic(options.client, targets);
    const { systemIdentifier, timeline } = server;
    const publisher =
      slot === null || made === null
        ? null
        : createPublisher(context, { writer, targets, log: { systemIdentifier, timeline, slot }, lsn: made.lsn });
    const report = { rows: 0, onTopic: onTopic.size, missing: 0, oldestMissing: null as string | null };
    for await (const page of snapshot.rows(row.table, { since: options.since })) {
      report.rows += page.length;
      const missing = page.filter((values) => !onTopic.has(textOf(values, "event_id") ?? ""));
      report.missing += missing.length;
      report.oldestMissing ??= missing[0] === undefined ? null : textOf(missing[0], "occurred_at");
      await publisher?.add(missing);
      say(`${report.rows} rows compared, ${report.missing} are not on the topic`);
    }
    if (slot === null || made === null || publisher === null) return { ...report, slot: null, position: null };
    await publisher.finish();
    await hook("resync-published");
    await adoptSlot(lock.query, app, { slot, slotLsn: formatLsn(made.lsn), groupId });
    await dropStraySlots(lock.query, app);
    return { ...report, slot, position: formatLsn(made.lsn) };
  } finally {
    await snapshot?.close();
    await writer.close();
    // Of one that failed; what is the relay's own by now stays.
    await dropStraySlots(lock.query, app).catch((error: unknown) =>
      say(`a slot is left, which the next relay drops: ${String(error)}`),
    );
  }
}

async function takeLock({ clock, app }: RelayContext, lock: LockSession): Promise<void> {
  const endMs = clock.monotonicMs() + LOCK_MS_MAX;
  while (!(await lock.tryLock())) {
    if (clock.monotonicMs() > endMs)
      throw new LockstepError(
        "RELAY_LOST",
        `A relay of ${app} works: \`lockstep relay status\` says which. A resync is for a relay that has halted; stop the others first.`,
      );
    await clock.sleep(LOCK_POLL_MS);
  }
}

async function fence({ ports, clock }: RelayContext): Promise<Writer> {
  const endMs = clock.monotonicMs() + FENCE_MS_MAX;
  for (;;) {
    const writer = await ports.fence();
    if (writer !== null) return writer;
    if (clock.monotonicMs() > endMs)
      throw new LockstepError("KAFKA_UNAVAILABLE", "Kafka has not completed the predecessor's transaction.");
    await clock.sleep(LOCK_POLL_MS);
  }
}

/**
 * What a topic has lost would be published a second time.
 * @throws {LockstepError} RELAY_RESYNC_NEEDED it cannot be told from the topics what was published
 */
async function assertTopicsTell({ client, since, dryRun }: ResyncOptions, targets: OutboxTargets): Promise<void> {
  const names = [targets.events.topic, targets.deadLetters.topic];
  for (const { name, config } of (await describeTopics(client, names)).values()) {
    if (config["cleanup.policy"]?.includes("compact"))
      throw new LockstepError(
        "RELAY_RESYNC_NEEDED",
        `Topic "${name}" is compacted (cleanup.policy ${config["cleanup.policy"]}): it does not say which events were published. Nothing was changed.`,
      );
  }
  if (dryRun || since !== null) return;
  for (const name of names) {
    const begin = (await lowWatermarks(client, name)).find(({ low }) => low > 0n);
    if (begin !== undefined)
      throw new LockstepError(
        "RELAY_RESYNC_NEEDED",
        `${name}/${begin.partition} begins at ${begin.low}: its retention has removed events, whose rows would be published again. Say with --since from when on the topic has everything. Nothing was changed.`,
      );
  }
}

/** A Set ends at 2^24 entries; so one for each value of the first byte. */
class IdSet {
  readonly #parts = new Map<string, Set<string>>();
  size = 0;

  add(id: string): void {
    const key = id.slice(0, 2);
    const part = this.#parts.get(key) ?? new Set<string>();
    this.#parts.set(key, part);
    this.size -= part.size;
    part.add(id);
    this.size += part.size;
  }

  has(id: string): boolean {
    return this.#parts.get(id.slice(0, 2))?.has(id) === true;
  }
}

async function idsOnTopic(client: KafkaClient, targets: OutboxTargets): Promise<IdSet> {
  const ids = new IdSet();
  for (const { topic } of [targets.events, targets.deadLetters]) {
    for await (const { headers } of readTopic({ client, topic })) {
      const id = headers.find(([name]) => name === "event_id")?.[1];
      if (id) ids.add(id.toString("latin1"));
    }
  }
  return ids;
}

function createPublisher(
  context: RelayContext,
  { writer, targets, log, lsn }: { writer: Writer; targets: OutboxTargets; log: LogIdentity; lsn: bigint },
) {
  const { events, deadLetters } = targets;
  const position = formatPosition({ position: { lsn, underWay: null }, log });
  const offsets = [{ topic: events.topic, partition: 0, ...position }];
  let leftovers = [events, deadLetters].flatMap(({ topic, partitions }) =>
    Array.from({ length: partitions }, (_, partition) => ({ topic, partition })),
  );
  let waiting: LoggedValues[] = [];
  let bytes = 0;

  async function flush(): Promise<void> {
    const rows = waiting;
    waiting = [];
    bytes = 0;
    const records = rows.map((values) => toOutboxRecord(values, context.clock.wallMs(), targets).record);
    await writer.publish({ records, offsets, leftovers });
    leftovers = [];
  }

  return {
    async add(rows: readonly LoggedValues[]) {
      for (const values of rows) {
        waiting.push(values);
        bytes += bytesOf(values);
        if (waiting.length >= context.settings.batchRecordsMax || bytes >= context.settings.batchBytesMax)
          await flush();
      }
    },
    /** The position stands in Kafka in any case. */
    finish: flush,
  };
}

function bytesOf(values: LoggedValues): number {
  let bytes = 0;
  for (const value of values.values()) bytes += value?.length ?? 0;
  return bytes;
}

function textOf(values: LoggedValues, column: string): string | null {
  return values.get(column)?.toString() ?? null;
}
