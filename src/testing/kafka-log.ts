/**
 * One partition in memory: data records of transactions and of plain producers, markers, and what a `read_committed` reader sees.
 *
 * Invariants
 *   KL1  A reader sees no record at or above the last stable offset, and none of a transaction that was aborted.
 *   KL2  Offsets are never used twice; a marker takes one too.
 */
import type { InputRecord, OutputRecord } from "../actors/record.ts";

/** What one producer wrote in one transaction. */
export interface TransactionMark {
  state: "open" | "committed" | "aborted";
}

interface Entry {
  readonly record: InputRecord | null;
  /** null: outside any transaction. */
  readonly mark: TransactionMark | null;
}

export class PartitionLog {
  readonly topic: string;
  readonly partition: number;
  /** By offset. */
  readonly #entries: Entry[] = [];
  readonly #open = new Map<TransactionMark, bigint>();
  #waiting: (() => void)[] = [];

  constructor(topic: string, partition: number) {
    this.topic = topic;
    this.partition = partition;
  }

  get end(): bigint {
    return BigInt(this.#entries.length);
  }

  /** Below it every transaction has ended. */
  get stable(): bigint {
    let stable = this.end;
    for (const first of this.#open.values()) if (first < stable) stable = first;
    return stable;
  }

  append(records: readonly OutputRecord[], mark: TransactionMark | null): void {
    if (mark && !this.#open.has(mark)) this.#open.set(mark, this.end);
    for (const { key, value, headers, timestampMs } of records) {
      const { topic, partition, end: offset } = this;
      this.#entries.push({ record: { topic, partition, offset, key, value, headers, timestampMs }, mark });
    }
    this.#tell();
  }

  /** The marker that ends a transaction here; it may have written nothing. */
  endTransaction(mark: TransactionMark, state: "committed" | "aborted"): void {
    mark.state = state;
    this.#open.delete(mark);
    this.#entries.push({ record: null, mark: null });
    this.#tell();
  }

  /** What a `read_committed` reader gets from `from` on: at most `max` records, and where it goes on. */
  read(from: bigint, max: number): { records: InputRecord[]; nextOffset: bigint } {
    const records: InputRecord[] = [];
    const { stable } = this;
    let at = from;
    for (; at < stable && records.length < max; at += 1n) {
      const { record, mark } = this.#entries[Number(at)]!;
      if (record && mark?.state !== "aborted") records.push(record);
    }
    return { records, nextOffset: at };
  }

  /** Calls once, when something may have become readable. @returns takes it back */
  onChange(tell: () => void): () => void {
    this.#waiting.push(tell);
    return () => {
      this.#waiting = this.#waiting.filter((one) => one !== tell);
    };
  }

  #tell(): void {
    for (const tell of this.#waiting.splice(0)) tell();
  }
}
