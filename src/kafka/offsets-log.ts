/**
 * A group's committed offsets as Kafka's log has them, read by ourselves: what its coordinator answers from memory, and sometimes wrongly.
 *
 * The coordinator fills its memory from one partition of `__consumer_offsets`. Kafka 4.3 can take requests before it has read that
 * partition to its end (docs/protocol.md, K1): it then answers with offsets of long ago, or with none.
 *
 * Invariants
 *   G1  An offset counts once its transaction's COMMIT marker stands in the log, or at once when it was written outside of any.
 *   G2  Of several that count, the one written last counts, by its place in the log and not by its marker's: Kafka's own rule.
 *   G3  All is read up to the high watermark. A transaction of another shard that is still open, and in front of ours, hides nothing.
 *
 * Read backwards in steps that grow, since what was committed last stands near the end; on a connection of its own, because a topic that
 * may not be seen spoils the metadata of all others on the same one.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { CommittedOffset } from "../actors/ports.ts";
import { LockstepError } from "../errors.ts";
import type { KafkaClient } from "./client.ts";
import { isCodecMissing } from "./codecs.ts";
import { type Connection, openConnection, persist } from "./connection.ts";
import { decodeOffsetKey, decodeOffsetValue } from "./offsets-record.ts";
import { leaderOf, readOffsets } from "./partition-log.ts";
import { READ_UNCOMMITTED, type WireRecord } from "./wire.ts";
import { errorType, unavailable } from "./wire-errors.ts";

export interface OffsetsLogRequest {
  readonly client: KafkaClient;
  readonly groupId: string;
  /** One partition number of these topics. */
  readonly topics: readonly string[];
  readonly partition: number;
  /** Failures that can pass are retried for so long. */
  readonly deadlineMs: number;
  /** Offsets to go back at first, default 5,000. */
  readonly backFirst?: bigint;
}

const OFFSETS_TOPIC = "__consumer_offsets";
/** Offsets to go back at first, then so many times as many: a few seconds of commits, and in a few steps the whole log. */
const BACK_FIRST = 5_000n;
const BACK_FACTOR = 8n;
const READ_BYTES_MAX = 4 * 1_048_576;
const READ_WAIT_MS = 100;
/** Key of a control record: version (int16), type (int16). */
const MARKER = { abort: 0, commit: 1 } as const;

/** For the whole reading; nobody waits for a log that is longer than that. */
const ALL_MS_MAX = 60_000;
/** Then it never can be read by us. Anything else passes, or is asked for again: to believe the coordinator takes more than an error. */
const MAY_NOT: ReadonlySet<string> = new Set([
  "TOPIC_AUTHORIZATION_FAILED",
  "CLUSTER_AUTHORIZATION_FAILED",
  "UNSUPPORTED_COMPRESSION_TYPE",
]);

/**
 * @returns null where it may not be read, or is written in a way that we do not know: the coordinator's answer is all there is
 * @throws {LockstepError} KAFKA_UNAVAILABLE
 */
export async function readOffsetsLog(request: OffsetsLogRequest): Promise<Record<string, CommittedOffset> | null> {
  const connection = openConnection(request.client, { uncommitted: true }); // G3: its offsets are high watermarks
  try {
    return await read(connection, request);
  } catch (error) {
    if (error instanceof LockstepError) throw error;
    if (MAY_NOT.has(errorType(error)) || isCodecMissing(error) || error instanceof RangeError) return null;
    throw unavailable(`read ${OFFSETS_TOPIC}`, error);
  } finally {
    connection.destroy();
  }
}

async function read(
  connection: Connection,
  request: OffsetsLogRequest,
): Promise<Record<string, CommittedOffset> | null> {
  const { groupId, topics, deadlineMs } = request;
  const what = `metadata of ${OFFSETS_TOPIC}`;
  await persist(connection, { what, deadlineMs }, () => connection.watch([OFFSETS_TOPIC]));
  const partition = coordinatorPartition(groupId, connection.partitions(OFFSETS_TOPIC).length);
  const { low, high } = await readOffsets(connection, OFFSETS_TOPIC, partition, deadlineMs);
  const endMs = performance.now() + ALL_MS_MAX;
  for (let back = request.backFirst ?? BACK_FIRST; ; back *= BACK_FACTOR) {
    const reaches = high - low <= back;
    const from = reaches ? low : high - back;
    const view = new OffsetsView(request);
    await scan(connection, { partition, from, high, deadlineMs, endMs }, view);
    if (reaches || topics.every((topic) => view.has(topic))) return view.committed();
  }
}

/** To the high watermark, as it is told with the first answer, or was before. @throws {LockstepError} KAFKA_UNAVAILABLE */
async function scan(
  connection: Connection,
  span: { partition: number; from: bigint; high: bigint; deadlineMs: number; endMs: number },
  view: OffsetsView,
): Promise<void> {
  const { partition, deadlineMs } = span;
  let position = span.from;
  for (let end = span.high, first = true; first || position < end; first = false) {
    const what = `read ${OFFSETS_TOPIC}/${partition} at ${position}`;
    if (performance.now() > span.endMs)
      throw unavailable(what, new Error(`not at the end, ${end}, after ${ALL_MS_MAX} ms`));
    const { responses } = await persist(connection, { what, deadlineMs }, async () => {
      const broker = await connection.broker(await leaderOf(connection, OFFSETS_TOPIC, partition));
      const wanted = { partition, fetchOffset: position.toString(), maxBytes: READ_BYTES_MAX };
      return broker.fetch({
        maxWaitTime: READ_WAIT_MS,
        minBytes: 1,
        maxBytes: READ_BYTES_MAX,
        isolationLevel: READ_UNCOMMITTED,
        topics: [{ topic: OFFSETS_TOPIC, partitions: [wanted] }],
      });
    });
    const answer = responses[0]?.partitions[0];
    if (answer === undefined) {
      await sleep(READ_WAIT_MS); // throttled: an answer without a partition
      continue;
    }
    const { highWatermark, messages } = answer;
    if (first && BigInt(highWatermark) > end) end = BigInt(highWatermark);
    // A batch comes whole, also the part of it that lies before the position.
    for (const record of messages) if (BigInt(record.offset) >= position) view.take(record);
    const last = messages.at(-1)?.batchContext;
    const next = last === undefined ? position : BigInt(last.firstOffset) + BigInt(last.lastOffsetDelta) + 1n;
    if (next > position) position = next;
    // No record, from a leader that knows of the end: batches that compaction has emptied. One that does not know of it yet soon does.
    else if (BigInt(highWatermark) >= end) position = end;
  }
}

/** Which partition holds a group: Java's hash of its name, without its sign. */
export function coordinatorPartition(groupId: string, partitions: number): number {
  let hash = 0;
  for (let i = 0; i < groupId.length; i += 1) hash = (Math.imul(hash, 31) + groupId.charCodeAt(i)) | 0;
  return (hash === -(2 ** 31) ? 0 : Math.abs(hash)) % partitions;
}

interface Written {
  /** Place in the log. */
  readonly at: bigint;
  readonly committed: CommittedOffset;
}

const NONE: CommittedOffset = { offset: null, metadata: "" };

/** What stands after the records taken so far, of one partition number of some topics in one group. */
export class OffsetsView {
  readonly #of: Pick<OffsetsLogRequest, "groupId" | "topics" | "partition">;
  readonly #standing = new Map<string, Written>();
  /** By producer id, then topic. */
  readonly #pending = new Map<string, Map<string, Written>>();

  constructor(of: Pick<OffsetsLogRequest, "groupId" | "topics" | "partition">) {
    this.#of = of;
  }

  has(topic: string): boolean {
    return this.#standing.has(topic);
  }

  committed(): Record<string, CommittedOffset> {
    return Object.fromEntries(this.#of.topics.map((topic) => [topic, this.#standing.get(topic)?.committed ?? NONE]));
  }

  take(record: WireRecord): void {
    const { producerId, inTransaction } = record.batchContext;
    if (record.isControlRecord) {
      this.#end(producerId, record.key);
      return;
    }
    const key = decodeOffsetKey(record.key);
    if (key === null || key.group !== this.#of.groupId || key.partition !== this.#of.partition) return;
    if (!this.#of.topics.includes(key.topic)) return;
    const at = BigInt(record.offset);
    if (record.value === null) {
      // Deleted: what is pending for it goes as well.
      this.#standing.set(key.topic, { at, committed: NONE });
      for (const topics of this.#pending.values()) topics.delete(key.topic);
      return;
    }
    const written = { at, committed: decodeOffsetValue(record.value) };
    if (!inTransaction) {
      this.#standing.set(key.topic, written);
      return;
    }
    const topics = this.#pending.get(producerId) ?? new Map<string, Written>();
    this.#pending.set(producerId, topics.set(key.topic, written));
  }

  #end(producerId: string, key: Buffer | null): void {
    const type = key !== null && key.length >= 4 ? key.readInt16BE(2) : null;
    if (type !== MARKER.commit && type !== MARKER.abort) return;
    const topics = this.#pending.get(producerId);
    this.#pending.delete(producerId);
    if (topics === undefined || type === MARKER.abort) return;
    for (const [topic, written] of topics) {
      const standing = this.#standing.get(topic);
      if (standing === undefined || standing.at < written.at) this.#standing.set(topic, written); // G2
    }
  }
}
