/**
 * The loop of a running shard. Written as the list it is:
 *
 *   1. take      a batch from the queues, as much as the maxima allow: backlog makes batches bigger
 *   2. flow      resume inputs whose queues have drained
 *   3. commit    fold, Postgres, Kafka (commit.ts)
 *   4. snapshot  when due, beside the loop
 *   5. rest      nothing to take: tick, confirm alone, look at the row; then wait for records, the next deadline or a stop
 *
 * It ends when it is told to stop (drained: nothing in flight), or by an error whose remedy says what follows.
 *
 * Invariants
 *   L1  While a Kafka transaction is open nothing is waited for but Kafka.
 *   L2  Items whose commit found Postgres unavailable are taken again, in the same order, before anything else.
 *   L3  A tick moves stream time by monotonic time since the last record taken, never to the wall clock.
 */
import type { InputQueues } from "../actors/take.ts";
import type { Clock } from "../clock.ts";
import { hasCode, isLockstepError, LockstepError } from "../errors.ts";
import type { Care } from "./care.ts";
import { type Item, rest, type Standing } from "./commit.ts";
import type { ShardContext } from "./shard-context.ts";
import { inputTopics } from "./shard-context.ts";
import type { Snapshotter } from "./snapshotter.ts";

const RETRY_MS_MIN = 50;
const RETRY_MS_MAX = 5_000;

/** Wakes the loop: something arrived, or someone wants it to stop. */
export interface Wake {
  wait(ms: number): Promise<void>;
  ring(): void;
}

/** A wait begins where `ring` was not called since the last one; it ends by a ring, or on the clock. */
export function createWake(clock: Clock): Wake {
  let rung = false;
  let release: (() => void) | null = null;
  return {
    async wait(ms) {
      if (!rung) {
        const early = new AbortController();
        release = () => early.abort("rung"); // a reason of its own spares an error with a stack
        await clock.sleep(ms, early.signal);
        release = null;
      }
      rung = false;
    },
    ring() {
      rung = true;
      release?.();
    },
  };
}

export interface RunLoop {
  readonly queues: InputQueues;
  readonly wake: Wake;
  /** Aborts when the shard is to be drained. */
  readonly signal: AbortSignal;
  readonly snapshotter: Snapshotter;
  readonly care: Care;
  /** Set by the fetcher's sink when the log no longer fits the position. */
  readonly broken: () => LockstepError | null;
}

/** Runs until the signal aborts. @throws {LockstepError} every other end */
export async function runLoop(context: ShardContext, standing: Standing, loop: RunLoop): Promise<void> {
  const { clock, settings } = context;
  let pending: readonly Item[] = [];
  let retryMs = RETRY_MS_MIN;
  let lastTakenMs = clock.monotonicMs();
  let lastWriteMs = lastTakenMs;
  let timeAtLastTaken = standing.model.streamTimeMs;

  while (!loop.signal.aborted) {
    const broken = loop.broken();
    if (broken) throw broken;

    if (pending.length === 0) {
      pending = takeBatch(context, loop.queues);
      resumeDrained(context, loop.queues); // not after the commit: what is taken next is fetched meanwhile
    }
    if (pending.length === 0) pending = tick(context, standing, loop.queues, { lastTakenMs, timeAtLastTaken });

    if (pending.length > 0) {
      try {
        await context.hook("take.before");
        await loop.care.commit(standing, pending, loop.signal);
      } catch (error) {
        if (!hasCode(error, "STORE_UNAVAILABLE")) throw error;
        pending = rest(standing, pending);
        context.log.retrying(error as LockstepError, retryMs);
        await clock.sleep(retryMs, loop.signal); // L2
        retryMs = Math.min(retryMs * 2, RETRY_MS_MAX);
        continue;
      }
      retryMs = RETRY_MS_MIN;
      lastWriteMs = clock.monotonicMs();
      if (pending.some((item) => item.kind === "record")) {
        lastTakenMs = lastWriteMs;
        timeAtLastTaken = standing.model.streamTimeMs;
      }
      loop.snapshotter.committed(pending.length);
      await loop.snapshotter.step(standing);
      pending = [];
      continue;
    }

    const now = clock.monotonicMs();
    if (standing.confirmedStored < standing.confirmed && now - lastWriteMs >= settings.confirmIdleMs) {
      const done = await whenStoreAnswers(context, loop, () =>
        context.store.confirm(standing.ownership, standing.seq, standing.confirmed),
      );
      if (done) standing.confirmedStored = standing.confirmed;
      lastWriteMs = clock.monotonicMs();
    } else if (now - lastWriteMs >= settings.ownerCheckMs) {
      await whenStoreAnswers(context, loop, () => checkOwner(context, standing));
      lastWriteMs = clock.monotonicMs();
    }
    await loop.snapshotter.step(standing);
    const next = loop.queues.next(clock.monotonicMs());
    if (next.kind === "take") continue;
    const untilMs =
      next.kind === "wait" && next.untilMs !== null ? next.untilMs - clock.monotonicMs() : Number.POSITIVE_INFINITY;
    await loop.wake.wait(Math.max(1, Math.min(untilMs, settings.idleMs, settings.confirmIdleMs)));
  }
}

/** Takes what the rule of the queues allows, up to the maxima of one commit. */
function takeBatch(context: ShardContext, queues: InputQueues): Item[] {
  const { settings, clock } = context;
  const items: Item[] = [];
  const now = clock.monotonicMs();
  let bytes = 0;
  while (items.length < settings.batchRecordsMax && bytes < settings.batchBytesMax) {
    const next = queues.next(now);
    if (next.kind !== "take") break;
    if (next.forced) context.log.waitedForInput({ ms: settings.inputWaitMsMax });
    const judged = queues.take(next.topic, now);
    bytes += judged.bytes;
    items.push({ kind: "record", judged });
  }
  return items;
}

/** A tick, when all inputs have been caught up for `idleMs` and a timer has become due meanwhile. */
function tick(
  context: ShardContext,
  standing: Standing,
  queues: InputQueues,
  since: { lastTakenMs: number; timeAtLastTaken: number },
): Item[] {
  const { settings, clock } = context;
  const now = clock.monotonicMs();
  const due = standing.model.nextDueMs;
  if (due === null || now - since.lastTakenMs < settings.idleMs || !queues.caughtUp(now, settings.idleMs)) return [];
  const streamTimeMs = since.timeAtLastTaken + Math.floor(now - since.lastTakenMs); // L3
  if (streamTimeMs < due) return [];
  return [{ kind: "tick", streamTimeMs, timersMax: settings.timersPerCommit }];
}

async function checkOwner(context: ShardContext, standing: Standing): Promise<void> {
  const row = await context.store.readShard(context.shard);
  const { token } = standing.ownership;
  if (row.token !== token)
    throw new LockstepError("SHARD_LOST", `Shard ${context.shard}: another owner has it (epoch ${row.epoch}).`, {
      details: { shard: context.shard },
    });
  if (row.seq !== standing.seq) {
    throw new LockstepError(
      "STORE_WENT_BACK",
      `Shard ${context.shard}: Postgres has commit ${row.seq}, this owner made ${standing.seq}.`,
      {
        details: { shard: context.shard, seq: row.seq, was: standing.seq },
      },
    );
  }
}

/** Idle writes meet an unavailable store as "later". @returns false when the shard is to stop and it was not done */
async function whenStoreAnswers(context: ShardContext, loop: RunLoop, act: () => Promise<void>): Promise<boolean> {
  let retryMs = RETRY_MS_MIN;
  while (!loop.signal.aborted) {
    try {
      await act();
      return true;
    } catch (error) {
      if (!isLockstepError(error) || error.remedy !== "retry") throw error;
      context.log.retrying(error, retryMs);
      await context.clock.sleep(retryMs, loop.signal);
      retryMs = Math.min(retryMs * 2, RETRY_MS_MAX);
    }
  }
  return false;
}

function resumeDrained(context: ShardContext, queues: InputQueues): void {
  const now = context.clock.monotonicMs();
  for (const topic of inputTopics(context))
    if (queues.resumable(topic, now)) context.fetcher.resume(context.shard, topic);
}
