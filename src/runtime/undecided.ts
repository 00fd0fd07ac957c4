/**
 * A commit whose COMMIT was never answered: was it made? For the counts alone (CM1); state is settled by restore.ts, from the row.
 *
 * The journal tells: the row of its seq carries the token it was made under. That it is there is final. That it is not is final once a later
 * F1 stands, because F1 waits for a commit that is under way, and the guard refuses one that comes after. So it is asked
 *
 *   acquired  after each acquire of this worker: then it is known
 *   leaving   when the shard is given up: what is there is counted, and what is not stays open until the shard comes back
 *
 * What is never asked again, because the process ends or the worker dies, is not counted: docs/metrics.md, "What is counted".
 */
import { isLockstepError } from "../errors.ts";
import type { ShardContext } from "./shard-context.ts";

/** @throws {LockstepError} STORE_UNAVAILABLE */
export async function decideAcquired(context: ShardContext): Promise<void> {
  if (context.meter.undecided === null) return;
  if (await isInJournal(context, context.meter.undecided)) context.meter.committed();
  else context.meter.undone();
}

/** Asked once: a shard is not held back for a count. */
export async function decideLeaving(context: ShardContext): Promise<void> {
  if (context.meter.undecided === null) return;
  try {
    if (await isInJournal(context, context.meter.undecided)) context.meter.committed();
  } catch (error) {
    if (!isLockstepError(error)) throw error;
    context.log.notCounted(error);
  }
}

async function isInJournal(context: ShardContext, commit: { seq: number; token: string }): Promise<boolean> {
  const { seq, token } = commit;
  const [row] = await context.store.readJournal(context.shard, { after: seq - 1, upTo: seq, limit: 1 });
  return row?.token === token;
}
