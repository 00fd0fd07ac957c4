/**
 * Sends a plan, open loop: every record has its time, whether or not the broker keeps up, so that a latency measured from
 * `scheduled-ms` includes the waiting that a slow system causes.
 *
 *   1. Wait for the next record that is due, and at least one tick after the batch before. A backlog does not wait.
 *   2. Take all that is due, at most `BATCH_MAX` and, unless it is a backlog, `BATCH_SPAN_MS_MAX`.
 *   3. Send it, one batch at a time, in order. Count it only then.
 *
 * Kafka comes in through `send`, time through a clock: this file opens nothing.
 *
 * Invariant
 *   G5  Readers that take what they can see in order of event time see no normal signal more than `BATCH_SPAN_MS_MAX` too late,
 *       however slow the broker: a batch is acknowledged before the next is sent, and spans no more. Of a backlog this holds
 *       once all of it is sent.
 */
import type { Clock } from "../../../clock.ts";
import { DECISIONS_TOPIC, ORDERS_TOPIC } from "../topics.ts";
import { createTally, type Manifest } from "./manifest.ts";
import { defaultStartMs, type GeneratorOptions, generatorOptions, recordCount } from "./options.ts";
import { type PlannedRecord, plan } from "./plan.ts";

/** Wall time at which a record should have been sent, ms since the Unix epoch, with decimals. */
export const SCHEDULED_HEADER = "scheduled-ms";

const TICK_MS = 10;
const BATCH_MAX = 5_000;
/** Event time that a batch may span: what G2 and G3 of plan.ts allow topics to be read apart. */
export const BATCH_SPAN_MS_MAX = 3_000;

export interface OutgoingRecord {
  readonly topic: string;
  /** As Kafka's default partitioner has it; for the n-th record without a key, n modulo the partitions. */
  readonly partition: number;
  readonly key: Buffer | null;
  readonly value: Buffer;
  /** Kafka's timestamp, ms since the Unix epoch. */
  readonly timestampMs: number;
  readonly headers: Readonly<Record<string, string>>;
}

export interface Progress {
  readonly sent: number;
  readonly total: number;
  /** How much later than scheduled the latest batch went out, ms; 0 for a backlog. */
  readonly behindMs: number;
}

export interface LoadPorts {
  /** Resolves when the broker has all of them, in the order given within each partition. */
  send(batch: readonly OutgoingRecord[]): Promise<void>;
  onProgress?(progress: Progress): void;
  /** Ends the run after the batch under way; the manifest then says what was sent. */
  readonly signal?: AbortSignal;
}

export interface Load {
  /**
   * Sends everything. Once a load.
   * @throws whatever `send` rejects with; the batch under way may then be there or not
   */
  run(ports: LoadPorts): Promise<Manifest>;
  /** When the signal that caused this decision or order was due to be sent, wall ms; null for other topics, and for a backlog. */
  scheduledMs(output: { readonly topic: string; readonly timestampMs: number }): number | null;
}

/**
 * @param clock `systemClock` of src/clock.ts
 * @throws {LockstepError} CONFIG_INVALID
 */
export function createLoad(given: Partial<GeneratorOptions>, clock: Clock): Load {
  const wanted = generatorOptions(given);
  const isBacklog = wanted.total !== null;
  let begin: { readonly wallMs: number; readonly startMs: number } | null = null;
  return {
    run(ports) {
      const wallMs = clock.wallMs();
      begin = { wallMs, startMs: wanted.startMs ?? defaultStartMs(wanted, wallMs) };
      return send({ ...wanted, startMs: begin.startMs }, { wallMs, clock, ports });
    },
    scheduledMs({ topic, timestampMs }) {
      if (begin === null || isBacklog || ![DECISIONS_TOPIC, ORDERS_TOPIC].includes(topic)) return null;
      return begin.wallMs + (timestampMs - begin.startMs) / wanted.speed;
    },
  };
}

async function send(
  options: GeneratorOptions & { readonly startMs: number },
  { wallMs, clock, ports }: { wallMs: number; clock: Clock; ports: LoadPorts },
): Promise<Manifest> {
  const beginMs = clock.monotonicMs();
  const isBacklog = options.total !== null;
  const total = recordCount(options);
  const tally = createTally(options.partitions);
  const records = createQueue(plan(options, options.startMs), {
    spanMsMax: isBacklog ? Number.POSITIVE_INFINITY : BATCH_SPAN_MS_MAX / options.speed,
  });

  while (records.head() !== null && !ports.signal?.aborted) {
    const elapsedMs = clock.monotonicMs() - beginMs;
    const batch = records.take(isBacklog ? Number.POSITIVE_INFINITY : elapsedMs);
    if (batch.length > 0) {
      const sentMs = clock.wallMs();
      const scheduled = (record: PlannedRecord) => (isBacklog ? sentMs : wallMs + record.dueMs);
      await ports.send(batch.map((record) => outgoing(record, { sentMs, scheduledMs: scheduled(record) })));
      for (const record of batch) tally.add(record);
      ports.onProgress?.({ sent: tally.total, total, behindMs: isBacklog ? 0 : elapsedMs - batch[0]!.dueMs });
    }
    const head = records.head();
    if (head === null || isBacklog) continue;
    const waitMs = Math.max(head.dueMs, elapsedMs + TICK_MS) - (clock.monotonicMs() - beginMs);
    if (waitMs > 0) await clock.sleep(waitMs, ports.signal);
  }
  return tally.manifest({ options, startedAt: new Date(wallMs).toISOString() });
}

/**
 * The plan with one record looked ahead.
 * @param options.spanMsMax time between when the first and the last of a batch are due, at most
 */
function createQueue(records: Iterator<PlannedRecord>, { spanMsMax }: { readonly spanMsMax: number }) {
  const pull = () => {
    const { done, value } = records.next();
    return done ? null : value;
  };
  let head = pull();
  return {
    head: () => head,
    take(dueMs: number): PlannedRecord[] {
      const batch: PlannedRecord[] = [];
      const endMs = Math.min(dueMs, head === null ? 0 : head.dueMs + spanMsMax);
      while (head !== null && head.dueMs <= endMs && batch.length < BATCH_MAX) {
        batch.push(head);
        head = pull();
      }
      return batch;
    },
  };
}

function outgoing(
  record: PlannedRecord,
  { sentMs, scheduledMs }: { sentMs: number; scheduledMs: number },
): OutgoingRecord {
  const { topic, partition, key, value, timestampMs } = record;
  return {
    topic,
    partition,
    key: key === null ? null : Buffer.from(key),
    value,
    timestampMs: timestampMs ?? sentMs,
    headers: { [SCHEDULED_HEADER]: String(scheduledMs) },
  };
}
