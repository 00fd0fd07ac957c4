/**
 * Deletes rows that are old and published, a page at a time, from within the holder's loop.
 *
 * Invariant
 *   RI9  A row is deleted only when E has reached a place in the log that was read after the row was seen: it was committed
 *        below that, so it is published. docs/relay.md, "Pruning".
 */
import type { Clock } from "../clock.ts";
import type { Log } from "../log.ts";
import type { LockSession } from "../storage/relay-lock.ts";
import { type PruneCandidates, pruneCandidates, pruneRows } from "../storage/relay-store.ts";
import type { RelayObserver } from "./status.ts";

const EVERY_MS_MAX = 3_600_000;
const EVERY_MS_MIN = 1_000;

export interface Pruner {
  /** @param position E as it stands in Kafka */
  run(position: bigint): Promise<void>;
}

export function createPruner(options: {
  lock: LockSession;
  table: string;
  /** 0: nothing is ever deleted. */
  keepMs: number;
  clock: Clock;
  observer: RelayObserver;
  log: Log;
}): Pruner {
  const { lock, table, keepMs, clock, observer, log } = options;
  const everyMs = Math.min(EVERY_MS_MAX, Math.max(EVERY_MS_MIN, keepMs / 10));
  let nextMs = clock.monotonicMs() + Math.min(everyMs, 60_000);
  let waiting: PruneCandidates | null = null;
  return {
    async run(position) {
      if (keepMs === 0) return;
      if (waiting === null) {
        if (clock.monotonicMs() < nextMs) return;
        const found = await pruneCandidates(lock.query, table, new Date(clock.wallMs() - keepMs));
        if (found.ids.length > 0) waiting = found;
        else nextMs = clock.monotonicMs() + everyMs;
      }
      if (waiting === null || position < waiting.endLsn) return;
      const deleted = await pruneRows(lock.query, table, waiting.ids);
      waiting = null; // there may be more: the next run looks
      observer.count("pruned", deleted);
      log.info({ event: "relay-pruned", rows: deleted, table }, "published rows were pruned");
    },
  };
}
