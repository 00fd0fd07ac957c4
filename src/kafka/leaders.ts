/**
 * Who leads the partitions that a fetcher wants: metadata is read again when asked, and on and on while a leader is missing.
 *
 * Nothing here rejects, and nobody has to wait for the search: what has a leader is fetched meanwhile.
 */
import { setTimeout as sleep } from "node:timers/promises";

import type { Connection } from "./connection.ts";
import { BACKOFF_FIRST_MS, BACKOFF_MAX_MS } from "./connection.ts";
import { unavailable } from "./wire-errors.ts";

export interface Leaders {
  /** Reads the metadata once, or joins the reading under way. Resolves also when that failed, which was reported then. */
  refresh(): Promise<void>;
  /** Refreshes, with back-off, until nothing wanted is leaderless. Returns at once; at most one search is under way. */
  search(): void;
  /** After the signal: resolves when nothing is under way. */
  settled(): Promise<void>;
}

export interface LeadersOptions {
  readonly connection: Connection;
  readonly topics: readonly string[];
  readonly signal: AbortSignal;
  /** "topic/partition" of what is wanted and has no leader. */
  readonly leaderless: () => string[];
  /** After each reading: some leaders may be known now. */
  readonly onRefreshed: () => void;
  readonly report: (error: unknown, what: string) => void;
}

/** So many partitions are named in one message. */
const NAMED_MAX = 10;

export function createLeaders(options: LeadersOptions): Leaders {
  const { connection, topics, signal, leaderless, onRefreshed, report } = options;
  let watched = false;
  let refreshing: Promise<boolean> | null = null;
  let searching: Promise<void> | null = null;

  async function refresh(): Promise<boolean> {
    // A connection that was cut opens itself again when it is asked.
    if (signal.aborted) return false;
    refreshing ??= read();
    return refreshing;
  }

  async function read(): Promise<boolean> {
    let succeeded = false;
    try {
      if (watched) await connection.refresh();
      else await connection.watch(topics);
      watched = true;
      succeeded = true;
    } catch (error) {
      report(error, `metadata of ${topics.join(", ")}`);
    }
    refreshing = null;
    onRefreshed();
    return succeeded;
  }

  async function run(): Promise<void> {
    let backoffMs = BACKOFF_FIRST_MS;
    while (!signal.aborted) {
      const succeeded = await refresh();
      const missing = leaderless();
      if (missing.length === 0) break;
      if (succeeded) report(leaderMissing(missing), "");
      await pauseFor(backoffMs, signal);
      backoffMs = Math.min(backoffMs * 2, BACKOFF_MAX_MS);
    }
    searching = null;
  }

  return {
    async refresh() {
      await refresh();
    },
    search() {
      searching ??= run();
    },
    async settled() {
      await Promise.all([refreshing, searching]);
    },
  };
}

function leaderMissing(partitions: readonly string[]): Error {
  const named = partitions.slice(0, NAMED_MAX).join(", ");
  const more = partitions.length > NAMED_MAX ? ` and ${partitions.length - NAMED_MAX} more` : "";
  const cause = Object.assign(new Error("no leader is known"), { type: "LEADER_NOT_AVAILABLE" });
  return unavailable(`fetch ${named}${more}`, cause, { partitions: [...partitions] });
}

/** Ends early, and without an error, when the signal comes: every caller looks at it next. */
export async function pauseFor(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => undefined);
}
