/**
 * Is the input still the log that was read? Checked on every acquire, before anything is replayed or taken.
 *
 *   - It is the cluster that the instance was made with (INPUT_CHANGED).
 *   - The low watermark has not passed a position: records that were never taken would be gone (INPUT_TRIMMED).
 *   - The end has not fallen below a position: the topic was truncated or recreated (INPUT_CHANGED).
 *   - The last run before P still has its checksum, where it can be read: an equal length does not prove an equal log (INPUT_CHANGED).
 */
import { runChecksum } from "../actors/crc32c.ts";
import type { Run } from "../actors/journal.ts";
import type { JournalRow, ShardRow } from "../actors/ports.ts";
import type { Positions } from "../actors/record.ts";
import { LockstepError } from "../errors.ts";
import { inputTopics, type ShardContext } from "./shard-context.ts";

export async function checkLog(
  context: ShardContext,
  found: {
    row: ShardRow & { positions: Positions };
    watermarks: Record<string, { low: bigint; high: bigint }>;
    lastJournalRow: JournalRow | null;
  },
): Promise<void> {
  const { shard } = context;
  for (const topic of inputTopics(context)) {
    const position = found.row.positions[topic];
    const marks = found.watermarks[topic];
    if (position === undefined || marks === undefined) {
      throw new LockstepError("INPUT_CHANGED", `Shard ${shard}: input ${topic} has no position or no log.`, {
        details: { shard, topic },
      });
    }
    if (marks.low > position) {
      throw new LockstepError(
        "INPUT_TRIMMED",
        `Shard ${shard}: ${topic} begins at offset ${marks.low}, but ${position} is the next to take: ${marks.low - position} offsets were deleted before they were taken.`,
        { details: { shard, topic, position: String(position), low: String(marks.low) } },
      );
    }
    if (marks.high < position) {
      throw new LockstepError(
        "INPUT_CHANGED",
        `Shard ${shard}: ${topic} ends at offset ${marks.high}, below ${position}, the next to take: it was truncated or made anew.`,
        { details: { shard, topic, position: String(position), high: String(marks.high) } },
      );
    }
  }
  const last = found.lastJournalRow;
  if (!last || last.seq !== found.row.seq) return;
  const run = last.journal.entries.findLast((entry): entry is Run => entry.kind === "run");
  if (!run || run.first < found.watermarks[run.topic]!.low) return;
  const reader = context.openReader();
  try {
    const records = await reader.read(run.topic, run.first, run.next, run.count);
    if (runChecksum(records) !== run.crc) throw inputChanged(shard, run);
  } finally {
    await reader.close();
  }
}

/** Positions mean nothing in another cluster, and one that has no offsets of the group would look like one where they expired. */
export function checkCluster({ shard, clusterId }: ShardContext, found: string): void {
  if (found === clusterId) return;
  throw new LockstepError(
    "INPUT_CHANGED",
    `Shard ${shard}: the brokers answer as cluster ${found}, the instance was made with ${clusterId}: their addresses lead elsewhere now.`,
    { details: { shard, cluster: found, recorded: clusterId } },
  );
}

/** A partition count that changed moves keys to other shards: order and state of a key would be torn apart. */
export function checkPartitions(context: ShardContext, counts: Readonly<Record<string, number>>): void {
  for (const topic of inputTopics(context)) {
    if (counts[topic] === context.shardCount) continue;
    throw new LockstepError(
      "INPUT_CHANGED",
      `Shard ${context.shard}: ${topic} has ${counts[topic] ?? 0} partitions, the instance was made with ${context.shardCount}: keys have moved to other shards.`,
      { details: { shard: context.shard, topic, partitions: counts[topic] ?? 0, recorded: context.shardCount } },
    );
  }
}

export function inputChanged(shard: number, run: Run): LockstepError {
  return new LockstepError(
    "INPUT_CHANGED",
    `Shard ${shard}: offsets ${run.first}..${run.next - 1n} of ${run.topic} are not the records that were taken: the checksum differs.`,
    { details: { shard, topic: run.topic, first: String(run.first), next: String(run.next) } },
  );
}
