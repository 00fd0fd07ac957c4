/**
 * Generated visits: the same seed and options give the same records, up to the moment at which event time begins.
 *
 * Event time is that of the schedule, `speed` times faster than the clock, and meets the clock at the end of the load. Each
 * visitor enters, is pinged, and leaves or is forgotten. What the manifest says holds for any pace of the system:
 *   a duplicate follows its original at once, within the same partition, and only where a visit is open after it;
 *   a late record is 20 s behind a record of its partition that stands before it;
 *   a bad record never succeeds, wherever it stands.
 */
import type { GeneratedRecord, LoadOptions, LoadRun, Manifest } from "lockstep";

import type { VisitEvent } from "./machines.ts";
import { EVENTS_TOPIC, PARTITIONS } from "./topics.ts";

const HOUSES = ["a", "b", "c", "d", "e"];
const LATE_BY_MS = 20_000;
const BATCH_MAX = 500;
const TICK_MS = 10;

type Sort = "plain" | "duplicate" | "late" | "bad";

interface Planned {
  readonly sort: Sort;
  /** ms after the beginning, of the schedule. */
  readonly dueMs: number;
  record(kafkaMs: number): GeneratedRecord;
}

export function createLoad(options: LoadOptions): LoadRun {
  return {
    async run({ send, onProgress, signal }) {
      const sent = { total: 0, distinct: 0, duplicates: 0, late: 0, bad: 0 };
      const paced = options.total === undefined;
      const beginMs = performance.now();
      let batch: Planned[] = [];
      const flush = async () => {
        const nowMs = Date.now();
        await send(batch.map((planned) => planned.record(nowMs)));
        for (const { sort } of batch) {
          sent.total += 1;
          if (sort === "plain" || sort === "late") sent.distinct += 1;
          if (sort === "duplicate") sent.duplicates += 1;
          if (sort === "late" || sort === "bad") sent[sort] += 1;
        }
        batch = [];
        onProgress({ sent: sent.total, total: recordCount(options), behindMs: 0 });
      };
      for (const planned of plan(options, Date.now())) {
        if (signal.aborted) break;
        const waitMs = paced ? planned.dueMs - (performance.now() - beginMs) : 0;
        if (batch.length >= BATCH_MAX || (waitMs > 0 && batch.length > 0)) await flush();
        if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, Math.max(TICK_MS, waitMs)));
        batch.push(planned);
      }
      if (batch.length > 0) await flush();
      return { seed: options.seed, sent } satisfies Manifest;
    },
    // Nothing of this app is measured.
    scheduledMs: () => null,
  };
}

function recordCount({ total, seconds, rate }: LoadOptions): number {
  return total ?? Math.round(seconds * rate);
}

function* plan(options: LoadOptions, nowMs: number): Generator<Planned> {
  const random = createRandom(options.seed);
  const count = recordCount(options);
  const stepMs = 1000 / options.rate;
  const startMs = nowMs - Math.ceil(count * stepMs * (options.total === undefined ? options.speed - 1 : options.speed));
  const inside = new Set<string>();
  const newest = new Map<number, number>();
  let badCount = 0;
  let at = startMs;

  for (let index = 0; index < count; index += 1) {
    const dueMs = index * stepMs;
    at = Math.max(at + 1, startMs + Math.floor(dueMs * options.speed)); // it rises: an equal time would be a repeat
    const number = Math.floor(random() * options.symbols);
    const visitor = `${HOUSES[number % HOUSES.length]}${number}`;
    const partition = number % PARTITIONS;
    const chance = random();
    const behind = newest.get(partition);
    if (chance < options.bad) {
      badCount += 1;
      const bad = { nth: badCount, visitor, partition, at };
      yield { sort: "bad", dueMs, record: (kafkaMs) => badRecord(bad, kafkaMs) };
      continue;
    }
    if (chance < options.bad + options.late && behind !== undefined) {
      yield planned("late", dueMs, { visitor, kind: "ping", at: behind - LATE_BY_MS }, partition);
      continue;
    }
    const kind = inside.has(visitor) ? (random() < 0.3 ? "leave" : "ping") : "enter";
    if (kind === "enter") inside.add(visitor);
    if (kind === "leave") inside.delete(visitor);
    newest.set(partition, at);
    yield planned("plain", dueMs, { visitor, kind, at }, partition);
    // Only `enter` opens a visit for sure: a ping may come to one that has timed out.
    if (kind === "enter" && index + 1 < count && random() < options.duplicates * 4) {
      index += 1;
      yield planned("duplicate", dueMs, { visitor, kind, at }, partition);
    }
  }
}

function planned(sort: Sort, dueMs: number, event: VisitEvent, partition: number): Planned {
  const value = Buffer.from(JSON.stringify(event));
  const key = Buffer.from(event.visitor);
  return {
    sort,
    dueMs,
    record: (timestampMs) => ({ topic: EVENTS_TOPIC, partition, key, value, headers: {}, timestampMs }),
  };
}

/** One of each kind in turn, so that a load of a few has them all. */
function badRecord(
  { nth, visitor, partition, at }: { nth: number; visitor: string; partition: number; at: number },
  kafkaMs: number,
): GeneratedRecord {
  const good = { visitor, kind: "ping", at };
  const values: ReadonlyArray<readonly [key: string | null, value: Buffer]> = [
    [visitor, Buffer.from("{ no json")],
    [visitor, json({ ...good, kind: "poison" })],
    [null, json(good)],
    [`${visitor}0`, json(good)],
    [visitor, json({ ...good, kind: "stumble" })],
    [visitor, json({ ...good, at: kafkaMs + 3_600_000 })],
    [visitor, Buffer.from([0xff, 0xfe, 0x00])],
  ];
  const [key, value] = values[nth % values.length]!;
  return {
    topic: EVENTS_TOPIC,
    partition,
    key: key === null ? null : Buffer.from(key),
    value,
    headers: { origin: "bad" },
    timestampMs: kafkaMs,
  };
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

/** Mulberry32: 32 bits of state are enough to choose among a few things. @returns 0 or more, below 1 */
function createRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
