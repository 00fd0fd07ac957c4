/**
 * The manifest of a run: what was sent, by kind, topic and partition, for the audit to compare with what it finds.
 *
 * Invariant
 *   M1  total = distinct + duplicates + bad; `late` is part of `distinct`; `badByKind` adds up to `bad`.
 */
import { TIMEFRAMES } from "../schemas.ts";
import { signalTopic } from "../topics.ts";
import { BAD_KINDS, type BadKind } from "./bad.ts";
import type { GeneratorOptions } from "./options.ts";
import type { PlannedRecord } from "./plan.ts";

export interface SentCounts {
  readonly total: number;
  readonly distinct: number;
  readonly duplicates: number;
  readonly late: number;
  readonly bad: number;
}

export interface Manifest {
  readonly version: 1;
  readonly seed: number;
  /** As used: `startMs` is never null here. */
  readonly options: GeneratorOptions;
  /** ISO-8601, UTC: wall clock. */
  readonly startedAt: string;
  readonly sent: SentCounts & { readonly badByKind: Readonly<Record<BadKind, number>> };
  readonly perTopic: Readonly<Record<string, SentCounts>>;
  /** Records by topic, then by partition. */
  readonly perPartition: Readonly<Record<string, readonly number[]>>;
  /** Event times of the first and the last normal signal, ms; null when there was none. */
  readonly firstTs: number | null;
  readonly lastTs: number | null;
}

type Counting = { -readonly [K in keyof SentCounts]: number };

export interface Tally {
  add(record: PlannedRecord): void;
  readonly total: number;
  manifest(of: { options: GeneratorOptions; startedAt: string }): Manifest;
}

export function createTally(partitions: number): Tally {
  const sent = noCounts();
  const badByKind = Object.fromEntries(BAD_KINDS.map((kind) => [kind, 0])) as Record<BadKind, number>;
  const topics = TIMEFRAMES.map(signalTopic);
  const perTopic: Record<string, Counting> = Object.fromEntries(topics.map((topic) => [topic, noCounts()]));
  const perPartition: Record<string, number[]> = Object.fromEntries(
    topics.map((topic) => [topic, Array(partitions).fill(0)]),
  );
  let firstTs: number | null = null;
  let lastTs: number | null = null;
  return {
    add(record) {
      count(sent, record);
      count(perTopic[record.topic]!, record);
      perPartition[record.topic]![record.partition]! += 1;
      if (record.badKind !== null) badByKind[record.badKind] += 1;
      if (record.kind !== "normal") return;
      firstTs ??= record.ts;
      lastTs = record.ts;
    },
    get total() {
      return sent.total;
    },
    manifest: ({ options, startedAt }) => ({
      version: 1,
      seed: options.seed,
      options,
      startedAt,
      sent: { ...sent, badByKind: { ...badByKind } },
      perTopic: structuredClone(perTopic),
      perPartition: structuredClone(perPartition),
      firstTs,
      lastTs,
    }),
  };
}

function noCounts(): Counting {
  return { total: 0, distinct: 0, duplicates: 0, late: 0, bad: 0 };
}

function count(counts: Counting, { kind }: PlannedRecord): void {
  counts.total += 1;
  if (kind === "duplicate") counts.duplicates += 1;
  else if (kind === "bad") counts.bad += 1;
  else counts.distinct += 1;
  if (kind === "late") counts.late += 1;
}
