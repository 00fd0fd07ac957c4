/**
 * Reads ranges of one shard's inputs once, in order, for replay; on a connection of its own, so that no rebalance and no
 * fetch of a running shard can disturb it.
 *
 * Invariants
 *   R1  `read` returns exactly the `count` data records of [first, next), the last at next - 1, or throws: it never returns others.
 *   R2  INPUT_TRIMMED means that the log begins above `first`; INPUT_CHANGED that it holds something else than was taken.
 *
 * What one answer holds beyond the range is kept for the next call; the answer after it is asked for ahead.
 */
import type { RangeReader } from "../actors/ports.ts";
import type { InputRecord } from "../actors/record.ts";
import { assert, LockstepError } from "../errors.ts";
import type { KafkaClient } from "./client.ts";
import { openConnection } from "./connection.ts";
import type { PartitionAnswer } from "./fetch-request.ts";
import { readOffsets, readPartition } from "./partition-log.ts";

export interface RangeReaderOptions {
  readonly client: KafkaClient;
  readonly shard: number;
  /** Bytes of one answer, default 4 MiB: replay wants few round trips. */
  readonly maxBytes?: number;
  /** How long failures that can pass are retried, default 30,000. */
  readonly deadlineMs?: number;
  /** How long to wait for a log that ends below the range, as after a leader's failover, default 5,000. */
  readonly endWaitMs?: number;
}

interface Cursor {
  /** Records read and not yet given out, ascending. */
  buffered: InputRecord[];
  /** Everything below is in `buffered`, given out, or skipped. */
  position: bigint;
  /** Greatest `next` given out: calls ascend. */
  given: bigint;
  ahead: Promise<PartitionAnswer | null> | null;
}

const READ_WAIT_MS = 100;

export function createRangeReader(options: RangeReaderOptions): RangeReader {
  const connection = openConnection(options.client);
  const partition = options.shard;
  const maxBytes = options.maxBytes ?? 4 * 1_048_576;
  const deadlineMs = options.deadlineMs ?? 30_000;
  const endWaitMs = options.endWaitMs ?? 5_000;
  const cursors = new Map<string, Cursor>();

  return {
    async read(topic, first, next, count) {
      assert(first < next && count > 0, `a run of ${topic} is empty: [${first}, ${next}), ${count} records`);
      const cursor = cursorAt(topic, first);
      await readUpTo(topic, cursor, first, next);
      const taken = takeBelow(cursor, next);
      const last = taken.at(-1)?.offset;
      if (taken.length !== count || last !== next - 1n) {
        throw new LockstepError(
          "INPUT_CHANGED",
          `${topic}/${partition} held ${count} records in [${first}, ${next}) when they were taken, and holds ${taken.length} now: ` +
            "the topic was recreated, compacted or truncated.",
          { details: { topic, partition, first, next, count, found: taken.length, last } },
        );
      }
      readAhead(topic, cursor);
      return taken;
    },
    async close() {
      connection.destroy();
      // What was asked for ahead fails now, and nobody wants it any more.
      await Promise.allSettled([...cursors.values()].map((cursor) => cursor.ahead));
    },
  };

  function cursorAt(topic: string, first: bigint): Cursor {
    let cursor = cursors.get(topic);
    if (cursor === undefined) {
      cursor = { buffered: [], position: first, given: first, ahead: null };
      cursors.set(topic, cursor);
    }
    assert(first >= cursor.given, `runs of ${topic} ascend: ${first} after ${cursor.given}`);
    if (first > cursor.position) {
      cursor.position = first;
      cursor.ahead = null;
    }
    takeBelow(cursor, first);
    return cursor;
  }

  async function readUpTo(topic: string, cursor: Cursor, first: bigint, next: bigint): Promise<void> {
    const endMs = performance.now() + endWaitMs;
    while (cursor.position < next) {
      const answer = await (cursor.ahead ?? readAt(topic, cursor.position));
      cursor.ahead = null;
      if (answer === null) await refuseWhenTrimmed(topic, cursor.position, first, next);
      else {
        cursor.buffered = cursor.buffered.concat(answer.records);
        cursor.position = answer.nextOffset;
      }
      if (cursor.position < next && (answer === null || answer.nextOffset >= answer.lastStableOffset)) {
        if (performance.now() > endMs) await refuseShort(topic, first, next);
      }
    }
    cursor.given = next;
  }

  function readAhead(topic: string, cursor: Cursor): void {
    if (cursor.buffered.length > 0 || cursor.ahead !== null) return;
    cursor.ahead = readAt(topic, cursor.position);
    // Whoever needs it awaits it; until then its failure is nobody's.
    cursor.ahead.catch(() => undefined);
  }

  function readAt(topic: string, position: bigint): Promise<PartitionAnswer | null> {
    return readPartition(connection, { topic, partition, position }, { maxBytes, maxWaitMs: READ_WAIT_MS, deadlineMs });
  }

  async function refuseWhenTrimmed(topic: string, position: bigint, first: bigint, next: bigint): Promise<void> {
    const { low } = await readOffsets(connection, topic, partition, deadlineMs);
    if (low <= position) return;
    throw new LockstepError(
      "INPUT_TRIMMED",
      `${topic}/${partition} begins at ${low}; replay needs [${first}, ${next}). Retention removed it before a snapshot covered it.`,
      { details: { topic, partition, first, next, low } },
    );
  }

  async function refuseShort(topic: string, first: bigint, next: bigint): Promise<void> {
    const { high } = await readOffsets(connection, topic, partition, deadlineMs);
    if (high >= next) return;
    throw new LockstepError(
      "INPUT_CHANGED",
      `${topic}/${partition} ends at ${high}; replay needs [${first}, ${next}): the topic was recreated or truncated.`,
      { details: { topic, partition, first, next, high } },
    );
  }
}

/** Removes and returns the buffered records below an offset. */
function takeBelow(cursor: Cursor, offset: bigint): InputRecord[] {
  const end = cursor.buffered.findIndex((record) => record.offset >= offset);
  return cursor.buffered.splice(0, end === -1 ? cursor.buffered.length : end);
}
