/**
 * Deletes rows that are old and published, a page at a time, beside the holder's loop and on a connection of its own: neither records nor
 * heartbeats wait for it.
 *
 * Invariant
 *   RI9  A row is deleted only when E has reached a place in the log that was read after the row was seen: it was committed
 *        below that, so it is published. docs/relay.md, "Pruning". That holds for who has lost the lock as well: E never falls.
 */
import type { Clock } from "../clock.ts";
import { isLockstepError } from "../errors.ts";
import type { Log } from "../log.ts";
import { type Ask, type PruneCandidates, pruneCandidates, pruneRows } from "../storage/relay-store.ts";
import type { RelayObserver } from "./status.ts";

const EVERY_MS_MAX = 3_600_000;
const EVERY_MS_MIN = 1_000;

export interface Pruner {
  /** Begins the next step, when it is time and none is under way. @param position E as it stands in Kafka */
  run(position: bigint): void;
  /** Until no step is under way. */
  settled(): Promise<void>;
}

export function createPruner(options: {
  ask: Ask;
  table: string;
  /** 0: nothing is ever deleted. */
  keepMs: number;
  clock: Clock;
  observer: Pick<RelayObserver, "count">;
  log: Log;
}): Pruner {
  const { ask, table, keepMs, clock, observer, log } = options;
  const everyMs = Math.min(EVERY_MS_MAX, Math.max(EVERY_MS_MIN, keepMs / 10));
  let nextMs = clock.monotonicMs() + Math.min(everyMs, 60_000);
  let waiting: PruneCandidates | null = null;
  let under: Promise<void> | null = null;

  async function look(): Promise<void> {
    const found = await pruneCandidates(ask, table, new Date(clock.wallMs() - keepMs));
    if (found.ids.length > 0) waiting = found;
    else nextMs = clock.monotonicMs() + everyMs;
  }

  async function remove({ ids }: PruneCandidates): Promise<void> {
    const deleted = await pruneRows(ask, table, ids);
    observer.count("pruned", deleted);
    log.info({ event: "relay-pruned", rows: deleted, table }, "published rows were pruned");
  }

  function begin(step: Promise<void>): void {
    under = step
      .catch((error: unknown) => {
        // Slow, or locked by somebody: the rows are there in the next round too.
        if (!isLockstepError(error)) throw error;
        nextMs = clock.monotonicMs() + everyMs;
        log.warn(
          { event: "relay-prune-failed", err: error, inMs: everyMs },
          "rows were not pruned; trying again later",
        );
      })
      .finally(() => {
        under = null;
      });
    under.catch(() => {}); // `settled` hears of it
  }

  return {
    run(position) {
      if (keepMs === 0 || under !== null) return;
      if (waiting === null) {
        if (clock.monotonicMs() >= nextMs) begin(look());
      } else if (position >= waiting.endLsn) {
        const candidates = waiting;
        waiting = null; // there may be more: the next run looks
        begin(remove(candidates));
      }
    },
    async settled() {
      await under;
    },
  };
}
