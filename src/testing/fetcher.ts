/**
 * The Fetcher and RangeReader ports on Kafka in memory: long polls, one a partition.
 *
 * Invariants are those of src/kafka/fetcher.ts: positions are the caller's (P1), an answer to a request sent before open, pause
 * or close is dropped (P2), what is delivered tiles the log (P3), and "caught up" speaks of its own answer (P4).
 */
import type { Fetcher, FetchSink, RangeReader } from "../actors/ports.ts";
import type { InputRecord } from "../actors/record.ts";
import { assert, LockstepError } from "../errors.ts";
import type { MemoryKafka } from "./kafka.ts";
import type { PartitionLog } from "./kafka-log.ts";
import { type Network, Unreachable } from "./network.ts";
import type { SimulatedProcess } from "./process.ts";
import type { Random } from "./random.ts";

export interface MemoryFetcherOptions {
  readonly kafka: MemoryKafka;
  readonly network: Network;
  readonly process: SimulatedProcess;
  readonly random: Random;
  /** Input topics, in order of definition. */
  readonly topics: readonly string[];
  /** Longest wait of the broker for data. */
  readonly maxWaitMs: number;
  /** Records of one answer are 1 to so many, by chance. */
  readonly recordsMax: number;
}

interface Slot {
  readonly topic: string;
  readonly shard: number;
  readonly sink: FetchSink;
  position: bigint;
  generation: number;
  fetching: boolean;
}

const REQUEST_TIMEOUT_MS = 4_000;
const RETRY_MS = 50;

export function createMemoryFetcher(options: MemoryFetcherOptions): Fetcher {
  const { kafka, network, process, random, topics, maxWaitMs, recordsMax } = options;
  const slots = new Map<string, Slot>();
  let stopped = false;

  async function poll(slot: Slot): Promise<void> {
    const { generation, topic, shard, sink } = slot;
    const isCurrent = () =>
      !stopped && slot.fetching && slot.generation === generation && slots.get(keyOf(topic, shard)) === slot;
    while (isCurrent()) {
      const { position } = slot;
      const askedAtMs = process.clock.monotonicMs();
      try {
        const max = random.between(1, recordsMax);
        const log = kafka.log(topic, shard);
        const answer = await network.call(
          process,
          { to: "kafka", what: `poll ${topic}/${shard}`, deadlineMs: REQUEST_TIMEOUT_MS },
          async () => {
            if (position > log.end) return null;
            if (position >= log.stable) await somethingNew(log);
            return { ...log.read(position, max), lastStableOffset: log.stable };
          },
        );
        if (!isCurrent()) return;
        if (answer === null) {
          slot.fetching = false;
          sink.onOutOfRange(topic, position);
          return;
        }
        const { records, nextOffset, lastStableOffset } = answer;
        slot.position = nextOffset;
        sink.onFetched({
          topic,
          records,
          nextOffset,
          lastStableOffset,
          logStartOffset: 0n,
          caughtUp: nextOffset >= lastStableOffset,
          askedAtMs,
          answeredAtMs: process.clock.monotonicMs(),
        });
      } catch (error) {
        if (!(error instanceof Unreachable)) throw error;
        await process.clock.sleep(RETRY_MS);
      }
    }
  }

  /** Until the log changes, or the longest wait is over. */
  function somethingNew(log: PartitionLog): Promise<void> {
    return new Promise<void>((resolve) => {
      const cancelWait = kafka.schedule.after(maxWaitMs, () => {
        forget();
        resolve();
      });
      const forget = log.onChange(() => {
        cancelWait();
        resolve();
      });
    });
  }

  function start(slot: Slot): void {
    poll(slot).catch((error: unknown) => kafka.schedule.fail(error));
  }

  return {
    open(shard, positions, sink) {
      assert(!stopped, "a fetcher that was stopped opens no shard");
      for (const topic of topics) {
        const position = positions[topic];
        assert(position !== undefined, `input ${topic} has no position`);
        const slot: Slot = { topic, shard, sink, position, generation: 0, fetching: true };
        slots.set(keyOf(topic, shard), slot);
        start(slot);
      }
    },
    pause(shard, topic) {
      const slot = slots.get(keyOf(topic, shard));
      if (!slot) return;
      slot.generation += 1;
      slot.fetching = false;
    },
    resume(shard, topic) {
      const slot = slots.get(keyOf(topic, shard));
      if (!slot || slot.fetching) return;
      slot.generation += 1;
      slot.fetching = true;
      start(slot);
    },
    close(shard) {
      for (const topic of topics) slots.delete(keyOf(topic, shard));
    },
    async stop() {
      stopped = true;
    },
  };
}

export interface MemoryReaderOptions {
  readonly kafka: MemoryKafka;
  readonly network: Network;
  readonly process: SimulatedProcess;
  readonly shard: number;
}

export function createMemoryReader({ kafka, network, process, shard }: MemoryReaderOptions): RangeReader {
  return {
    async read(topic, first, next, count) {
      try {
        return await network.call(
          process,
          { to: "kafka", what: `read ${topic}/${shard}`, deadlineMs: REQUEST_TIMEOUT_MS },
          () => readRange(kafka, { topic, shard, first, next, count }),
        );
      } catch (error) {
        if (!(error instanceof Unreachable)) throw error;
        throw new LockstepError("KAFKA_UNAVAILABLE", `Kafka did not answer: read ${topic}/${shard}.`, { cause: error });
      }
    },
    async close() {},
  };
}

function readRange(
  kafka: MemoryKafka,
  { topic, shard, first, next, count }: { topic: string; shard: number; first: bigint; next: bigint; count: number },
): InputRecord[] {
  const log = kafka.log(topic, shard);
  const details = { topic, partition: shard, first, next };
  if (log.stable < next)
    throw new LockstepError(
      "INPUT_CHANGED",
      `${topic}/${shard} ends at ${log.stable}; replay needs [${first}, ${next}).`,
      {
        details,
      },
    );
  const records = log.read(first, Number.POSITIVE_INFINITY).records.filter(({ offset }) => offset < next);
  if (records.length === count && records.at(-1)?.offset === next - 1n) return records;
  throw new LockstepError(
    "INPUT_CHANGED",
    `[${first}, ${next}) of ${topic}/${shard} has ${records.length} records, ${count} were taken.`,
    { details },
  );
}

function keyOf(topic: string, shard: number): string {
  return `${topic}/${shard}`;
}
