/**
 * End-to-end latency: a separate read_committed consumer of one output topic, from the moment an input was SCHEDULED to be sent.
 * Scheduled, not sent: a stall of the sender counts (no coordinated omission).
 */
import { build, type Histogram } from "hdr-histogram-js";

import { createKafkaClient } from "../kafka/client.ts";
import { openConnection } from "../kafka/connection.ts";
import { createFetcher } from "../kafka/fetcher.ts";
import { describeTopics } from "../kafka/topics.ts";
import type { LoadRun, MeasuredOutput } from "./app-tools.ts";

export interface LatencyWatch {
  readonly received: number;
  /** Resolves when `count` records were received, or after `waitMs`. */
  until(count: number, waitMs: number): Promise<void>;
  /** ms; null before the first. */
  percentiles(): { p50: number; p99: number } | null;
  close(): Promise<void>;
}

export interface MeasuredLatency {
  readonly output: MeasuredOutput;
  readonly watch: LatencyWatch;
}

export async function watchLatencies(
  brokers: readonly string[],
  outputs: readonly MeasuredOutput[],
  load: LoadRun,
): Promise<MeasuredLatency[]> {
  return Promise.all(
    outputs.map(async (output) => ({
      output,
      watch: await watchLatency({ brokers, topic: output.topic, scheduledMs: (record) => load.scheduledMs(record) }),
    })),
  );
}

export function progressOf({ output, watch }: MeasuredLatency): string {
  const p = watch.percentiles();
  return `${output.name}s ${watch.received}${p ? `, p50 ${p.p50} ms, p99 ${p.p99} ms` : ""}`;
}

export async function watchLatency(options: {
  brokers: readonly string[];
  topic: string;
  scheduledMs: (output: { topic: string; timestampMs: number }) => number | null;
}): Promise<LatencyWatch> {
  const client = createKafkaClient({ brokers: options.brokers, clientId: "lockstep-latency" });
  const partitions = (await describeTopics(client, [options.topic])).get(options.topic)!.partitions;
  // Microseconds, from 1 us to 1 h, three digits.
  const histogram: Histogram = build({
    lowestDiscernibleValue: 1,
    highestTrackableValue: 3_600_000_000,
    numberOfSignificantValueDigits: 3,
  });
  let received = 0;
  const fetcher = createFetcher({
    connection: openConnection(client),
    topics: [options.topic],
    maxWaitMs: 100,
    onError: () => {},
  });
  for (let partition = 0; partition < partitions; partition += 1) {
    fetcher.open(
      partition,
      { [options.topic]: 0n },
      {
        onFetched: ({ records }) => {
          const now = performance.timeOrigin + performance.now();
          for (const record of records) {
            received += 1;
            const scheduled = options.scheduledMs({ topic: record.topic, timestampMs: Number(record.timestampMs) });
            if (scheduled !== null) histogram.recordValue(Math.max(1, Math.round((now - scheduled) * 1000)));
          }
        },
        onOutOfRange: () => {},
        onUnreadable: () => {},
      },
    );
  }
  return {
    get received() {
      return received;
    },
    percentiles() {
      if (histogram.totalCount === 0) return null;
      const at = (percentile: number) => Math.round(histogram.getValueAtPercentile(percentile) / 10) / 100;
      return { p50: at(50), p99: at(99) };
    },
    async until(count, waitMs) {
      const end = performance.now() + waitMs;
      while (received < count && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 50));
    },
    close: () => fetcher.stop(),
  };
}
