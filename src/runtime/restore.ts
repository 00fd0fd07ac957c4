/**
 * Restore: the state of a shard as of commit P, from the memory of this worker, or from the snapshot and the journal.
 *
 * Invariants
 *   R1  Replay steps exactly the journaled runs and ticks, in the order taken; a record or timer with a verdict is not stepped again.
 *   R2  The checksum of a run is compared BEFORE it is stepped: INPUT_CHANGED and MACHINE_CHANGED are different errors.
 *   R3  Effects of a replay are discarded after their digest was compared.
 *   R4  Memory is reused only if it passed, through tokens that were all ours, to this ownership, and its seq is the row's.
 *   R5  A snapshot of newer code, or a journal of other code between S and P, halts the shard.
 */
import { runChecksum } from "../actors/crc32c.ts";
import { judge, judgedBefore } from "../actors/judge.ts";
import type { JournalRow } from "../actors/ports.ts";
import { ShardModel } from "../actors/shard-model.ts";
import { assert, LockstepError } from "../errors.ts";
import type { Acquired } from "./acquire.ts";
import { inputChanged } from "./check-log.ts";
import type { ShardContext } from "./shard-context.ts";

/** Journal rows per read: at 2,000 runs of 30 bytes a row this stays under 12 MB. */
const JOURNAL_ROWS = 200;

/** State that a worker kept from an earlier ownership of the same shard. */
export interface Memory {
  readonly model: ShardModel;
  /** Of the ownership that may use it: each F1 of ours that replaced this token without a gap passes it on. */
  readonly token: string;
  /** Commit that the model stands at once `pending` is settled. */
  readonly seq: number;
  /** A commit was folded and its outcome is not known: the model stands at seq + 1, undoable. */
  readonly pending: boolean;
}

export interface Restored {
  readonly model: ShardModel;
  readonly snapshotSeq: number;
  readonly replayed: number;
  readonly reused: boolean;
}

/** @returns null when aborted */
export async function restore(
  context: ShardContext,
  acquired: Acquired,
  memory: Memory | null,
  signal: AbortSignal,
): Promise<Restored | null> {
  const { row } = acquired;
  const reused = memory && reuse(memory, { token: acquired.ownership.token, seq: row.seq });
  if (reused) return { model: reused, snapshotSeq: row.snapshotSeq, replayed: 0, reused: true };

  const loaded = await context.store.loadSnapshot(context.shard);
  // What was refused for its size has a verdict; what a topic takes now must not refuse more while the past is replayed.
  let replaying = true;
  const { limits } = context.model;
  const effectBytesMax = (topic: string) => (replaying ? Number.MAX_SAFE_INTEGER : limits.outputBytesMax(topic));
  const options = { ...context.model, limits: { ...limits, effectBytesMax } };
  const model = loaded
    ? ShardModel.restore(options, loaded.pieces, loaded.manifest.appVersion)
    : new ShardModel(options);
  const from = loaded?.manifest.seq ?? 0;
  assert(from <= row.seq, `snapshot ${from} of shard ${context.shard} is above its row (${row.seq})`);
  await context.hook("restore.loaded");
  const replayed = from < row.seq ? await replay(context, model, { from, to: row.seq }, signal) : 0;
  if (replayed === null) return null;
  replaying = false;
  assert(
    row.seq === 0 || model.streamTimeMs === row.streamTimeMs,
    `shard ${context.shard} was restored to stream time ${model.streamTimeMs}, its row has ${row.streamTimeMs}`,
  );
  return { model, snapshotSeq: from, replayed, reused: false };
}

/**
 * R4: what becomes of memory in an F1 of ours. Ours for ours: nobody can have committed between the two tokens, so it passes on to the new
 * one; after any other it keeps its old token, and is never used.
 * Shared with the model of the protocol (test/model).
 */
export function passOn(memory: Memory | null, f1: { replaced: string | null; token: string }): Memory | null {
  return memory?.token === f1.replaced ? { ...memory, token: f1.token } : memory;
}

/**
 * R4. Settles an undecided fold by the seq of the row.
 * @param row token of the ownership, and seq of the row, after acquire
 * @returns null: the memory is not the row's
 * Shared with the model of the protocol (test/model).
 */
export function reuse(memory: Memory, row: { token: string; seq: number }): ShardModel | null {
  if (row.token !== memory.token) return null;
  if (!memory.pending) return row.seq === memory.seq ? memory.model : null;
  if (row.seq === memory.seq + 1) memory.model.accept();
  else if (row.seq === memory.seq) memory.model.discard();
  else return null;
  return memory.model;
}

async function replay(
  context: ShardContext,
  model: ShardModel,
  range: { from: number; to: number },
  signal: AbortSignal,
): Promise<number | null> {
  const { store, shard, log } = context;
  log.replaying(range);
  const reader = context.openReader();
  context.watch?.steps.replaying(true);
  let expected = range.from + 1;
  let records = 0;
  try {
    while (expected <= range.to) {
      const rows = await store.readJournal(shard, { after: expected - 1, upTo: range.to, limit: JOURNAL_ROWS });
      for (const journalRow of rows) {
        if (signal.aborted) return null;
        if (journalRow.seq !== expected) break;
        if (journalRow.code !== context.code) throw codeChanged(context, journalRow, range);
        records += await replayRow(context, model, journalRow, reader);
        expected += 1;
        await context.hook("restore.row");
      }
      if (rows.length === 0 || rows.at(-1)!.seq !== expected - 1) {
        throw new LockstepError(
          "JOURNAL_BROKEN",
          `Shard ${shard}: the journal row of commit ${expected} is missing; ${range.from + 1}..${range.to} are needed.`,
          {
            details: { shard, missing: expected, from: range.from + 1, to: range.to },
          },
        );
      }
      log.replayProgress({ seq: expected - 1, to: range.to, records });
    }
  } finally {
    context.watch?.steps.replaying(false);
    await reader.close();
  }
  return records;
}

async function replayRow(
  context: ShardContext,
  model: ShardModel,
  row: JournalRow,
  reader: ReturnType<ShardContext["openReader"]>,
): Promise<number> {
  const { app, shard } = context;
  const { entries, verdicts } = row.journal;
  const recordVerdicts = new Map(verdicts.filter((v) => v.kind === "record").map((v) => [`${v.topic}/${v.offset}`, v]));
  const timerVerdicts = verdicts.filter((v) => v.kind === "timer");
  let records = 0;
  context.watch?.steps.noteHeap();
  model.begin();
  for (const entry of entries) {
    if (entry.kind === "tick") {
      model.takeTick(entry.streamTimeMs, { timersMax: entry.timers, verdicts: timerVerdicts });
      continue;
    }
    const run = await reader.read(entry.topic, entry.first, entry.next, entry.count);
    if (runChecksum(run) !== entry.crc) throw inputChanged(shard, entry); // R2
    const definition = app.inputs.find((input) => input.topic === entry.topic)!;
    for (const record of run) {
      const verdict = recordVerdicts.get(`${record.topic}/${record.offset}`);
      // R1. What has a verdict is not judged either: a schema can be what did not end.
      if (verdict) model.takeRecord(judgedBefore(definition, record, verdict), verdict, timerVerdicts);
      else model.takeRecord(judge(app, definition, record, context.watch?.steps), undefined, timerVerdicts);
    }
    records += run.length;
  }
  const effects = model.finish();
  if (effects.digest !== row.digest || model.streamTimeMs !== row.streamTimeMs) {
    throw new LockstepError(
      "MACHINE_CHANGED",
      `Shard ${shard}: replaying commit ${row.seq} gave other effects than it had: a machine read something that is not in its state or its event (clock, random, global), or its code changed.`,
      { details: { shard, seq: row.seq, digest: effects.digest, was: row.digest } },
    );
  }
  model.accept(); // R3
  return records;
}

function codeChanged(context: ShardContext, row: JournalRow, range: { from: number; to: number }): LockstepError {
  return new LockstepError(
    "CODE_CHANGED",
    `Shard ${context.shard}: commits ${range.from + 1}..${range.to} are not covered by a snapshot, and commit ${row.seq} was made by other code (${row.code}, now ${context.code}). Start the old build once and stop it with SIGTERM, so that it leaves a snapshot; then start this one.`,
    { details: { shard: context.shard, seq: row.seq, code: row.code, now: context.code } },
  );
}
