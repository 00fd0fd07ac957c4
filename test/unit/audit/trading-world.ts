/**
 * The correct run that the audit's tests spoil: two shards, three symbols, two owners, and one or more of everything: duplicates,
 * late signals, bad records of several kinds, a verdict on a record, ticks that close windows, runs with control records between.
 */
import type { SourceRecord } from "../../../src/audit/sources.ts";
import { type CommitPlan, makeWorld, START_MS, signalRecord, TOPICS, type World } from "./world.ts";

const [M1, M5, M15] = TOPICS;
const BTC = "BTC-USD";
const ETH = "ETH-USD";
const SOL = "SOL-USD";

export function tradingWorld(options: { relayed?: boolean } = {}): World {
  const world = makeWorld(records(), PLANS, options.relayed);
  world.manifest = {
    sent: {
      ...{ total: 35, distinct: 27, duplicates: 2, late: 1, bad: 6 },
      badByKind: { "not-json": 1, "no-key": 1, "key-differs": 1, "side-unknown": 1, "ts-ahead": 1, refused: 1 },
    },
  };
  return world;
}

function records(): SourceRecord[] {
  const list: SourceRecord[] = [];
  const add = (
    topic: string,
    partition: number,
    offset: number,
    fields: Record<string, unknown> & { symbol: string; ts: number },
  ) => list.push(signalRecord({ topic, partition, offset }, fields));
  const t = (s: number) => START_MS + s * 1000;

  // Shard 0: 1m has a control record at 5, 5m at 3.
  for (const [i, offset] of [0, 1, 2, 3, 4, 6, 7].entries()) {
    add(M1, 0, offset, { symbol: BTC, side: "BUY", qty: 1 + i, price: String(100 + i), ts: t(i), id: `one-${i}` });
  }
  add(M1, 0, 8, { symbol: BTC, side: "BUY", qty: 1, price: "100", ts: t(0), id: "one-0" }); // duplicate
  list.push(
    signalRecord({ topic: M1, partition: 0, offset: 9 }, { symbol: BTC, ts: t(8) }, { value: Buffer.from("{no json") }),
  );
  for (const [i, offset] of [0, 1, 2, 4].entries()) {
    add(M5, 0, offset, { symbol: BTC, side: i === 3 ? "SELL" : "BUY", qty: "0.5", price: 101.5, ts: t(3 + i) });
  }
  add(M5, 0, 5, { symbol: BTC, side: "SELL", qty: "0.50", price: 101.5, ts: t(6) }); // duplicate by content
  add(M15, 0, 0, { symbol: BTC, side: "BUY", qty: 3, price: 99, ts: t(7) });
  list.push(
    signalRecord(
      { topic: M15, partition: 0, offset: 1 },
      { symbol: BTC, ts: t(8), side: "BUY", qty: 1, price: 1 },
      { key: null },
    ),
  );
  add(M15, 0, 2, { symbol: BTC, side: "BUY", qty: 3, price: 99, ts: t(320) }); // closes what is open
  add(M15, 0, 3, { symbol: BTC, side: "BUY", qty: 3, price: 99, ts: t(200) }); // late
  add(M15, 0, 4, { symbol: BTC, side: "BUY", qty: 4, price: 98, ts: t(321) }); // set aside by verdict
  add(M1, 0, 10, { symbol: BTC, side: "SELL", qty: 2, price: 97, ts: t(322) });

  // Shard 1: two symbols, one falling.
  for (let i = 0; i < 4; i += 1)
    add(M1, 1, i, { symbol: ETH, side: "SELL", qty: 2, price: 50 - i, ts: t(i), id: `e${i}` });
  for (let i = 0; i < 4; i += 1)
    add(M5, 1, i, { symbol: ETH, side: "SELL", qty: 2, price: 48, ts: t(4 + i), id: `e${i}` });
  add(M1, 1, 4, { symbol: SOL, side: "BUY", qty: 1, price: 20, ts: t(9) });
  add(M5, 1, 4, { symbol: SOL, side: "BUY", qty: 1, price: 20, ts: t(9) });
  add(M5, 1, 5, { symbol: SOL, side: "BUY", qty: 1, price: 21, ts: t(10) });
  add(M5, 1, 6, { symbol: SOL, side: "BUY", qty: 1, price: 21, ts: t(11) });
  add(M5, 1, 7, { symbol: SOL, side: "HOLD", qty: 1, price: 21, ts: t(12) });
  list.push(
    signalRecord(
      { topic: M5, partition: 1, offset: 8 },
      { symbol: SOL, side: "BUY", qty: 1, price: 21, ts: t(13) },
      { key: Buffer.from(ETH) },
    ),
  );
  list.push(
    signalRecord(
      { topic: M15, partition: 1, offset: 0 },
      { symbol: SOL, side: "BUY", qty: 1, price: 21, ts: t(900) },
      { timestampMs: BigInt(t(12)) },
    ),
  );
  return list;
}

const PLANS: readonly CommitPlan[] = [
  {
    shard: 0,
    take: [
      { topic: M1, offsets: [0, 1, 2] },
      { topic: M5, offsets: [0] },
      { topic: M1, offsets: [3, 4, 6] },
      { topic: M5, offsets: [1, 2, 4] },
    ],
  },
  {
    shard: 0,
    take: [
      { topic: M1, offsets: [7, 8, 9] },
      { topic: M5, offsets: [5] },
      { topic: M15, offsets: [0, 1] },
    ],
  },
  {
    shard: 0,
    epoch: 2,
    take: [
      { topic: M15, offsets: [2, 3, 4] },
      { topic: M1, offsets: [10] },
    ],
    verdicts: [{ topic: M15, offset: 4, code: "ROW_REFUSED" }],
  },
  { shard: 0, epoch: 2, take: [{ tickMs: START_MS + 610_000, timers: 1 }] },
  { shard: 0, epoch: 2, take: [{ tickMs: START_MS + 615_000, timers: 1 }] },
  {
    shard: 1,
    take: [
      { topic: M1, offsets: [0, 1, 2, 3] },
      { topic: M5, offsets: [0, 1] },
    ],
  },
  {
    shard: 1,
    take: [
      { topic: M5, offsets: [2, 3] },
      { topic: M1, offsets: [4] },
      { topic: M5, offsets: [4, 5, 6] },
    ],
  },
  {
    shard: 1,
    take: [
      { topic: M5, offsets: [7, 8] },
      { topic: M15, offsets: [0] },
    ],
  },
  {
    shard: 1,
    take: [
      {
        tickMs: START_MS + 310_000,
        timers: 4,
        timerVerdicts: [["i", "window", `${SOL}/5m`, "close", START_MS + 310_000, "ROW_REFUSED", "refused"]],
      },
    ],
  },
];
