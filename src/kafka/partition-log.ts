/**
 * Reads one partition at a time, on request, with retries: what replay and audit are built on.
 */
import { setTimeout as sleep } from "node:timers/promises";

import { decodingFault } from "./codecs.ts";
import type { Connection } from "./connection.ts";
import { persist } from "./connection.ts";
import type { PartitionAnswer, PartitionPosition } from "./fetch-request.ts";
import { fetchPositions } from "./fetch-request.ts";
import { lastingFault, nextFailure, type PartitionFailure } from "./partition-failure.ts";
import { errorType } from "./wire-errors.ts";

export interface ReadOptions {
  readonly maxBytes: number;
  readonly maxWaitMs: number;
  /** Failures that can pass are retried for so long. */
  readonly deadlineMs: number;
}

/**
 * One answer from `position` on.
 * @returns null when the log does not have the position any more, or not yet: the caller asks for its offsets
 * @throws {LockstepError} KAFKA_UNAVAILABLE, or KAFKA_UNSUITABLE when the records cannot be decoded
 */
export async function readPartition(
  connection: Connection,
  position: PartitionPosition,
  options: ReadOptions,
): Promise<PartitionAnswer | null> {
  const { topic, partition } = position;
  const what = `read ${topic}/${partition} at ${position.position}`;
  const endMs = performance.now() + options.deadlineMs;
  let failure: PartitionFailure | null = null;
  for (;;) {
    try {
      return await persist(connection, { what, deadlineMs: options.deadlineMs }, async () => {
        const nodeId = await leaderOf(connection, topic, partition);
        const [answer] = await fetchPositions(await connection.broker(nodeId), [position], {
          maxBytesPerPartition: options.maxBytes,
          maxWaitMs: options.maxWaitMs,
        });
        return answer!;
      });
    } catch (error) {
      if (errorType(error) === "OFFSET_OUT_OF_RANGE") return null;
      const fault = decodingFault(topic, partition, error);
      if (fault === null) throw error;
      failure = nextFailure(failure, error);
      const lasts = lastingFault(topic, partition, failure) !== null;
      if (lasts || connection.destroyed || performance.now() > endMs) throw fault;
      await sleep(failure.backoffMs);
    }
  }
}

/** @throws {LockstepError} KAFKA_UNAVAILABLE */
export async function readOffsets(
  connection: Connection,
  topic: string,
  partition: number,
  deadlineMs: number,
): Promise<{ low: bigint; high: bigint }> {
  return persist(connection, { what: `offsets of ${topic}/${partition}`, deadlineMs }, async () => {
    await leaderOf(connection, topic, partition);
    const offsets = (await connection.offsets(topic, [partition])).get(partition);
    if (offsets === undefined) throw leaderMissing(topic, partition);
    return offsets;
  });
}

/** @throws kafkajs' error, or one that can pass: there is no leader now */
export async function leaderOf(connection: Connection, topic: string, partition: number): Promise<number> {
  await connection.watch([topic]);
  const nodeId = connection.leader(topic, partition);
  if (nodeId === null) throw leaderMissing(topic, partition);
  return nodeId;
}

/** In kafkajs' shape, so that `persist` takes it for what it is: a failure that can pass. */
function leaderMissing(topic: string, partition: number): Error {
  return Object.assign(new Error(`${topic}/${partition} has no leader`), { type: "LEADER_NOT_AVAILABLE" });
}
