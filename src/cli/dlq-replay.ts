/**
 * What a replay sends, and what it leaves out: a letter that may stand on its input again already is not sent a second time.
 *
 * Invariants
 *   R1  "not sent before" is said only where it is certain. An earlier replay of a letter was appended to the partition of the letter's
 *       record, above that record. It was acknowledged, so it is below the high watermark as first read. What is between the two is
 *       read; what of it cannot be read makes the letter be left out:
 *       - retention removed it: afterwards, the log begins above the first offset that a replay can have. A replay keeps its old
 *         timestamp, so its own turn can come early;
 *       - the record itself is not below the high watermark: this is another log than the one that the letter came from;
 *       - it is behind an open transaction of someone else, whose end readers of committed data wait for, as we do for a moment.
 *   R2  It goes to no topic but the input that the dead letters are of, and to no partition that is not there.
 */
import { setTimeout as sleep } from "node:timers/promises";

import type { App } from "../actors/app.ts";
import type { OutputRecord } from "../actors/record.ts";
import type { KafkaClient } from "../kafka/client.ts";
import { readTopic, topicEnds, topicOffsets } from "../kafka/read-topic.ts";
import { REPLAY_HEADER } from "../kafka/resend.ts";
import { type Letter, replayOf, textOf } from "./dlq-letters.ts";

export interface ReplayPlan {
  readonly letter: Letter;
  /** What is sent; null: it is left out. */
  readonly record: OutputRecord | null;
  /** Why it is left out. */
  readonly skipped: string | null;
  /** Left out now, and not for good: the same can be asked for again in a while. */
  readonly later: boolean;
}

export interface PlanOptions {
  readonly client: KafkaClient;
  readonly app: Pick<App, "name" | "inputs">;
  /** Also those that were sent before. */
  readonly again: boolean;
  /** Also those of which it cannot be told whether they were sent before. */
  readonly inDoubt: boolean;
  /** How long the end of open transactions is waited for, default 10,000. */
  readonly waitMs?: number;
}

/** What is known of an earlier replay of a letter. */
type Before = "none" | "stands" | "in-doubt" | "open-transaction";

const POLL_MS = 200;

/** @throws {LockstepError} KAFKA_UNAVAILABLE; INPUT_TRIMMED when retention overtook the reader */
export async function planReplays(letters: readonly Letter[], options: PlanOptions): Promise<ReplayPlan[]> {
  const replays = letters.map((letter) => ({ letter, replay: replayOf(letter, options) }));
  const plans = new Map<Letter, ReplayPlan>();
  const byTopic = new Map<string, { letter: Letter; record: OutputRecord }[]>();
  for (const { letter, replay } of replays) {
    if ("reason" in replay) plans.set(letter, leftOut(letter, replay.reason));
    else byTopic.set(replay.topic, [...(byTopic.get(replay.topic) ?? []), { letter, record: replay }]);
  }
  for (const [topic, candidates] of byTopic) {
    const acknowledged = await topicOffsets(options.client, topic, { uncommitted: true });
    const placed = candidates.filter(({ record }) => acknowledged.has(record.partition));
    const before = options.again ? null : await replayedBefore(options, { topic, acknowledged, letters: placed });
    for (const { letter, record } of candidates) {
      const plan = acknowledged.has(record.partition)
        ? planOf(letter, record, before?.get(letter) ?? "none", options)
        : leftOut(letter, `${topic} has no partition ${record.partition}`);
      plans.set(letter, plan);
    }
  }
  return letters.map((letter) => plans.get(letter)!); // each letter has one
}

function planOf(letter: Letter, record: OutputRecord, before: Before, { inDoubt }: PlanOptions): ReplayPlan {
  const place = `${record.topic}/${record.partition}`;
  switch (before) {
    case "stands":
      return leftOut(letter, "it stands on its input again already (--again sends it once more)");
    case "open-transaction":
      return {
        ...leftOut(letter, `a transaction is open on ${place}, behind which it may stand already: try again later`),
        later: true,
      };
    case "in-doubt":
      if (!inDoubt)
        return leftOut(
          letter,
          `it cannot be told whether it was sent before: ${place} has lost records since (--in-doubt sends it)`,
        );
  }
  return { letter, record, skipped: null, later: false };
}

function leftOut(letter: Letter, skipped: string): ReplayPlan {
  return { letter, record: null, skipped, later: false };
}

/** R1. @param of letters of one input, and its offsets as first read, with the high watermarks */
async function replayedBefore(
  { client, waitMs = 10_000 }: PlanOptions,
  of: {
    topic: string;
    acknowledged: ReadonlyMap<number, { high: bigint }>;
    letters: readonly { letter: Letter }[];
  },
): Promise<Map<Letter, Before>> {
  const { topic, acknowledged } = of;
  const sources = of.letters.map(({ letter }) => ({ letter, ...letter.source! })); // what is sent has one: `replayOf`
  const from = new Map<number, bigint>();
  for (const { partition, offset } of sources) {
    const lowest = from.get(partition);
    if (lowest === undefined || offset < lowest) from.set(partition, offset);
  }
  const partitions = [...from.keys()];
  const open = await openTransactions(client, { topic, partitions, acknowledged, waitMs });
  const stands = new Set<string>();
  for await (const { headers } of readTopic({ client, topic, partitions, from })) {
    const place = textOf(headers, REPLAY_HEADER);
    if (place !== null) stands.add(place);
  }
  // Read last: what was removed before or while we read shows now.
  const bounds = await topicOffsets(client, topic);
  return new Map(
    sources.map(({ letter, partition, offset }): [Letter, Before] => {
      if (stands.has(letter.place)) return [letter, "stands"];
      if (bounds.get(partition)!.low > offset + 1n || offset >= acknowledged.get(partition)!.high)
        return [letter, "in-doubt"];
      return [letter, open.has(partition) ? "open-transaction" : "none"];
    }),
  );
}

/** @returns partitions where committed data does not reach up to what was acknowledged, though it was waited for */
async function openTransactions(
  client: KafkaClient,
  wait: {
    topic: string;
    partitions: readonly number[];
    acknowledged: ReadonlyMap<number, { high: bigint }>;
    waitMs: number;
  },
): Promise<Set<number>> {
  const endMs = performance.now() + wait.waitMs;
  for (;;) {
    const ends = await topicEnds(client, wait.topic);
    const open = wait.partitions.filter((partition) => ends.get(partition)! < wait.acknowledged.get(partition)!.high);
    if (open.length === 0 || performance.now() > endMs) return new Set(open);
    await sleep(POLL_MS);
  }
}
