/**
 * The input of one shard in the order of its journal: records, ticks, and the verdicts on them.
 *
 * One commit is in hand at a time, and its records are unpacked one by one: memory does not grow with the length of the run.
 */
import type { CheckedCommit, JournalCheck } from "./journal-check.ts";
import type { RecordVerdict, TimerVerdict } from "./journal-format.ts";
import type { SourceRecord } from "./sources.ts";
import type { StoredCommit } from "./stored-state.ts";

export type MergedItem =
  | { readonly kind: "record"; readonly record: SourceRecord; readonly verdict: RecordVerdict | null }
  | {
      readonly kind: "tick";
      readonly streamTimeMs: number;
      readonly timers: number;
      readonly verdicts: readonly TimerVerdict[];
    };

export interface MergedCommit {
  readonly stored: StoredCommit;
  /** May be iterated once or again; the commit's items in the order taken. */
  readonly items: Iterable<MergedItem>;
}

/** Each commit is checked before it is handed out, and what it takes twice is handed out once. */
export async function* mergeShard(
  commits: AsyncIterable<StoredCommit>,
  check: JournalCheck,
): AsyncGenerator<MergedCommit> {
  for await (const stored of commits) {
    const checked = check.commit(stored);
    yield { stored, items: { [Symbol.iterator]: () => itemsOf(checked) } };
  }
}

function* itemsOf({ entries, verdicts }: CheckedCommit): Generator<MergedItem> {
  const onRecords = new Map<string, RecordVerdict>();
  const onTimers: TimerVerdict[] = [];
  for (const verdict of verdicts) {
    if (verdict.kind === "record") onRecords.set(`${verdict.topic}/${verdict.offset}`, verdict);
    else onTimers.push(verdict);
  }
  for (const entry of entries) {
    if (entry.kind === "tick") {
      yield { kind: "tick", streamTimeMs: entry.streamTimeMs, timers: entry.timers, verdicts: onTimers };
      continue;
    }
    for (let index = entry.from; index < entry.to; index += 1) {
      const record = entry.log.at(index);
      const verdict = onRecords.size === 0 ? undefined : onRecords.get(`${record.topic}/${record.offset}`);
      yield { kind: "record", record, verdict: verdict ?? null };
    }
  }
}
