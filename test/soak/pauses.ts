/**
 * How long a key had to wait: for every decision, the wall time from when the broker had acknowledged the signal that caused it until a
 * read_committed reader, which is not part of the deployment, received it. The longest of all is the longest pause of a key.
 *
 * While the broker is down nothing is acknowledged: its outage counts for the signals that were waiting when it went, not for those that
 * could not be sent. A decision that is read before the acknowledgement of its signal has arrived had no pause.
 */
import { build, type Histogram } from "hdr-histogram-js";

import type { GeneratedRecord } from "../../src/cli/app-tools.ts";
import { systemClock } from "../../src/clock.ts";
import { createKafkaClient } from "../../src/kafka/client.ts";
import { openConnection } from "../../src/kafka/connection.ts";
import { createFetcher } from "../../src/kafka/fetcher.ts";
import { describeTopics } from "../../src/kafka/topics.ts";

const POLL_MS = 50;

export interface Pause {
  readonly ms: number;
  readonly key: string;
  /** Of both ends, ms of `performance.now()`. */
  readonly fromMs: number;
  readonly toMs: number;
}

export interface PauseWatch {
  /** To be called when the broker has all of them. */
  arrived(batch: readonly GeneratedRecord[]): void;
  readonly decisions: number;
  readonly longest: Pause | null;
  /** ms; null before the first decision */
  percentiles(): { p50: number; p99: number } | null;
  /** Resolves when so many decisions were read, or after `waitMs`. */
  until(decisions: number, waitMs: number): Promise<void>;
  close(): Promise<void>;
}

export async function watchPauses(options: { brokers: readonly string[]; topic: string }): Promise<PauseWatch> {
  const client = createKafkaClient({ brokers: options.brokers, clientId: "lockstep-soak-pauses" });
  const { partitions } = (await describeTopics(client, [options.topic])).get(options.topic)!;
  const waiting = createWaiting();
  const histogram: Histogram = build({ lowestDiscernibleValue: 1, highestTrackableValue: 3_600_000 });
  let decisions = 0;
  let longest: Pause | null = null;
  const fetcher = createFetcher({
    connection: openConnection(client),
    topics: [options.topic],
    onError: () => {}, // It tries again; a decision that is never read is one too few when the audit has counted them.
  });
  for (let partition = 0; partition < partitions; partition += 1) {
    fetcher.open(
      partition,
      { [options.topic]: 0n },
      {
        onFetched: ({ records }) => {
          const toMs = performance.now();
          for (const { key, timestampMs } of records) {
            decisions += 1;
            const fromMs = waiting.take(key?.toString() ?? "", Number(timestampMs)) ?? toMs;
            const ms = Math.round(toMs - fromMs);
            histogram.recordValue(Math.max(1, ms));
            if (longest === null || ms > longest.ms) longest = { ms, key: key?.toString() ?? "", fromMs, toMs };
          }
        },
        onOutOfRange: () => {},
        onUnreadable: () => {},
      },
    );
  }
  return {
    arrived(batch) {
      const nowMs = performance.now();
      for (const { key, value } of batch) {
        const ts = eventTime(value);
        if (key !== null && ts !== null) waiting.add(key.toString(), ts, nowMs);
      }
    },
    get decisions() {
      return decisions;
    },
    get longest() {
      return longest;
    },
    percentiles() {
      if (histogram.totalCount === 0) return null;
      return { p50: histogram.getValueAtPercentile(50), p99: histogram.getValueAtPercentile(99) };
    },
    async until(count, waitMs) {
      const endMs = performance.now() + waitMs;
      while (decisions < count && performance.now() < endMs) await systemClock.sleep(POLL_MS);
    },
    close: () => fetcher.stop(),
  };
}

/** Signals by key and event time, each with when it arrived; a key's decisions come in the order of its event times. */
export function createWaiting() {
  const keys = new Map<string, Map<number, number>>();
  return {
    /** The first of several with one time counts: the others repeat it. */
    add(key: string, ts: number, arrivedMs: number): void {
      let times = keys.get(key);
      if (times === undefined) {
        times = new Map();
        keys.set(key, times);
      }
      if (!times.has(ts)) times.set(ts, arrivedMs);
    },
    /** @returns when the signal of this decision arrived; those before it, which led to none, are forgotten */
    take(key: string, ts: number): number | null {
      const times = keys.get(key);
      const arrivedMs = times?.get(ts) ?? null;
      for (const time of times?.keys() ?? []) if (time <= ts) times!.delete(time);
      return arrivedMs;
    },
  };
}

/** null: a poisoned one */
function eventTime(value: Buffer | null): number | null {
  try {
    const { ts } = JSON.parse(value?.toString() ?? "") as { ts?: unknown };
    return typeof ts === "number" ? ts : null;
  } catch {
    return null;
  }
}
