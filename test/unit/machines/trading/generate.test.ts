import { describe, expect, it } from "vitest";

import { partitionFor } from "../../../../src/actors/partition.ts";
import type { Clock } from "../../../../src/clock.ts";
import { BAD_KINDS } from "../../../../src/machines/trading/generate/bad.ts";
import { type GeneratorOptions, generatorOptions } from "../../../../src/machines/trading/generate/options.ts";
import { type PlannedRecord, plan } from "../../../../src/machines/trading/generate/plan.ts";
import { BATCH_SPAN_MS_MAX, createLoad, type OutgoingRecord } from "../../../../src/machines/trading/generate/run.ts";
import { signalSchema, TIMEFRAMES } from "../../../../src/machines/trading/schemas.ts";
import { signalTopic } from "../../../../src/machines/trading/topics.ts";
import { START } from "./signals.ts";

/** Seeds and shapes over which the rules must hold: the default, a dense and slow one, and one full of trouble. */
const CASES: ReadonlyArray<readonly [name: string, given: Partial<GeneratorOptions>]> = [1, 2, 3].flatMap((seed) => [
  [`seed ${seed}, the default`, { seed, total: 4_000 }],
  [`seed ${seed}, dense and slow`, { seed, total: 4_000, speed: 5, rate: 1_000, symbols: 2 }],
  [
    `seed ${seed}, full of trouble`,
    { seed, total: 4_000, duplicates: 0.3, late: 0.2, bad: 0.2, symbols: 5, partitions: 2 },
  ],
]);

const plans = new Map<string, PlannedRecord[]>();

/** A plan, made once for all tests that look at it. */
function planOf(given: Partial<GeneratorOptions>): PlannedRecord[] {
  const name = JSON.stringify(given);
  const records = plans.get(name) ?? [...plan(generatorOptions(given), START)];
  plans.set(name, records);
  return records;
}

/** Made once: making a schema costs far more than using it. */
const SCHEMAS = new Map(TIMEFRAMES.map((timeframe) => [signalTopic(timeframe) as string, signalSchema(timeframe)]));

/** How topics may be read: how far each is ahead of the clock, ms of event time, changing as it goes. */
const INTERLEAVINGS: ReadonlyArray<readonly [name: string, aheadMs: (topic: string, ts: number) => number]> = [
  ["all at once", () => 0],
  ["1m first", (topic) => (topic.endsWith(".1m") ? 3_000 : 0)],
  ["15m first", (topic) => (topic.endsWith(".15m") ? 3_000 : topic.endsWith(".5m") ? 1_500 : 0)],
  [
    "in turn",
    (topic, ts) =>
      TIMEFRAMES.indexOf(topic.slice("trading.signal.".length) as "1m") === Math.floor(ts / 7_000) % 3 ? 3_000 : 0,
  ],
];

/**
 * Stream time of every partition by the specification's words alone: late is older than stream time - 10 s, a window is
 * open until stream time has reached its start + 310 s. The clock is the ts of the latest normal signal sent.
 */
function simulate(records: readonly PlannedRecord[], aheadMs: (topic: string, ts: number) => number) {
  let clock = 0;
  const positions = new Map<string, number>();
  const taken = records.map((record) => {
    if (record.kind === "normal") clock = record.ts;
    // Records of one partition of one topic never overtake each other.
    const lane = `${record.topic}/${record.partition}`;
    const at = Math.max(clock - aheadMs(record.topic, clock), positions.get(lane) ?? 0);
    positions.set(lane, at);
    return { record, at };
  });
  taken.sort((a, b) => a.at - b.at);
  const streamTimes = new Map<number, number>();
  return taken
    .filter(({ record }) => record.kind !== "bad")
    .map(({ record }) => {
      const streamTime = streamTimes.get(record.partition) ?? 0;
      const { ts } = JSON.parse(record.value.toString()) as { ts: number };
      const isLate = ts < streamTime - 10_000;
      const isClosed = streamTime >= Math.floor(ts / 300_000) * 300_000 + 310_000;
      if (!isLate) streamTimes.set(record.partition, Math.max(streamTime, ts));
      return { kind: record.kind, isLate, isClosed };
    });
}

function identityOf(record: PlannedRecord): string {
  const { symbol, timeframe, identity } = SCHEMAS.get(record.topic)!.parse(JSON.parse(record.value.toString()));
  return `${symbol}/${timeframe}/${identity}`;
}

describe("plan", () => {
  it("is the same for the same seed, byte for byte, and another for another", () => {
    const bytes = (seed: number) =>
      JSON.stringify(
        planOf({ seed, total: 3_001 }).map((record) => ({ ...record, value: record.value.toString("hex") })),
      );
    const first = bytes(7);
    plans.clear();
    expect(bytes(7)).toBe(first);
    expect(bytes(8)).not.toBe(first);
  });

  it.each(CASES)("G1: with %s, normal signals come in order of ts and are all distinct", (_name, given) => {
    const records = planOf(given);
    const normal = records.filter(({ kind }) => kind === "normal");
    const fresh = records.filter(({ kind }) => kind === "normal" || kind === "late");
    expect(normal.filter(({ ts }, i) => i > 0 && ts < normal[i - 1]!.ts)).toEqual([]);
    expect(new Set(fresh.map(identityOf)).size).toBe(fresh.length);
    const contents = normal.map((record) => {
      const { id: _id, qty, price, ...rest } = JSON.parse(record.value.toString());
      return JSON.stringify({ ...rest, qty: Number(qty), price: Number(price) });
    });
    expect(new Set(contents).size).toBe(contents.length);
  });

  it.each(CASES)("G2: with %s, a duplicate repeats a signal of its topic sent at most 2 s before", (_name, given) => {
    const sent = new Map<string, number>();
    const agesMs: number[] = [];
    let clock = 0;
    for (const record of planOf(given)) {
      const bytes = `${record.topic}/${record.partition}/${record.key}/${record.value.toString("hex")}`;
      if (record.kind === "normal") {
        sent.set(bytes, record.ts);
        clock = record.ts;
      }
      if (record.kind === "duplicate") agesMs.push(clock - (sent.get(bytes) ?? 0));
    }
    expect(Math.max(...agesMs)).toBeLessThanOrEqual(2_000);
    expect(agesMs.length).toBeGreaterThan(100);
  });

  it.each(CASES)("G3: with %s, a late signal is 15 s older than one sent before to its partition", (_name, given) => {
    const latest = new Map<string, number>();
    const agesMs: number[] = [];
    for (const { kind, topic, partition, ts } of planOf(given)) {
      const lane = `${topic}/${partition}`;
      if (kind === "normal") latest.set(lane, ts);
      if (kind === "late") agesMs.push((latest.get(lane) ?? 0) - ts);
    }
    expect(agesMs.length).toBeGreaterThan(20);
    expect(Math.min(...agesMs)).toBeGreaterThanOrEqual(15_000);
  });

  for (const [interleaving, aheadMs] of INTERLEAVINGS) {
    it.each(CASES)(
      `with %s and topics read ${interleaving}, exactly the late are late, and all others find their window open`,
      (_name, given) => {
        const results = simulate(planOf(given), aheadMs);
        expect(results.filter(({ kind, isLate }) => isLate !== (kind === "late"))).toEqual([]);
        expect(results.filter(({ isLate, isClosed }) => !isLate && isClosed)).toEqual([]);
      },
    );
  }

  it.each(CASES)("G4: with %s, every bad record has its fault and no other has one", (_name, given) => {
    const records = planOf(given);
    const judgedWrong = records.filter((record) => isAcceptable(record) === (record.kind === "bad"));
    expect(judgedWrong.map(({ badKind, value }) => [badKind, value.toString()])).toEqual([]);
    expect(new Set(records.flatMap(({ badKind }) => badKind ?? []))).toEqual(new Set(BAD_KINDS));
  });

  it("keeps to the shares asked for, and to Kafka's own partitioning", () => {
    const records = planOf({ total: 20_000 });
    const share = (kind: string) => records.filter((record) => record.kind === kind).length / records.length;
    expect(share("duplicate")).toBeCloseTo(0.05, 2);
    expect(share("late")).toBeCloseTo(0.01, 2);
    expect(share("bad")).toBeCloseTo(0.005, 2);
    const misplaced = records.filter(
      ({ key, partition }) => key !== null && partition !== partitionFor(Buffer.from(key), 6),
    );
    expect(misplaced).toEqual([]);
  });

  it("says everything that is wrong with its options at once", () => {
    expect(() => generatorOptions({ rate: 0, speed: 0.5, seed: 1.5, bad: 2 })).toThrow(
      /rate.*speed.*duplicates, late and bad.*seed/,
    );
  });
});

/** By docs/trading.md: parses, fits the schema, and has the key of its symbol; not ahead of its Kafka timestamp. */
function isAcceptable({ topic, key, value, timestampMs }: PlannedRecord): boolean {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(value));
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) return false;
    throw error;
  }
  const { data } = SCHEMAS.get(topic)!.safeParse(json);
  return data !== undefined && data.symbol === key && !(timestampMs !== null && data.ts > timestampMs + 60_000);
}

/** A clock that stands still but for sleeping, and a broker that takes its time. */
function createWorld({ sendMs }: { sendMs: number }) {
  let nowMs = 0;
  const batches: Array<readonly OutgoingRecord[]> = [];
  const clock: Clock = {
    wallMs: () => START + Math.floor(nowMs),
    monotonicMs: () => nowMs,
    sleep: async (ms) => {
      nowMs += ms;
    },
  };
  return {
    clock,
    batches,
    async send(batch: readonly OutgoingRecord[]) {
      batches.push(batch);
      nowMs += sendMs;
    },
    nowMs: () => nowMs,
  };
}

describe("load", () => {
  const OPTIONS = { rate: 1_000, seconds: 3, duplicates: 0.1, late: 0.05, bad: 0.05 };

  it("M1: the manifest adds up and agrees with what was sent", async () => {
    const world = createWorld({ sendMs: 1 });
    const manifest = await createLoad(OPTIONS, world.clock).run(world);
    const sent = world.batches.flat();
    const { total, distinct, duplicates, late, bad, badByKind } = manifest.sent;
    expect(total).toBe(3_000);
    expect(sent).toHaveLength(total);
    expect(distinct + duplicates + bad).toBe(total);
    expect(Object.values(badByKind).reduce((a, b) => a + b)).toBe(bad);
    expect(Math.min(duplicates, late, bad)).toBeGreaterThan(0);
    expect(Object.values(manifest.perTopic).reduce((sum, topic) => sum + topic.total, 0)).toBe(total);
    for (const [topic, counts] of Object.entries(manifest.perPartition)) {
      expect(counts).toEqual(
        counts.map(
          (_, partition) => sent.filter((record) => record.topic === topic && record.partition === partition).length,
        ),
      );
    }
    expect(JSON.parse(JSON.stringify(manifest))).toStrictEqual(manifest);
  });

  it("sends each record when it is due, in batches, with its time in a header, and event time never beyond the clock", async () => {
    const world = createWorld({ sendMs: 2 });
    await createLoad({ ...OPTIONS, bad: 0 }, world.clock).run(world);
    const sent = world.batches.flat();
    const lagsMs = sent.map(({ timestampMs, headers }) => timestampMs - Number(headers["scheduled-ms"]));
    expect(Math.min(...lagsMs)).toBeGreaterThan(-1);
    expect(Math.max(...lagsMs)).toBeLessThan(13);
    expect(sent.filter(({ value, timestampMs }) => JSON.parse(value.toString()).ts > timestampMs)).toEqual([]);
    expect(world.batches.length).toBeGreaterThan(250);
  });

  it("catches up with bigger batches of at most 5,000 when the broker is slow, and keeps the times that were due", async () => {
    const world = createWorld({ sendMs: 400 });
    const behind: number[] = [];
    await createLoad({ rate: 20_000, seconds: 1, speed: 1 }, world.clock).run({
      send: world.send,
      onProgress: ({ behindMs }) => behind.push(behindMs),
    });
    expect(Math.max(...world.batches.map((batch) => batch.length))).toBe(5_000);
    expect(behind.at(-1)).toBeGreaterThan(400);
    const scheduled = world.batches.flat().map(({ headers }) => Number(headers["scheduled-ms"]));
    expect(scheduled).toEqual(scheduled.map((_, i) => START + i / 20));
  });

  it("G5: however far behind, a batch spans 3 s of event time at most", async () => {
    const world = createWorld({ sendMs: 400 });
    await createLoad({ seconds: 10, late: 0, bad: 0, duplicates: 0 }, world.clock).run(world);
    const spansMs = world.batches.map((batch) => {
      const times = batch.map(({ value }) => JSON.parse(value.toString()).ts as number);
      return Math.max(...times) - Math.min(...times);
    });
    expect(world.batches.flat()).toHaveLength(5_000);
    expect(Math.max(...spansMs)).toBeLessThanOrEqual(BATCH_SPAN_MS_MAX);
    expect(Math.max(...spansMs)).toBeGreaterThan(BATCH_SPAN_MS_MAX / 2);
  });

  it("sends a backlog without waiting, its event time ending now", async () => {
    const world = createWorld({ sendMs: 0 });
    const manifest = await createLoad({ total: 12_000 }, world.clock).run(world);
    expect(world.nowMs()).toBe(0);
    expect(world.batches.map((batch) => batch.length)).toEqual([5_000, 5_000, 2_000]);
    expect(manifest.firstTs).toBeGreaterThanOrEqual(START - (12_000 / 500) * 60_000);
    expect(manifest.lastTs).toBeLessThanOrEqual(START);
    expect(manifest.lastTs).toBeGreaterThan(START - 1_000);
  });

  it("ends when told to, and then says what was sent", async () => {
    const world = createWorld({ sendMs: 1 });
    const stop = new AbortController();
    const manifest = await createLoad(OPTIONS, world.clock).run({
      send: world.send,
      signal: stop.signal,
      onProgress: ({ sent }) => {
        if (sent >= 500) stop.abort();
      },
    });
    expect(manifest.sent.total).toBe(world.batches.flat().length);
    expect(manifest.sent.total).toBeLessThan(600);
  });

  it("does not count what the broker refused", async () => {
    const world = createWorld({ sendMs: 1 });
    const progress: number[] = [];
    const run = createLoad(OPTIONS, world.clock).run({
      send: async (batch) => {
        if (world.batches.length === 3) throw new Error("The broker is gone.");
        await world.send(batch);
      },
      onProgress: ({ sent }) => progress.push(sent),
    });
    await expect(run).rejects.toThrow("The broker is gone.");
    expect(progress).toHaveLength(3);
  });

  it("says when the signal of a decision was due", async () => {
    const world = createWorld({ sendMs: 1 });
    const load = createLoad({ ...OPTIONS, late: 0, bad: 0, duplicates: 0 }, world.clock);
    await load.run(world);
    const errorsMs = world.batches.flat().map(({ value, headers }) => {
      const scheduledMs = load.scheduledMs({
        topic: "trading.decisions",
        timestampMs: JSON.parse(value.toString()).ts,
      });
      return Math.abs((scheduledMs ?? Number.NaN) - Number(headers["scheduled-ms"]));
    });
    expect(Math.max(...errorsMs)).toBeLessThan(0.1);
    expect(load.scheduledMs({ topic: "trading.late", timestampMs: START })).toBeNull();
  });
});
