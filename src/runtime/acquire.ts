/**
 * Acquire: from "assigned" (or "outcome unknown", or "fenced") to a shard that may be restored.
 *
 *   0. hand-over  wait until the row has no owner, or handoverMs has passed
 *   1. F1         a new epoch and token in Postgres; unconditional only on assignment, else only while the token is still ours
 *   2. F2         InitProducerId on EVERY transactional id of the shard: the predecessor's transaction is decided and fenced.
 *                 Before each further try the row is read: token still ours, else lost
 *   3. R2, R1     Kafka's offsets, THEN the row and redo. Never before F1 and F2
 *   4. reconcile  publish redo, or write start positions, or nothing, or halt
 *
 * Invariants
 *   A1  Nothing is read for reconcile before both fences stand.
 *   A2  A halt is only reported after the row was read again and still has our token; otherwise the shard is lost, not halted.
 *   A3  Redo is published in order of seq, in ONE Kafka transaction, with P's positions and the token of commit P.
 *   A4  An F1 whose outcome is unknown is lost: its token is thrown away for good.
 *   A5  Nothing is published, rewritten or halted on the word of the group's coordinator alone: it can answer before it has read its
 *       log to the end. Where that log may be read and has a later commit, the log is believed. The start positions of a new shard are
 *       written without it. (K1 in docs/protocol.md)
 *
 * What a crash between two steps leaves stands in docs/protocol.md, "Acquire".
 */
import type { CommittedOffset, Ownership, ShardRow, TransactionalWriter } from "../actors/ports.ts";
import type { OutputRecord, Positions } from "../actors/record.ts";
import { decodeRedo } from "../actors/redo-codec.ts";
import { hasCode, isLockstepError, LockstepError } from "../errors.ts";
import { checkCluster, checkLog, checkPartitions } from "./check-log.ts";
import { commitOf, type Reconciliation, reconcile } from "./reconcile.ts";
import { inputTopics, type ShardContext } from "./shard-context.ts";

/** Journal rows read at once while reconciling: k lies in [c, P], and P - c is small. */
const RECONCILE_ROWS_MAX = 1000;
const F2_BACKOFF_MS = 20;

export interface Acquired {
  readonly ownership: Ownership;
  /** The row as F1 found it: its token is the one that this F1 replaced. */
  readonly before: ShardRow;
  /** The row after reconcile; Kafka has all of it. */
  readonly row: ShardRow & { readonly positions: Positions };
  readonly writer: TransactionalWriter;
}

export type AcquireMode = { readonly kind: "assigned" } | { readonly kind: "again"; readonly token: string };

/**
 * @param options.onToken called once F1 stands: a further acquire, after whatever happens next, is conditional on this token
 * @returns null when the shard is lost
 * @throws {LockstepError} remedy "retry": a dependency is unavailable, nothing is known to be wrong; remedy "halt"
 */
export async function acquire(
  context: ShardContext,
  mode: AcquireMode,
  options: { signal: AbortSignal; onToken: (token: string, replaced: string | null) => void },
): Promise<Acquired | null> {
  const { signal } = options;
  const { store, shard, hook, log } = context;
  await hook("acquire.start");
  if (mode.kind === "assigned") await waitForHandover(context, signal);
  if (signal.aborted) return null;

  const fenced = await takeToken(context, mode);
  if (!fenced) return null;
  const { before, ownership } = fenced;
  options.onToken(ownership.token, before.token);
  await hook("acquire.f1");
  if (before.owner !== null && before.owner !== context.owner)
    log.tookOver({ epoch: ownership.epoch, from: before.owner });

  const stillOurs = async () => (await store.readShard(shard)).token === ownership.token;
  let writer: TransactionalWriter | null = null;
  try {
    const ids = before.transactionalIds.includes(context.transactionalId)
      ? before.transactionalIds
      : [...before.transactionalIds, context.transactionalId];
    for (const id of ids) {
      const made = await fence(context, id, stillOurs, signal);
      if (!made) return null;
      if (id === context.transactionalId) writer = made;
      else await made.close();
    }
    await hook("acquire.f2");
    const row = await reconcileShard(context, ownership, writer!);
    if (!row) return null;
    const kept = writer!;
    writer = null;
    return { ownership, before, row, writer: kept };
  } catch (error) {
    // A2: a contradiction seen by an owner that was replaced meanwhile is no contradiction.
    if (isLockstepError(error) && error.remedy === "halt" && !(await stillOurs())) return null;
    throw error;
  } finally {
    await writer?.close();
  }
}

async function waitForHandover(context: ShardContext, signal: AbortSignal): Promise<void> {
  const { clock, store, shard, settings } = context;
  const until = clock.monotonicMs() + settings.handoverMs;
  while (!signal.aborted && clock.monotonicMs() < until) {
    const row = await store.readShard(shard);
    if (row.owner === null) return;
    await clock.sleep(25, signal);
  }
}

async function takeToken(context: ShardContext, mode: AcquireMode) {
  try {
    return await context.store.acquire({
      shard: context.shard,
      owner: context.owner,
      token: context.ids.token(),
      expectedToken: mode.kind === "again" ? mode.token : null,
      transactionalId: context.transactionalId,
    });
  } catch (error) {
    if (hasCode(error, "COMMIT_UNKNOWN")) return null; // A4
    throw error;
  }
}

/** F2 on one id. @returns null when the token is no longer ours */
async function fence(
  context: ShardContext,
  transactionalId: string,
  stillOurs: () => Promise<boolean>,
  signal: AbortSignal,
): Promise<TransactionalWriter | null> {
  for (let attempt = 1; ; attempt += 1) {
    const writer = await context.publisher.fence(transactionalId);
    if (writer) return writer;
    context.log.fencing(transactionalId, attempt);
    await context.clock.sleep(F2_BACKOFF_MS, signal);
    if (signal.aborted || !(await stillOurs())) return null;
  }
}

/** R2, R1 and reconcile. @returns null when the token is no longer ours */
async function reconcileShard(
  context: ShardContext,
  ownership: Ownership,
  writer: TransactionalWriter,
): Promise<Acquired["row"] | null> {
  const { store, publisher, shard, hook, log, instance } = context;
  checkCluster(context, await publisher.clusterId());
  const committed = await publisher.committed(shard); // R2
  await hook("acquire.r2");
  let row = await store.readShard(shard); // R1
  if (row.token !== ownership.token) return null;
  await hook("acquire.r1");
  const watermarks = await publisher.watermarks(shard);
  checkPartitions(context, await publisher.partitionCounts());

  if (row.positions === null) {
    const start = Object.fromEntries(inputTopics(context).map((topic) => [topic, watermarks[topic]!.low]));
    await store.fixStart(ownership, start);
    row = { ...row, positions: start };
    log.started(Object.fromEntries(Object.entries(start).map(([topic, offset]) => [topic, String(offset)])));
  }
  const positions = row.positions!;
  const redo = await store.readRedo(shard, row.confirmed);
  const journal = await store.readJournal(shard, {
    after: Math.max(0, row.confirmed - 1),
    upTo: row.seq,
    limit: RECONCILE_ROWS_MAX,
  });
  if (redo.length !== row.seq - row.confirmed || redo.some((r, i) => r.seq !== row.confirmed + 1 + i)) {
    throw new LockstepError(
      "REDO_BROKEN",
      `Shard ${shard}: redo has commits ${redo.map((r) => r.seq).join(", ") || "none"}, and must have exactly ${row.confirmed + 1}..${row.seq}.`,
      { details: { shard, seq: row.seq, confirmed: row.confirmed, redo: redo.map((r) => r.seq) } },
    );
  }
  const tokens = new Map(journal.map((r) => [r.seq, r.token]));
  const decide = (offsets: Record<string, CommittedOffset>) =>
    reconcile({
      instance,
      topics: inputTopics(context),
      committed: offsets,
      seq: row.seq,
      confirmed: row.confirmed,
      positions,
      redoSeqs: redo.map((r) => r.seq),
      journalToken: (k) => tokens.get(k) ?? null,
    });
  const believed = await witnessed(context, committed, decide(committed));
  const decision = decide(believed);
  const ours = topicTable(inputTopics(context), positions, believed);
  if (decision.kind === "halt") {
    throw new LockstepError("POSITIONS_CONTRADICT", `Shard ${shard}: ${decision.why}. ${ours}`, {
      details: { shard, seq: row.seq, confirmed: row.confirmed, why: decision.why, inputs: ours },
    });
  }
  await checkLog(context, { row: { ...row, positions }, watermarks, lastJournalRow: journal.at(-1) ?? null });

  if (decision.kind === "clean") return { ...row, positions };
  const toPublish =
    decision.kind === "publish" ? redo.filter((r) => r.seq >= decision.from && r.seq <= decision.to) : [];
  const records: OutputRecord[] = toPublish.flatMap((r) => decodeRedo(r.payload));
  const token = row.seq === 0 ? ownership.token : tokens.get(row.seq);
  if (token === undefined)
    throw new LockstepError("JOURNAL_BROKEN", `Shard ${shard}: the journal row of commit ${row.seq} is missing.`, {
      details: { shard, seq: row.seq },
    });
  await writer.publish({ records, positions, metadata: { instance, seq: row.seq, token }, again: true }); // A3
  await hook("reconcile.published");
  if (decision.kind === "publish") log.redoPublished({ from: decision.from, to: decision.to, records: records.length });
  if (decision.kind === "rewrite") log.offsetsRewritten(row.seq);
  return { ...row, positions };
}

/**
 * A5: an answer that would make us publish, rewrite or halt is compared with the log that it should come from.
 * @returns what the log has when that is a later commit, else the answer
 */
async function witnessed(
  context: ShardContext,
  answered: Record<string, CommittedOffset>,
  decision: Reconciliation,
): Promise<Record<string, CommittedOffset>> {
  if (decision.kind === "clean" || decision.kind === "first") return answered;
  const topics = inputTopics(context);
  const found = await context.publisher.committedInLog(context.shard);
  if (found === null) context.log.offsetsUnwitnessed();
  const inLog = found && commitOf(found, topics);
  const known = commitOf(answered, topics);
  if (found === null || inLog === null || (known !== null && known >= inLog)) return answered;
  context.log.offsetsStale({ answered: known, inLog });
  return found;
}

function topicTable(
  topics: readonly string[],
  positions: Positions,
  committed: Record<string, { offset: bigint | null; metadata: string }>,
): string {
  return topics
    .map(
      (topic) =>
        `${topic}: Postgres ${positions[topic] ?? "none"}, Kafka ${committed[topic]?.offset ?? "none"} (${committed[topic]?.metadata || "no metadata"})`,
    )
    .join("; ");
}
