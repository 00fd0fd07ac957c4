/**
 * The books of a commit, checked before it is written. What does not hold is a bug, and halts the shard: docs/errors.md, "Asserts".
 */
import type { CommitEffects } from "../actors/effects.ts";
import type { JournalEntry } from "../actors/journal.ts";
import type { Positions } from "../actors/record.ts";
import { assert } from "../errors.ts";

/** Positions after a commit. @throws {LockstepError} POSITION_FELL */
export function advance(positions: Positions, entries: readonly JournalEntry[]): Positions {
  const next: Record<string, bigint> = { ...positions };
  for (const entry of entries) {
    if (entry.kind !== "run") continue;
    assert(
      entry.first >= next[entry.topic]!,
      `run of ${entry.topic} begins at ${entry.first}, below the position ${next[entry.topic]}`,
      "POSITION_FELL",
    );
    next[entry.topic] = entry.next;
  }
  return next;
}

/**
 * What was taken came to an end, each record once, and stream time has not fallen.
 * @throws {LockstepError} RECORDS_UNACCOUNTED, STREAM_TIME_FELL
 */
export function assertBalanced(
  { counts, notes }: Pick<CommitEffects, "counts" | "notes">,
  { taken, streamTimeMs, streamTimeBefore }: { taken: number; streamTimeMs: number; streamTimeBefore: number },
): void {
  const setAside = notes.setAside.reduce((n, { kind }) => n + (kind === "record" ? 1 : 0), 0);
  const ended = notes.stepped + notes.late.length + notes.dropped.length + setAside;
  assert(
    ended === taken && (counts["taken"] ?? 0) === taken,
    `${taken} records were taken and ${counts["taken"] ?? 0} counted; ${notes.stepped} were stepped, ${notes.late.length} late, ${notes.dropped.length} dropped, ${setAside} set aside`,
    "RECORDS_UNACCOUNTED",
  );
  assert(
    streamTimeMs >= streamTimeBefore,
    `stream time fell from ${streamTimeBefore} to ${streamTimeMs}`,
    "STREAM_TIME_FELL",
  );
}
