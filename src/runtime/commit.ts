/**
 * One commit of a shard: fold what was taken, make it durable in Postgres, publish it to Kafka.
 *
 *   1. Fold      step the items in the model; output is data
 *   2. Postgres  ONE transaction: shard row (guarded), journal, redo, rows. This is the commit point
 *   3. Kafka     ONE transaction, always: redo, then the positions of ALL inputs with `<instance>/<seq>/<token>`
 *
 * Invariants
 *   I1  seq rises by one per commit, and runs tile the offsets of each input.
 *   I3  Redo of a commit stands in Postgres until Kafka is known to have it.
 *   I5  Records of a commit are published in the order of the fold, ids unique.
 *   C-refused  A row that Postgres refuses changes nothing: the batch is undone and taken again in halves, and a single guilty
 *              record or timer is set aside by verdict.
 *   C-run      No commit takes a record, or fires a timer, by which more than `refusedRunMax` in a row are set aside: the shard halts
 *              before it, and all before it is committed. How long a run is, is part of the state; the limit is no part of anything.
 */

import { extendChecksum } from "../actors/crc32c.ts";
import type { CommitEffects, Origin } from "../actors/effects.ts";
import type { Journal, JournalEntry, Run, Verdict } from "../actors/journal.ts";
import type { Judged } from "../actors/judge.ts";
import type { Ownership, TransactionalWriter } from "../actors/ports.ts";
import type { OutputRecord, Positions } from "../actors/record.ts";
import { encodeRedo } from "../actors/redo-codec.ts";
import type { ShardModel } from "../actors/shard-model.ts";
import { assert, hasCode, isLockstepError, LockstepError } from "../errors.ts";
import { advance, assertBalanced } from "./books.ts";
import type { ShardContext } from "./shard-context.ts";

/** One thing taken: a record of an input, or a tick of stream time. */
export type Item =
  | { readonly kind: "record"; readonly judged: Judged }
  | { readonly kind: "tick"; readonly streamTimeMs: number; readonly timersMax: number };

/** Where a running shard stands. Changed by `commitItems` alone. */
export interface Standing {
  readonly ownership: Ownership;
  readonly writer: TransactionalWriter;
  readonly model: ShardModel;
  /** P of the model and of Postgres. */
  seq: number;
  /** c: greatest seq that Kafka is known to have. */
  confirmed: number;
  /** Confirmed as Postgres knows it. */
  confirmedStored: number;
  positions: Positions;
  /** A fold whose commit has an unknown outcome: the model stands at seq + 1, undoable. */
  pending: boolean;
}

/**
 * Commits the items, in order: in one commit, or in several where the output of one would grow too large or Postgres refuses a row.
 * @throws {LockstepError} STORE_UNAVAILABLE what was not committed took no effect and may be taken again: `rest` says what that is.
 *   COMMIT_UNKNOWN, PUBLISH_FAILED: acquire again. Others: as ports.ts.
 */
export async function commitItems(
  context: ShardContext,
  standing: Standing,
  items: readonly Item[],
  careful: Careful = NOT_CAREFUL,
): Promise<void> {
  await commitAll(context, standing, items, careful);
}

/** Of items that are suspect: care.ts. */
export interface Careful {
  /** Whatever of it is taken is not stepped. */
  readonly verdicts: readonly Verdict[];
  /** The fold has come to its end; nothing is written yet. */
  readonly survived?: () => Promise<void>;
}

const NOT_CAREFUL: Careful = { verdicts: [] };

/** Those of the items that no commit has taken yet. A tick that was repeated finds no timer due. */
export function rest(standing: Standing, items: readonly Item[]): readonly Item[] {
  return items.filter(
    (item) => item.kind === "tick" || item.judged.record.offset >= standing.positions[item.judged.record.topic]!,
  );
}

/** Commits the first of the items, as many as one commit may take. @returns how many */
async function commitSome(
  context: ShardContext,
  standing: Standing,
  items: readonly Item[],
  careful: Careful,
): Promise<number> {
  const { model } = standing;
  const { verdicts } = careful;
  await context.hook("fold.before");
  const foldStart = context.clock.monotonicMs();
  model.begin();
  const streamTimeBefore = model.streamTimeMs;
  const { entries, count, tooMany } = fold(context, model, items, verdicts);
  const effects = model.finish();
  if (tooMany) {
    model.discard();
    if (count === 0) throw tooManyRefused(context, effects, items[0]);
    return commitSome(context, standing, items.slice(0, count), careful); // C-run
  }
  const passed = verdicts.filter((verdict) => effects.origins.some((origin) => sameTarget(verdict, origin)));
  const journal: Journal = { entries, verdicts: [...passed, ...effects.verdicts] };
  standing.pending = true;
  await context.hook("fold.after");
  const postgresStart = context.clock.monotonicMs();

  const seq = standing.seq + 1;
  const positions = advance(standing.positions, journal.entries);
  const outputs = withSource(effects, { instance: context.instance, shard: context.shard, seq });
  const taken = entries.reduce((n, entry) => n + (entry.kind === "run" ? entry.count : 0), 0);
  assertBalanced(effects, { taken, streamTimeMs: model.streamTimeMs, streamTimeBefore });
  context.meter.committing({ seq, token: standing.ownership.token, entries, effects, outputs });
  try {
    if (careful.survived) await careful.survived();
    await context.store.commit({
      ownership: standing.ownership,
      seq,
      positions,
      streamTimeMs: model.streamTimeMs,
      code: context.code,
      journal,
      taken,
      digest: effects.digest,
      redo: encodeRedo(outputs),
      rows: effects.rows,
      ids: effects.ids,
      confirmed: standing.confirmed,
    });
  } catch (error) {
    context.meter.aborted(foldStart);
    if (isLockstepError(error) && error.remedy !== "restore") context.meter.undone(); // else undecided.ts
    if (isLockstepError(error) && (hasCode(error, "ROW_REFUSED") || hasCode(error, "STORE_UNAVAILABLE"))) {
      model.discard(); // nothing was written
      standing.pending = false;
      if (hasCode(error, "ROW_REFUSED")) {
        await commitInHalves(context, standing, items.slice(0, count), careful, { error, effects });
        return count;
      }
    }
    throw error;
  }
  context.meter.committed();
  model.accept();
  standing.pending = false;
  standing.seq = seq;
  standing.positions = positions;
  standing.confirmedStored = Math.max(standing.confirmedStored, standing.confirmed);
  const kafkaStart = context.clock.monotonicMs();

  try {
    const metadata = { instance: context.instance, seq, token: standing.ownership.token };
    await standing.writer.publish({ records: outputs, positions, metadata });
  } catch (error) {
    context.meter.aborted(foldStart);
    throw error;
  }
  standing.confirmed = seq;
  const end = context.clock.monotonicMs();
  const atMs = [foldStart, postgresStart, kafkaStart, end] as const;
  context.meter.published({ items: items.slice(0, count), positions, atMs });
  context.log.committed({
    seq,
    records: taken,
    published: outputs.length,
    rows: effects.rows.length,
    foldMs: postgresStart - foldStart,
    postgresMs: kafkaStart - postgresStart,
    kafkaMs: end - kafkaStart,
  });
  await context.hook("commit.done");
  return count;
}

/**
 * Steps the items, until they are done or the output is as much as one commit may publish, and writes down what was taken. A tick
 * is journaled with the stream time that it reached.
 * @returns how many items may be committed; `tooMany`: the one behind them was folded too, and may not
 */
function fold(
  context: ShardContext,
  model: ShardModel,
  items: readonly Item[],
  verdicts: readonly Verdict[],
): { entries: JournalEntry[]; count: number; tooMany: boolean } {
  const { outputBytesMax, outputRecordsMax, refusedRunMax = 0 } = context.settings;
  const entries: JournalEntry[] = [];
  let count = 0;
  const timerVerdicts = verdicts.filter((v) => v.kind === "timer");
  let run: { -readonly [K in keyof Run]: Run[K] } | null = null;
  for (const item of items) {
    if (refusedRunMax > 0 && model.refusedRun > refusedRunMax) break;
    if (count > 0 && (model.outputBytes >= outputBytesMax || model.outputRecords >= outputRecordsMax)) break;
    count += 1;
    if (item.kind === "tick") {
      run = null;
      entries.push({
        kind: "tick",
        ...model.takeTick(item.streamTimeMs, { timersMax: item.timersMax, verdicts: timerVerdicts }),
      });
      continue;
    }
    const { record } = item.judged;
    const verdict = verdicts.find((v) => v.kind === "record" && v.topic === record.topic && v.offset === record.offset);
    model.takeRecord(item.judged, verdict);
    if (run === null || run.topic !== record.topic) {
      run = { kind: "run", topic: record.topic, first: record.offset, next: record.offset, count: 0, crc: 0 };
      entries.push(run);
    }
    assert(
      record.offset >= run.next,
      `offset ${record.offset} of ${record.topic} was taken after ${run.next}`,
      "POSITION_FELL",
    );
    run.next = record.offset + 1n;
    run.count += 1;
    run.crc = extendChecksum(run.crc, record);
  }
  const tooMany = refusedRunMax > 0 && model.refusedRun > refusedRunMax;
  assert(!tooMany || count > 0, "a run of refused records was too long before anything was folded");
  return { entries, count: tooMany ? count - 1 : count, tooMany };
}

/** @param item the one that crossed the limit, folded alone */
function tooManyRefused(context: ShardContext, { notes }: CommitEffects, item: Item | undefined): LockstepError {
  const { shard, settings } = context;
  const last = notes.setAside.at(-1);
  const where = item?.kind === "record" ? `records of ${item.judged.record.topic}` : "timers";
  const at = item?.kind === "record" ? ` at offset ${item.judged.record.offset}` : "";
  return new LockstepError(
    "TOO_MANY_REFUSED",
    `Shard ${shard}: more than ${settings.refusedRunMax} ${where} in a row cannot be taken, the next one${at} because of ${last?.code}. That is no bad data but a broken deployment, or other content than the app expects. Nothing is passed over; \`lockstep dlq list\` shows those before it.`,
    { details: { shard, code: last?.code, topic: last?.topic, limit: settings.refusedRunMax } },
  );
}

function withSource(effects: CommitEffects, source: { instance: string; shard: number; seq: number }): OutputRecord[] {
  const prefix = `${source.instance}/${source.shard}/${source.seq}/`;
  const ids = new Set<string>();
  return effects.publishes.map((published, ordinal) => {
    assert(!ids.has(published.id), `id ${published.id} is published twice in commit ${source.seq}`, "IDS_NOT_UNIQUE");
    ids.add(published.id);
    const { topic, partition, key, value, timestampMs } = published;
    return {
      topic,
      partition,
      key,
      value,
      timestampMs,
      headers: [...published.headers, ["lockstep-source", Buffer.from(prefix + ordinal)]],
    };
  });
}

// ------------------------------------------------------------------------------------------------- a row that Postgres refuses

async function commitInHalves(
  context: ShardContext,
  standing: Standing,
  items: readonly Item[],
  careful: Careful,
  refusal: { error: LockstepError; effects: CommitEffects },
): Promise<void> {
  const { error, effects } = refusal;
  context.log.rowRefused({
    seq: standing.seq + 1,
    items: items.length,
    sqlstate: error.details["sqlstate"],
    message: error.message,
  });
  if (items.length > 1) {
    const middle = items.length >> 1;
    await commitAll(context, standing, items.slice(0, middle), careful);
    await commitAll(context, standing, items.slice(middle), careful);
    return;
  }
  const item = items[0];
  assert(item !== undefined, "Postgres refused a row of a commit that took nothing");
  const timers = effects.origins.filter(
    (origin): origin is Extract<Origin, { kind: "timer" }> => origin.kind === "timer",
  );
  if (timers.length > (item.kind === "tick" ? 1 : 0)) {
    // Each timer fired becomes a tick of its own, so that only the guilty one is set aside.
    for (const timer of timers)
      await commitAll(context, standing, [{ kind: "tick", streamTimeMs: timer.dueMs, timersMax: 1 }], careful);
    if (item.kind === "record") await commitAll(context, standing, items, careful);
    return;
  }
  const reason = {
    code: "ROW_REFUSED",
    message: `${error.details["sqlstate"] ?? ""} ${error.message}`.trim().slice(0, 500),
  };
  const verdict = verdictOn(item, timers[0], reason);
  assert(
    !careful.verdicts.some((v) => sameTarget(v, verdict)),
    "Postgres refused a row of a record or timer that was already set aside",
  );
  context.log.verdict({
    verdict: verdict.kind === "record" ? { ...verdict, offset: String(verdict.offset) } : verdict,
  });
  await commitAll(context, standing, items, { ...careful, verdicts: [...careful.verdicts, verdict] });
}

async function commitAll(
  context: ShardContext,
  standing: Standing,
  items: readonly Item[],
  careful: Careful,
): Promise<void> {
  for (let done = 0; done < items.length; ) done += await commitSome(context, standing, items.slice(done), careful);
}

function verdictOn(
  item: Item,
  timer: Extract<Origin, { kind: "timer" }> | undefined,
  reason: { code: string; message: string },
): Verdict {
  if (item.kind === "record") {
    const { topic, offset } = item.judged.record;
    return { kind: "record", topic, offset, ...reason };
  }
  assert(timer !== undefined, "Postgres refused a row of a tick that fired no timer");
  const { actorType, key, timerId, dueMs } = timer;
  return { kind: "timer", actorType, key, timerId, dueMs, ...reason };
}

function sameTarget(a: Verdict, b: Verdict | Origin): boolean {
  if (a.kind === "record") return b.kind === "record" && a.topic === b.topic && a.offset === b.offset;
  return (
    b.kind === "timer" &&
    a.actorType === b.actorType &&
    a.key === b.key &&
    a.timerId === b.timerId &&
    a.dueMs === b.dueMs
  );
}
