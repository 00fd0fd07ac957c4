/**
 * The lag of an app: records of its inputs below the end that Kafka's committed offsets of its group have not reached.
 *
 * Zero means drained as anyone outside can see it: everything taken is committed in Postgres and published. Ticks take no
 * record, so a shard with lag 0 may still fire timers.
 */
import { systemClock } from "../clock.ts";
import { createKafkaClient } from "../kafka/client.ts";
import { createPublisher } from "../kafka/publisher.ts";

const WATCH_EVERY_MS = 500;

export interface LagOptions {
  readonly brokers: readonly string[];
  readonly groupId: string;
  /** Inputs of the app. */
  readonly topics: readonly string[];
  readonly shards: number;
}

export interface LagMeter {
  /** Records. @throws {LockstepError} KAFKA_UNAVAILABLE */
  measure(): Promise<number>;
  /** Sums over all inputs and shards: the ends of the logs, and what is committed of them. @throws {LockstepError} KAFKA_UNAVAILABLE */
  offsets(): Promise<{ ends: bigint; committed: bigint }>;
  close(): Promise<void>;
}

export interface LagWatch {
  /** Records, as of the latest measurement. */
  value(): number;
  measure(): Promise<number>;
  stop(): void;
}

export function openLagMeter({ brokers, groupId, topics, shards }: LagOptions): LagMeter {
  const client = createKafkaClient({ brokers, clientId: "lockstep-lag" });
  const publisher = createPublisher({ client, groupId, topics });
  const offsets = async () => {
    const sums = { ends: 0n, committed: 0n };
    for (let shard = 0; shard < shards; shard += 1) {
      const [committed, marks] = await Promise.all([publisher.committed(shard), publisher.watermarks(shard)]);
      for (const topic of topics) {
        sums.ends += marks[topic]!.high;
        sums.committed += committed[topic]!.offset ?? marks[topic]!.low;
      }
    }
    return sums;
  };
  return {
    offsets,
    async measure() {
      const { ends, committed } = await offsets();
      return Number(ends - committed);
    },
    close: () => publisher.close(),
  };
}

/** Measures again and again, until it is stopped. */
export function watchLag(options: LagOptions): LagWatch {
  const meter = openLagMeter(options);
  let last = 0;
  let stopped = false;
  const measure = async () => {
    last = await meter.measure();
    return last;
  };
  const loop = async () => {
    while (!stopped) {
      await measure().catch(() => last); // the next round measures again; a broker that is gone shows as a drain that stalls
      await systemClock.sleep(WATCH_EVERY_MS);
    }
  };
  void loop();
  return {
    value: () => last,
    measure,
    stop() {
      stopped = true;
      void meter.close();
    },
  };
}
