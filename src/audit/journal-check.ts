/**
 * Checks the journal of one shard against the input and against the shard row, commit by commit.
 *
 * Invariants
 *   A-seq        commits are 1..P without a gap; a token, once another has followed it, never comes back.
 *   A-tiling     each data record from the first to the position is in exactly one run; what lies between runs are control records.
 *   A-run        a run's first, next, count and CRC32C are those of the records that the input holds.
 *   A-time       stream time never falls, and is what the fold has reached.
 *   A-positions  positions of each commit, and of the shard row, are the ends of the last runs.
 *
 * A journal that breaks one of them is reported and followed as far as it goes: a record is never handed on twice.
 */
import { crcWithRecord } from "./crc32c.ts";
import {
  type JournalBody,
  type JournalRun,
  type JournalTick,
  type RecordVerdict,
  readJournalBody,
} from "./journal-format.ts";
import type { PartitionLog } from "./partition-log.ts";
import type { Findings } from "./report.ts";
import type { StoredCommit, StoredShard } from "./stored-state.ts";

/** Records of one log, by index. */
export interface RecordRange {
  readonly kind: "records";
  readonly log: PartitionLog;
  readonly from: number;
  readonly to: number;
}

/** What a commit took, as far as the input bears it out. */
export interface CheckedCommit {
  readonly seq: number;
  readonly entries: ReadonlyArray<RecordRange | JournalTick>;
  readonly verdicts: JournalBody["verdicts"];
}

export interface JournalCheck {
  /** Commits must come ascending by seq. */
  commit(commit: StoredCommit): CheckedCommit;
  /** After a commit was folded. @param streamTimeMs the fold's; null before its first accepted record */
  folded(commit: StoredCommit, streamTimeMs: number | null): void;
  /** After the last commit. */
  end(): void;
}

/** How far one input has been taken. */
interface Cursor {
  readonly log: PartitionLog;
  /** Index of the next record that no run has taken yet. */
  index: number;
  /** End of the last run; null before the first. */
  position: bigint | null;
}

export function createJournalCheck(options: {
  shard: StoredShard;
  /** One log per input topic, of this shard's partition. */
  logs: readonly PartitionLog[];
  findings: Findings;
}): JournalCheck {
  const { shard, findings } = options;
  const cursors = new Map(options.logs.map((log): [string, Cursor] => [log.topic, { log, index: 0, position: null }]));
  const tokensPast = new Set<string>();
  let last: StoredCommit | null = null;
  const at = (seq: number) => `shard ${shard.shard}, commit ${seq}`;
  const fault = (seq: number, text: string) => findings.add("journal", text, at(seq));

  return {
    commit(commit) {
      checkSuccession(commit, last, tokensPast, fault);
      last = commit;
      const body = readBody(commit, fault);
      const entries: Array<RecordRange | JournalTick> = [];
      let taken = 0;
      for (const entry of body.entries) {
        if (entry.kind === "tick") {
          entries.push(entry);
          continue;
        }
        taken += entry.count;
        const cursor = cursors.get(entry.topic);
        if (cursor === undefined) fault(commit.seq, `There is a run of ${entry.topic}, which is no input of the app.`);
        else entries.push(takeRun(entry, cursor, commit.seq));
      }
      if (taken !== commit.taken) fault(commit.seq, `The row says ${commit.taken} taken, its runs hold ${taken}.`);
      checkPositions(commit);
      checkVerdicts(body, commit);
      return { seq: commit.seq, entries, verdicts: body.verdicts };
    },

    folded(commit, streamTimeMs) {
      if (streamTimeMs !== null && streamTimeMs !== commit.streamTimeMs) {
        fault(commit.seq, `Stream time is ${commit.streamTimeMs}, the fold of the input reaches ${streamTimeMs}.`);
      }
    },

    end() {
      checkShardRow();
      for (const { log, index, position } of cursors.values()) {
        const end = shard.positions?.[log.topic] ?? position ?? 0n;
        const endIndex = Math.max(index, log.indexFrom(end));
        reportLost(log, index, endIndex, `no commit up to ${shard.seq}`);
        if (endIndex < log.length) {
          const text = `${log.length - endIndex} records from offset ${log.offsetAt(endIndex)} on are not taken yet.`;
          findings.add("unfinished", text, `${log.topic}/${log.partition}`, log.length - endIndex);
        }
      }
    },
  };

  function takeRun(run: JournalRun, cursor: Cursor, seq: number): RecordRange {
    const { log } = cursor;
    const name = `The run ${run.first}..${run.next} of ${log.topic}`;
    const first = log.indexFrom(run.first);
    const end = Math.max(first, log.indexFrom(run.next));
    if (run.count < 1 || run.next <= run.first) fault(seq, `${name} is empty (count ${run.count}).`);
    if (cursor.position !== null && run.first < cursor.position) {
      fault(seq, `${name} begins below ${cursor.position}, where the run before it ends.`);
      const twice = Math.min(end, cursor.index) - first;
      if (twice > 0) {
        findings.add("doubled", `${twice} records from offset ${run.first} on are in two runs.`, at(seq), twice);
      }
    }
    if (first > cursor.index) {
      fault(seq, `${name} leaves out ${first - cursor.index} records from offset ${log.offsetAt(cursor.index)} on.`);
      reportLost(log, cursor.index, first, "no run");
    }
    checkContent(run, { log, first, end, name, seq });
    const from = Math.max(first, cursor.index);
    const to = Math.max(from, end);
    cursor.index = Math.max(cursor.index, to);
    if (cursor.position === null || run.next > cursor.position) cursor.position = run.next;
    return { kind: "records", log, from, to };
  }

  function checkContent(
    run: JournalRun,
    where: { log: PartitionLog; first: number; end: number; name: string; seq: number },
  ): void {
    const { log, first, end, name, seq } = where;
    if (end - first !== run.count) {
      fault(seq, `${name} says ${run.count} records, the input holds ${end - first} there.`);
      return;
    }
    if (end === first) return;
    if (log.offsetAt(first) !== run.first || log.offsetAt(end - 1) + 1n !== run.next) {
      fault(seq, `${name} has its records at ${log.offsetAt(first)}..${log.offsetAt(end - 1) + 1n}.`);
    }
    let crc = 0;
    for (let index = first; index < end; index += 1) crc = crcWithRecord(crc, log.at(index));
    if (crc !== run.crc)
      fault(seq, `${name} has checksum ${run.crc}, the input's is ${crc}: other records stand there.`);
  }

  function checkPositions(commit: StoredCommit): void {
    for (const [topic, cursor] of cursors) {
      const stored = commit.positions[topic];
      if (stored === undefined) {
        fault(commit.seq, `There is no position of ${topic}.`);
        continue;
      }
      // Before its first run an input stands where the first owner fixed the start.
      if (cursor.position !== null && stored !== cursor.position) {
        fault(commit.seq, `The position of ${topic} is ${stored}, its last run ends at ${cursor.position}.`);
      }
    }
    for (const topic of Object.keys(commit.positions)) {
      if (!cursors.has(topic)) fault(commit.seq, `There is a position of ${topic}, which is no input of the app.`);
    }
  }

  function checkVerdicts(body: JournalBody, commit: StoredCommit): void {
    for (const verdict of body.verdicts) {
      if (verdict.kind === "record" && !isTaken(verdict, body)) {
        fault(
          commit.seq,
          `The verdict on ${verdict.topic} offset ${verdict.offset} is on a record that this commit did not take.`,
        );
      }
    }
  }

  function checkShardRow(): void {
    const seq = last?.seq ?? 0;
    if (shard.seq !== seq) fault(shard.seq, `The shard stands at commit ${shard.seq}, its journal ends at ${seq}.`);
    if (shard.confirmed < shard.seq) {
      const text = `Commits ${shard.confirmed + 1}..${shard.seq} are not known to be in Kafka.`;
      findings.add("unfinished", text, at(shard.seq), shard.seq - shard.confirmed);
    }
    for (const [topic, { position }] of cursors) {
      const stored = shard.positions?.[topic];
      if (position !== null && stored !== position) {
        fault(
          shard.seq,
          `The shard's position of ${topic} is ${stored ?? "missing"}, its last run ends at ${position}.`,
        );
      }
    }
    if (last === null) return;
    if (shard.streamTimeMs !== last.streamTimeMs) {
      fault(shard.seq, `The shard's stream time is ${shard.streamTimeMs}, its last commit's ${last.streamTimeMs}.`);
    }
    if (shard.epoch < last.epoch || (shard.epoch === last.epoch && shard.token !== last.token)) {
      fault(
        shard.seq,
        `The shard is at epoch ${shard.epoch} with token ${shard.token}, its last commit at ${last.epoch} with ${last.token}.`,
      );
    }
    if (shard.code !== last.code)
      fault(shard.seq, `The shard's code is ${shard.code}, its last commit's ${last.code}.`);
  }

  function reportLost(log: PartitionLog, from: number, to: number, by: string): void {
    for (let index = from; index < to; index += 1) {
      findings.add(
        "lost",
        `The record was taken by ${by}.`,
        `${log.topic}/${log.partition} offset ${log.offsetAt(index)}`,
      );
    }
  }
}

function checkSuccession(
  commit: StoredCommit,
  last: StoredCommit | null,
  tokensPast: Set<string>,
  fault: (seq: number, text: string) => void,
): void {
  const { seq, epoch, token } = commit;
  const before = last?.seq ?? 0;
  if (seq !== before + 1) fault(seq, `Commits ${before + 1}..${seq - 1} are not in the journal.`);
  if (commit.code === "") fault(seq, "The commit does not say which code made it.");
  if (last === null) return;
  if (commit.streamTimeMs < last.streamTimeMs)
    fault(seq, `Stream time fell from ${last.streamTimeMs} to ${commit.streamTimeMs}.`);
  if (token !== last.token) tokensPast.add(last.token);
  if (tokensPast.has(token)) fault(seq, `Token ${token} commits again after another has taken the shard from it.`);
  if (epoch < last.epoch || (epoch === last.epoch) !== (token === last.token)) {
    fault(seq, `Epoch ${epoch} with token ${token} follows epoch ${last.epoch} with token ${last.token}.`);
  }
}

function readBody(commit: StoredCommit, fault: (seq: number, text: string) => void): JournalBody {
  try {
    return readJournalBody(commit.body);
  } catch (error) {
    fault(commit.seq, `The journal's text cannot be read: ${error instanceof Error ? error.message : String(error)}.`);
    return { entries: [], verdicts: [] };
  }
}

function isTaken({ topic, offset }: RecordVerdict, body: JournalBody): boolean {
  return body.entries.some(
    (entry) => entry.kind === "run" && entry.topic === topic && entry.first <= offset && offset < entry.next,
  );
}
