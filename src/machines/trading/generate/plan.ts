/**
 * The plan of a run: every record in the order it is sent, with the truth about it, so that what comes out of the app can
 * be compared with what went in. Pure: the same options give the same plan, byte for byte.
 *
 * Invariants
 *   G1  Normal signals are sent in non-decreasing ts order, over all topics. No two of them share id or content, and a late
 *       one has an id of its own.
 *   G2  A duplicate repeats the bytes of a normal signal of the same topic, sent at most 2 s of event time before. With topics
 *       read up to 3 s apart it is still not late, hence its window still open.
 *   G3  A late signal is at least 15 s older than a normal signal already sent to the same partition of the same topic: late
 *       whatever the interleaving of topics.
 *   G4  A bad record is one of `BAD_KINDS`, which come in turn, and would have been a good signal otherwise; it never counts
 *       as sent for G2 and G3.
 */
import { partitionFor } from "../../../actors/partition.ts";
import { LATENESS_MS } from "../rules.ts";
import { TIMEFRAMES } from "../schemas.ts";
import { signalTopic } from "../topics.ts";
import { BAD_KINDS, type BadKind, spoil } from "./bad.ts";
import { createMarket, type Quote } from "./market.ts";
import { type GeneratorOptions, recordCount } from "./options.ts";
import { createRandom } from "./random.ts";

/** A fifth of the lateness: room for topics read apart. */
export const DUPLICATE_AGE_MS_MAX = Math.min(2_000, LATENESS_MS / 3);
export const LATE_AGE_MS_MIN = 15_000;
const LATE_AGE_MS_SPREAD = 120_000;
/** Share of signals that have an id, and of numbers that are written as decimal strings. */
const ID_SHARE = 0.5;
const STRING_SHARE = 0.1;

export interface PlannedRecord {
  readonly kind: "normal" | "duplicate" | "late" | "bad";
  readonly badKind: BadKind | null;
  readonly topic: string;
  readonly partition: number;
  readonly key: string | null;
  readonly value: Buffer;
  /** Event time, ms; of a bad record the time it would have had. */
  readonly ts: number;
  /** When it is due, ms since the start of the run. */
  readonly dueMs: number;
  /** Kafka's timestamp; null: when it is sent. */
  readonly timestampMs: number | null;
}

export type Plan = Iterable<PlannedRecord>;

/** @param startMs event time of the first record, ms since the Unix epoch */
export function* plan(options: GeneratorOptions, startMs: number): Generator<PlannedRecord, void, undefined> {
  const random = createRandom(options.seed);
  const market = createMarket(options.symbols, random);
  const weights = TIMEFRAMES.map((timeframe) => options.timeframes[timeframe]);
  const partitionOf = partitions(options.partitions);
  const contents = createContents();
  const recent = createRecent();
  /** ts of the latest normal signal by stream (symbol and topic). */
  const latestTs = new Map<string, number>();
  const stepMs = 1000 / options.rate;
  const count = recordCount(options);
  let bad = 0;
  let withoutKey = 0;

  for (let n = 0; n < count; n += 1) {
    const dueMs = n * stepMs;
    const now = startMs + Math.floor(dueMs * options.speed);
    const lot = random.next();

    if (lot < options.duplicates) {
      const original = recent.pick(now, random.next());
      if (original !== null) {
        yield { ...original, kind: "duplicate", dueMs };
        continue;
      }
    }

    const symbolIndex = random.below(options.symbols);
    const symbol = market.symbols[symbolIndex]!;
    const timeframe = TIMEFRAMES[random.weighted(weights)]!;
    const topic = signalTopic(timeframe);
    const stream = `${symbol}/${timeframe}`;
    const id = `${startMs.toString(36)}-${options.seed}-${n}`;
    const common = { topic, dueMs, partition: partitionOf(symbol), key: symbol, badKind: null, timestampMs: null };

    if (within(lot, options.duplicates, options.late)) {
      const ts = (latestTs.get(stream) ?? -1) - LATE_AGE_MS_MIN - random.below(LATE_AGE_MS_SPREAD);
      if (ts >= 0) {
        const signal = { symbol, ...market.quote(symbolIndex, now), timeframe, ts, id };
        yield { ...common, kind: "late", value: Buffer.from(JSON.stringify(signal)), ts };
        continue;
      }
    }

    if (within(lot, options.duplicates + options.late, options.bad)) {
      const badKind = BAD_KINDS[bad++ % BAD_KINDS.length]!;
      const signal = { symbol, ...market.quote(symbolIndex, now), timeframe, ts: now, id };
      const { key, value, timestampMs } = spoil(badKind, signal, random);
      const partition = key === null ? withoutKey++ % options.partitions : partitionOf(key);
      yield { ...common, kind: "bad", badKind, key, partition, value, ts: now, timestampMs };
      continue;
    }

    const quote = contents.distinct(stream, now, market.quote(symbolIndex, now));
    const signal = {
      symbol,
      side: quote.side,
      qty: random.chance(STRING_SHARE) ? String(quote.qty) : quote.qty,
      price: random.chance(STRING_SHARE) ? quote.price.toFixed(4) : quote.price,
      timeframe,
      ts: now,
      ...(random.chance(ID_SHARE) ? { id } : {}),
    };
    const record: PlannedRecord = { ...common, kind: "normal", value: Buffer.from(JSON.stringify(signal)), ts: now };
    latestTs.set(stream, now);
    recent.add(record);
    yield record;
  }
}

/** Whether the lot falls into a share that begins at `from`. */
function within(lot: number, from: number, share: number): boolean {
  return lot >= from && lot < from + share;
}

function partitions(count: number): (key: string) => number {
  const known = new Map<string, number>();
  return (key) => {
    const partition = known.get(key) ?? partitionFor(Buffer.from(key), count);
    known.set(key, partition);
    return partition;
  };
}

/** Keeps contents apart: signals of one stream and ts get another qty where side, qty and price were equal. */
function createContents() {
  const latest = new Map<string, { ts: number; contents: Set<string> }>();
  return {
    distinct(stream: string, ts: number, quote: Quote): Quote {
      let at = latest.get(stream);
      if (at === undefined || at.ts !== ts) {
        at = { ts, contents: new Set() };
        latest.set(stream, at);
      }
      let { qty } = quote;
      const content = () => `${quote.side}|${qty}|${quote.price}`;
      while (at.contents.has(content())) qty = Math.round(qty * 1e4 + 1) / 1e4;
      at.contents.add(content());
      return { ...quote, qty };
    },
  };
}

/** Normal signals young enough to be repeated, in the order sent. */
function createRecent() {
  let records: PlannedRecord[] = [];
  let first = 0;
  return {
    add(record: PlannedRecord): void {
      records.push(record);
    },
    /** @param lot [0, 1) */
    pick(now: number, lot: number): PlannedRecord | null {
      while (first < records.length && records[first]!.ts < now - DUPLICATE_AGE_MS_MAX) first += 1;
      if (first > records.length / 2) {
        records = records.slice(first);
        first = 0;
      }
      const count = records.length - first;
      return count === 0 ? null : records[first + Math.floor(lot * count)]!;
    },
  };
}
