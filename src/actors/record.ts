/**
 * Records as the model sees them: what came in, and what goes out. Plain data, no I/O.
 */

/** A header value as Kafka keeps it: bytes, or none. A name may occur several times. */
export type Headers = ReadonlyArray<readonly [name: string, value: Buffer | null]>;

/** One record of an input topic. */
export interface InputRecord {
  readonly topic: string;
  /** Partition number = shard number. */
  readonly partition: number;
  readonly offset: bigint;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Headers;
  /** Kafka's timestamp of the record, ms since the Unix epoch; -1n when it has none. */
  readonly timestampMs: bigint;
}

/**
 * One record that a commit publishes. The partition is fixed when the record is made, so that a publish repeated from
 * redo can never land elsewhere.
 */
export interface OutputRecord {
  readonly topic: string;
  readonly partition: number;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Headers;
  /** Event time, ms since the Unix epoch. */
  readonly timestampMs: bigint;
}

/** Per input topic of an app, the next offset to take. */
export type Positions = Readonly<Record<string, bigint>>;
