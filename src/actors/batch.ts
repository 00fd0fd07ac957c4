/**
 * The output of a batch while it is folded: what its records and timers publish and insert, and what is taken back when one of
 * them fails.
 */
import { digestOf } from "./digest.ts";
import type { CommitEffects, PublishEffect, RowEffect } from "./effects.ts";
import type { IdOrigin } from "./ids.ts";
import type { Verdict } from "./journal.ts";
import type { Rejection } from "./judge.ts";
import { Notebook } from "./notes.ts";

export interface Batch {
  readonly publishes: PublishEffect[];
  readonly rows: RowEffect[];
  readonly origins: IdOrigin[];
  readonly verdicts: Verdict[];
  /** Ids that were made; those of what was taken back stay. */
  readonly ids: Set<string>;
  bytes: number;
  /** Length of the longest run of refused records of one input, or of timers, that the batch began or made longer. */
  refusedRun: number;
  readonly notes: Notebook;
  readonly countersBefore: Readonly<Record<string, number>>;
}

/** A record or timer being processed. */
export interface Unit {
  readonly origin: IdOrigin;
  /** Number of the origin within the batch. */
  readonly index: number;
  readonly timeMs: number;
  /** Of the next emitted event. */
  ordinal: number;
  tells: number;
}

export function emptyBatch(countersBefore: Readonly<Record<string, number>>): Batch {
  return {
    publishes: [],
    rows: [],
    origins: [],
    verdicts: [],
    ids: new Set(),
    bytes: 0,
    refusedRun: 0,
    notes: new Notebook(),
    countersBefore,
  };
}

export function openUnit({ origins }: Batch, origin: IdOrigin, timeMs: number): Unit {
  return { origin, index: origins.push(origin) - 1, timeMs, ordinal: 0, tells: 0 };
}

/** @returns what takes the batch's output back to where it is now */
export function markOutput(batch: Batch): () => void {
  const { bytes } = batch;
  const [publishes, rows, origins, verdicts] = [
    batch.publishes.length,
    batch.rows.length,
    batch.origins.length,
    batch.verdicts.length,
  ];
  const takeBackNotes = batch.notes.mark();
  return () => {
    takeBackNotes();
    batch.publishes.length = publishes;
    batch.rows.length = rows;
    batch.origins.length = origins;
    batch.verdicts.length = verdicts;
    batch.bytes = bytes;
  };
}

export function effectsOf(batch: Batch, counters: Readonly<Record<string, number>>): CommitEffects {
  const { publishes, rows, origins, verdicts, notes, countersBefore } = batch;
  const counts: Record<string, number> = {};
  for (const [name, value] of Object.entries(counters)) {
    const increment = value - (countersBefore[name] ?? 0);
    if (increment !== 0) counts[name] = increment;
  }
  return {
    publishes: [...publishes],
    rows: [...rows],
    origins: [...origins],
    verdicts: [...verdicts],
    ids: batch.ids,
    counts,
    notes,
    digest: digestOf(publishes, rows),
  };
}

/** A cause that another deployment would not have had: what a topic takes is a setting of the topic. */
export function dependsOnSettings({ code }: Rejection): boolean {
  return code === "OUTPUT_TOO_LARGE";
}
