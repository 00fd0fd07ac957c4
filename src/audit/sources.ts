/**
 * Where the audit gets what it judges: interfaces only. The caller wires real readers (Kafka's own console consumer for what
 * was published, so that the reader shares no code with the writer) or, in tests, plain arrays.
 */

/** A header value as Kafka keeps it: bytes, or none. A name may occur several times. */
export type InputHeaders = ReadonlyArray<readonly [name: string, value: Buffer | null]>;

/** One data record of an input topic, as its producer wrote it. */
export interface SourceRecord {
  readonly topic: string;
  /** Partition number = shard number. */
  readonly partition: number;
  readonly offset: bigint;
  /** Kafka's timestamp, ms since the Unix epoch; -1n when the record has none. */
  readonly timestampMs: bigint;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: InputHeaders;
}

/** One record that a commit published, as a `read_committed` consumer sees it. Text is decoded as UTF-8. */
export interface PublishedRecord {
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  /** ms since the Unix epoch; -1 when the record has none. */
  readonly timestampMs: number;
  readonly key: string | null;
  /** Of several headers of one name, the last. A header without a value has "". */
  readonly headers: Readonly<Record<string, string>>;
  readonly value: string | null;
}

export interface InputSource {
  /** All data records of an input, control and aborted records left out; ascending by offset within a partition. */
  read(topic: string): AsyncIterable<SourceRecord>;
}

export interface OutputSource {
  /** All committed records of a topic, ascending by offset within a partition. May be called twice for one topic. */
  read(topic: string): AsyncIterable<PublishedRecord>;
}

export type DatabaseRow = Readonly<Record<string, unknown>>;

export interface Database {
  /** Statements are read-only, parameters are text and numbers, and every column asked for is text or a small integer. */
  query(sql: string, params: readonly unknown[]): Promise<readonly DatabaseRow[]>;
}
