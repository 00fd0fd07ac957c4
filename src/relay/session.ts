/**
 * One session of the holder: from the fence to the first failure (docs/relay.md, "Start", 2 to 7).
 *
 *   0. lock      asked whether it is still ours
 *   1. fence     InitProducerId, again while Kafka completes what a predecessor had open
 *   2. read      position, server, slot; decide
 *   3. position  written again, leftovers aborted; on the very first start noted in Postgres
 *   4. stream    opened at the position; a session that still holds the slot is ended
 *   5. rows      take, cut, publish, confirm; on and on
 *
 * Invariants
 *   RI1  Every transaction carries the position that is true once it is committed.
 *   RI2  The slot is told an LSN only after Kafka has committed a position of at least that.
 *   RI5  The position is read after the fence, and not on the word of the group's coordinator alone: of that and its log the later counts.
 *   RI13 Rows wait for others until `lingerMs` after the last Kafka transaction began, and no longer: then all that are read go, together.
 */
import { LockstepError } from "../errors.ts";
import type { Writer } from "../kafka/transactional-writer.ts";
import { formatLsn } from "../storage/lsn.ts";
import type { LockSession } from "../storage/relay-lock.ts";
import { dropStraySlots, endSlotSession, inspectRelay, markStarted, type RelayRow } from "../storage/relay-store.ts";
import type { ReplicationStream } from "../storage/replication-stream.ts";
import type { RelayContext } from "./context.ts";
import { type Cut, type Cutter, createCutter } from "./cutter.ts";
import { type OutboxTargets, toOutboxRecord } from "./outbox-record.ts";
import { formatPosition, type LogIdentity, laterOf, parsePosition, type RelayPosition } from "./position.ts";
import { createPruner } from "./pruner.ts";
import { decideStart } from "./start.ts";

const FENCE_MS_MAX = 60_000;
const FENCE_WAIT_MS = 50;
/** Ending a session takes the server a moment; one that is stopped dies when it is continued, or never. */
const SLOT_MS_MAX = 30_000;
const SLOT_WAIT_MS = 200;

interface Session {
  readonly context: RelayContext;
  readonly lock: LockSession;
  readonly signal: AbortSignal;
  readonly writer: Writer;
  readonly targets: OutboxTargets;
  readonly row: RelayRow;
  readonly log: LogIdentity;
  /** As it stands in Kafka. */
  position: RelayPosition;
  /** Monotonic ms: when the last transaction began. */
  begunMs: number;
}

/**
 * Resolves when the signal aborts.
 * @throws {LockstepError} whose remedy says what to do: halt, or begin a new session
 */
export async function runSession(context: RelayContext, lock: LockSession, signal: AbortSignal): Promise<void> {
  const { ports, hook } = context;
  await lock.query("SELECT"); // who has lost it meanwhile would only fence the one who has it
  const writer = await fence(context, signal);
  if (writer === null) return;
  try {
    await hook("fenced");
    const session = await prepare(context, { lock, signal, writer });
    const stream = await openStream(session);
    if (stream === null) return;
    try {
      await relayRows(session, stream);
    } finally {
      await stream.close();
    }
  } finally {
    await writer.close();
  }

  async function prepare(
    of: RelayContext,
    parts: { lock: LockSession; signal: AbortSignal; writer: Writer },
  ): Promise<Session> {
    const { app, groupId, clock, observer } = of;
    const answered = await ports.committed();
    const committed = laterOf(answered, await ports.committedInLog());
    if (committed !== answered)
      of.log.warn(
        { event: "offsets-stale", answered: answered?.offset.toString() ?? null, inLog: committed?.offset.toString() },
        "the group's coordinator does not know what its log has; went by the log",
      );
    // Also by one that then halts: a stray keeps log on the server's disk. The one that K names may be a resync's that did not end.
    const named = committed && parsePosition(committed.offset, committed.metadata);
    await dropStraySlots(parts.lock.query, app, { keep: named?.log.slot ?? null });
    const inspection = await inspectRelay(parts.lock.query, app);
    await hook("position-read");
    const start = decideStart({ ...inspection, app, groupId, committed });
    const row = inspection.row!; // decideStart has refused a relay without one
    const { systemIdentifier, timeline } = inspection.server;
    const session: Session = {
      context: of,
      ...parts,
      targets: await ports.targets(),
      row,
      log: { systemIdentifier, timeline, slot: row.slot },
      position: start.position,
      begunMs: clock.monotonicMs(),
    };
    await publish(session, { records: [], deadLetters: 0, position: start.position, committedMs: [] }, { first: true });
    await hook("position-written");
    await markStarted(parts.lock.query, app);
    observer.slot = row.slot;
    return session;
  }
}

async function fence({ ports, clock }: RelayContext, signal: AbortSignal): Promise<Writer | null> {
  const endMs = clock.monotonicMs() + FENCE_MS_MAX;
  while (!signal.aborted) {
    const writer = await ports.fence();
    if (writer !== null) return writer;
    if (clock.monotonicMs() > endMs)
      throw new LockstepError(
        "KAFKA_UNAVAILABLE",
        `Kafka has not completed the predecessor's transaction within ${FENCE_MS_MAX} ms.`,
      );
    await clock.sleep(FENCE_WAIT_MS, signal);
  }
  return null;
}

/** "object in use": another session streams from the slot. */
const IN_USE = "55006";

async function openStream({ context, lock, signal, row, position }: Session): Promise<ReplicationStream | null> {
  const { ports, clock, hook } = context;
  const endMs = clock.monotonicMs() + SLOT_MS_MAX;
  while (!signal.aborted) {
    try {
      const { slot, publication } = row;
      const stream = await ports.openStream({ slot, publication, startLsn: position.lsn }, signal);
      await hook("streaming");
      return stream;
    } catch (error) {
      const inUse = (error as { details?: { sqlstate?: unknown } }).details?.sqlstate === IN_USE;
      if (!inUse || clock.monotonicMs() > endMs) throw error;
      await endSlotSession(lock.query, row.slot);
      await clock.sleep(SLOT_WAIT_MS, signal);
    }
  }
  return null;
}

async function relayRows(session: Session, stream: ReplicationStream): Promise<void> {
  const { context, signal, targets, row, position } = session;
  const { settings, clock, log, observer, app } = context;
  const cutter = createCutter({
    position,
    table: row.table,
    recordsMax: settings.batchRecordsMax,
    bytesMax: settings.batchBytesMax,
    toRecord: (values, committedMs) => toOutboxRecord(values, committedMs, targets),
  });
  const pruner = createPruner({
    ask: context.ports.prune,
    table: row.table,
    keepMs: settings.keepMs,
    clock,
    observer,
    log,
  });
  observer.state = "running";
  observer.reason = null;
  observer.waitingSinceMs = null;
  log.info(
    { event: "relay-running", app, slot: row.slot, position: formatLsn(position.lsn), underWay: underWayOf(position) },
    "the relay runs",
  );
  const tickMs = Math.min(settings.positionMs, 1_000);
  try {
    while (!signal.aborted) {
      const lingers = cutter.settled && cutter.rows > 0;
      const events = await stream.take(lingers ? Math.min(lingersMs(session), tickMs) : tickMs, signal);
      let asked = false;
      let taken = events.filter(({ kind }) => kind === "insert").length;
      for (const event of events) {
        cutter.add(event);
        if (event.kind === "insert") taken -= 1;
        if (event.kind === "reached") asked ||= event.asked;
        observe(session, cutter, taken + stream.queuedRows);
        if (cutter.full) await send(session, stream, cutter);
      }
      if (isDue(session, cutter, asked)) await send(session, stream, cutter);
      observe(session, cutter, stream.queuedRows);
      pruner.run(session.position.lsn);
      if (observer.setUpChanged)
        throw new LockstepError(
          "RELAY_SET_UP_CHANGED",
          `The publication ${row.publication}, or the place of ${row.table} in it, has changed while the relay ran. \`lockstep relay resync\` publishes what the topic lacks and goes on from there.`,
        );
    }
  } finally {
    await pruner.settled();
  }
}

/**
 * When no database transaction is half read. RI13: rows go once nothing is to be waited for, or the server or whoever stops the relay waits;
 * a position alone when it is time, or the server waits for it.
 */
function isDue(session: Session, cutter: Cutter, asked: boolean): boolean {
  if (!cutter.settled) return false;
  const { context, position, begunMs, signal } = session;
  if (cutter.rows > 0) return asked || signal.aborted || lingersMs(session) === 0;
  const { clock, settings } = context;
  const idleMs = clock.monotonicMs() - begunMs;
  const moved = cutter.position.lsn > position.lsn || cutter.position.underWay !== position.underWay;
  return (moved && (asked || idleMs >= settings.positionMs)) || idleMs >= settings.refreshMs;
}

/** RI13. How much longer rows wait for others, whole ms. */
function lingersMs({ context, begunMs }: Session): number {
  const { clock, settings } = context;
  return Math.max(0, Math.ceil(begunMs + settings.lingerMs - clock.monotonicMs()));
}

async function send(session: Session, stream: ReplicationStream, cutter: Cutter): Promise<void> {
  const { hook } = session.context;
  const cut = cutter.cut();
  await hook("before-publish");
  await publish(session, cut);
  await hook("published");
  stream.acknowledge(cut.position.lsn);
  await hook("acknowledged");
}

/** RI1. */
async function publish(session: Session, cut: Cut, { first = false } = {}): Promise<void> {
  const { context, writer, targets, log } = session;
  const { observer, clock } = context;
  const { events, deadLetters } = targets;
  session.begunMs = clock.monotonicMs();
  const partitionsOf = ({ topic, partitions }: { topic: string; partitions: number }) =>
    Array.from({ length: partitions }, (_, partition) => ({ topic, partition }));
  try {
    await writer.publish({
      records: cut.records,
      offsets: [{ topic: events.topic, partition: 0, ...formatPosition({ position: cut.position, log }) }],
      ...(first ? { leftovers: [...partitionsOf(events), ...partitionsOf(deadLetters)] } : {}),
    });
  } catch (error) {
    observer.count("aborted");
    throw error;
  }
  session.position = cut.position;
  observer.count("committed");
  observer.position = formatLsn(cut.position.lsn);
  if (cut.records.length > 0) published(context, cut);
}

function published({ observer, clock, log }: RelayContext, cut: Cut): void {
  const nowMs = clock.wallMs();
  observer.count("records", cut.records.length - cut.deadLetters);
  observer.count("deadLetters", cut.deadLetters);
  observer.lastCommitMs = nowMs;
  for (const committedMs of cut.committedMs) observer.latency(Math.max(0, nowMs - committedMs));
  const { records, deadLetters, position } = cut;
  log.debug(
    {
      event: "relay-published",
      records: records.length,
      deadLetters,
      position: formatLsn(position.lsn),
      underWay: underWayOf(position),
    },
    "rows published",
  );
  if (deadLetters > 0) log.warn({ event: "relay-set-aside", rows: deadLetters }, "rows went to the dead letters");
}

/** @param behind rows that were read and are not in the cutter yet */
function observe({ context }: Session, cutter: Cutter, behind: number): void {
  context.observer.pending = cutter.rows + behind;
  context.observer.waitingSinceMs = cutter.oldestMs;
}

function underWayOf({ underWay }: RelayPosition): { commit: string; rows: number } | null {
  return underWay && { commit: formatLsn(underWay.commitLsn), rows: underWay.rows };
}
