/**
 * The audit's own fold of the trading app against values computed by hand from docs/trading.md.
 *
 * The arithmetic stands beside each case; nothing here was taken from what the code gave.
 */
import { createHash } from "node:crypto";

import { describe, expect, test } from "vitest";

import type { ExpectedEffect, ShardFold } from "../../../src/audit/rules.ts";
import { roundHalfEven8 } from "../../../src/machines/trading/audit/decide.ts";
import { createTradingRules } from "../../../src/machines/trading/audit/index.ts";
import { type BadSignal, type GoodSignal, judgeSignal } from "../../../src/machines/trading/audit/judge.ts";
import { idsOfSignal, uuid5 } from "../../../src/machines/trading/audit/uuid.ts";
import { START_MS, signalRecord } from "./world.ts";

const BTC = "BTC-USD";

interface Given {
  readonly timeframe?: "1m" | "5m" | "15m";
  readonly side?: "BUY" | "SELL";
  readonly qty?: number | string;
  readonly price?: number | string;
  /** s after the start of the window. */
  readonly s: number;
  readonly id?: string;
  readonly symbol?: string;
}

/** A fold, with what it expects as it goes. */
function folding() {
  const effects: Array<[stream: string, effect: ExpectedEffect]> = [];
  const fold: ShardFold = createTradingRules().start(0, { expect: (stream, effect) => effects.push([stream, effect]) });
  let offset = 0;
  const of = (stream: string) => effects.filter(([name]) => name === stream).map(([, effect]) => effect);
  return {
    fold,
    take(...given: readonly Given[]) {
      for (const { timeframe = "1m", side = "BUY", qty = 1, price = 100, s, symbol = BTC, ...rest } of given) {
        const at = { topic: `trading.signal.${timeframe}`, partition: 0, offset };
        offset += 1;
        fold.record(signalRecord(at, { symbol, side, qty, price, ts: START_MS + s * 1000, ...rest }), null);
      }
    },
    decisions: () => of("trading.decisions").map(({ content }) => JSON.parse(String(content["value"]))),
    orders: () => of("app.orders").map(({ content }) => content),
    outbox: () => of("app.outbox").map(({ content }) => content),
    late: () => of("trading.late"),
  };
}

describe("ids", () => {
  test("UUIDv5 gives the value of RFC 9562, appendix A.4", () => {
    expect(uuid5("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "www.example.com")).toBe(
      "2ed6657d-e927-568b-95e1-2665a8aea6a2",
    );
  });

  test("a signal's ids are made of app, topic, partition, offset as text, and ordinal", () => {
    const namespace = Buffer.from("6f1d7c1e5f0b5e0a9d550c0ffee0c0de", "hex");
    const name = '["trading","trading.signal.5m",3,"41",1]';
    const hex = createHash("sha1").update(namespace).update(name).digest("hex");
    const { decision, order, event } = idsOfSignal({ topic: "trading.signal.5m", partition: 3, offset: 41n });
    expect(decision.slice(0, 13)).toBe(`${hex.slice(0, 8)}-${hex.slice(8, 12)}`);
    expect(decision[14]).toBe("5");
    expect(order).not.toBe(decision);
    expect(event).toBe(uuid5(order, "outbox"));
  });
});

test("rounding goes to the nearest, and to the even one where two are as near", () => {
  // Powers of two, so that x * 1e8 is exact: 1e8 / 2^9 = 195312.5, 3e8 / 2^9 = 585937.5.
  expect(roundHalfEven8(1 / 512)).toBe(0.00195312);
  expect(roundHalfEven8(3 / 512)).toBe(0.00585938);
  expect(roundHalfEven8(0.123456784)).toBe(0.12345678);
  expect(roundHalfEven8(0.123456786)).toBe(0.12345679);
  expect(roundHalfEven8(0)).toBe(0);
});

describe("decisions", () => {
  test("none is made while one timeframe is alone", () => {
    const run = folding();
    run.take({ s: 0 }, { s: 1 }, { s: 2 });
    expect(run.decisions()).toEqual([]);
  });

  test("HOLD: balance 2 of two windows that agree", () => {
    const run = folding();
    run.take({ s: 0, id: "a" }, { timeframe: "5m", s: 1, price: 102 });
    expect(run.decisions()).toEqual([
      {
        ...{
          id: idsOfSignal({ topic: "trading.signal.5m", partition: 0, offset: 1n }).decision,
          symbol: BTC,
          action: "HOLD",
        },
        // Price (100 + 102) / 2; confidence and quantity as for every HOLD.
        ...{
          confidence: 0.5,
          suggested_price: 101,
          suggested_qty: 0,
          timestamp: START_MS + 1000,
          reason: "INSUFFICIENT_DATA",
        },
        signals: ["a", `BUY|1|102|${START_MS + 1000}`],
      },
    ]);
    expect(run.orders()).toEqual([]);
  });

  test("BUY: balance 3, with its order and event", () => {
    const run = folding();
    run.take(
      { s: 0, qty: 1, id: "a" },
      { timeframe: "5m", s: 1, qty: 2, id: "b" },
      { s: 2, qty: "3", price: "102", id: "c" },
    );
    const ids = idsOfSignal({ topic: "trading.signal.1m", partition: 0, offset: 2n });
    // 1m: prices 100, 102: mean 101, deviation 1. 5m: 100, 0. Price 100.5, volatility 0.5, balance 3.
    // confidence = 0.4 + 0.3 * 0.4 + 0.995 * 0.2 = 0.719; 100.5 * 0.999 = 100.3995; quantity (1 + 2 + 3) / 3.
    expect(run.decisions()[1]).toEqual({
      ...{
        id: ids.decision,
        symbol: BTC,
        action: "BUY",
        confidence: 0.719,
        suggested_price: 100.3995,
        suggested_qty: 2,
      },
      ...{ signals: ["a", "b", "c"], timestamp: START_MS + 2000, reason: "ALIGNED_SIGNALS" },
    });
    // 1 + 9 * 0.069 / 0.35 = 2.774285714...
    const order = { symbol: BTC, side: "BUY", qty: "2.77428571", price: "100.39950000", status: "NEW" };
    const clientOrderId = `lk-${ids.decision}`;
    const time = String(START_MS + 2000);
    expect(run.orders()).toEqual([{ clientOrderId, ...order, createdMs: time, updatedMs: time }]);
    expect(run.outbox()).toMatchObject([
      { aggregateType: "order", aggregateId: ids.order, type: "OrderPlaced", occurredMs: time },
    ]);
    expect(JSON.parse(String(run.outbox()[0]!["payload"]))).toEqual({
      ...{ order_id: ids.order, client_order_id: clientOrderId, decision_id: ids.decision, ...order },
      created_at: START_MS + 2000,
    });
  });

  test("STRONG_BUY: balance 7, and its order is a fifth larger", () => {
    const run = folding();
    for (const s of [0, 1, 2, 3]) run.take({ s });
    for (const s of [4, 5, 6]) run.take({ timeframe: "5m", s, qty: 2.00009 });
    // 0.4 + 0.7 * 0.4 + 0.2 = 0.88; 100 * 0.998; the last five: 1, 1, and three of 2.00009: 8.00027 / 5 = 1.600054, cut.
    expect(run.decisions().at(-1)).toMatchObject({
      ...{
        action: "STRONG_BUY",
        confidence: 0.88,
        suggested_price: 99.8,
        suggested_qty: 1.6,
        reason: "ALIGNED_SIGNALS",
      },
    });
    // (1 + 9 * 0.23 / 0.35) * 1.2 = 8.297142857...
    expect(run.orders().at(-1)).toMatchObject({ side: "BUY", qty: "8.29714286", price: "99.80000000" });
  });

  test("STRONG_SELL against one other window is MOMENTUM_SHIFT, and below 0.65 there is no order", () => {
    const run = folding();
    for (const s of [0, 1, 2, 3, 4, 5, 6]) run.take({ s, side: "SELL" });
    run.take({ timeframe: "5m", s: 7, side: "BUY" });
    // balance -6: 0.5 * 0.4 + 0.6 * 0.4 + 0.2 = 0.64; 100 * 1.002.
    expect(run.decisions()).toMatchObject([
      { action: "STRONG_SELL", confidence: 0.64, suggested_price: 100.2, suggested_qty: 1, reason: "MOMENTUM_SHIFT" },
    ]);
    expect(run.orders()).toEqual([]);
    run.take({ s: 8, side: "SELL" });
    // balance -7: 0.2 + 0.28 + 0.2 = 0.68; (1 + 9 * 0.03 / 0.35) * 1.2 = 2.125714285...
    expect(run.orders()).toMatchObject([{ side: "SELL", qty: "2.12571429", price: "100.20000000" }]);
  });

  test("SELL: balance -3; the deviation weighs at most 70 percent", () => {
    const run = folding();
    run.take(
      { s: 0, side: "SELL", price: 100 },
      { s: 1, side: "SELL", price: 700 },
      { timeframe: "5m", s: 2, side: "SELL", price: 400 },
    );
    // 1m: mean 400, deviation 300; volatility 150: max(0.3, -0.5) * 0.2 = 0.06. 0.4 + 0.12 + 0.06 = 0.58; 400 * 1.001.
    expect(run.decisions()).toMatchObject([
      { action: "SELL", confidence: 0.58, suggested_price: 400.4, reason: "ALIGNED_SIGNALS" },
    ]);
    expect(run.orders()).toEqual([]);
  });

  test("a window without majority does not align, and HOLD is then DIVERGENT_SIGNALS", () => {
    const run = folding();
    run.take({ s: 0, side: "BUY" }, { s: 1, side: "SELL" }, { timeframe: "5m", s: 2, side: "BUY" });
    expect(run.decisions()).toMatchObject([{ action: "HOLD", reason: "DIVERGENT_SIGNALS" }]);
  });

  test("confidence is at most 1, an order at most 10", () => {
    const run = folding();
    for (let s = 0; s < 12; s += 1) run.take({ s });
    run.take({ timeframe: "5m", s: 12 }, { timeframe: "15m", s: 13 });
    expect(run.decisions()).toMatchObject([{ confidence: 1 }, { confidence: 1 }]);
    // 10 * 1.2, cut to 10.
    expect(run.orders()).toMatchObject([{ qty: "10.00000000" }, { qty: "10.00000000" }]);
  });

  test("of a window the latest 10 count, of all signals the last 20 are named, by time and timeframe", () => {
    const run = folding();
    for (let i = 0; i < 11; i += 1) run.take({ s: i, price: i === 0 ? 900 : 100, id: `m${i}` });
    for (let i = 0; i < 11; i += 1) run.take({ timeframe: "5m", s: i, id: `f${i}` });
    run.take({ timeframe: "15m", s: 5, id: "q" });
    const last = run.decisions().at(-1);
    expect(last.suggested_price).toBe(99.8); // the 900 of m0 has left the window's latest
    const pairs = Array.from({ length: 10 }, (_, i) => [`m${i + 1}`, `f${i + 1}`, ...(i === 4 ? ["q"] : [])]).flat();
    expect(last.signals).toEqual(pairs.slice(-20));
    expect(pairs).toHaveLength(21);
  });

  test("windows of different starts, and of different symbols, do not meet", () => {
    const run = folding();
    run.take({ s: 299 }, { timeframe: "5m", s: 300 }, { timeframe: "5m", s: 300, symbol: "ETH-USD" });
    expect(run.decisions()).toEqual([]);
    run.take({ timeframe: "5m", s: 295 });
    expect(run.decisions()).toHaveLength(1);
  });
});

describe("duplicates, lateness, windows", () => {
  test("a signal seen in the same window is a duplicate: by id, or without one by parsed content", () => {
    const run = folding();
    run.take({ s: 0, id: "a" }, { s: 5, id: "a", price: 7 }, { s: 1, qty: "1.50" }, { s: 1, qty: 1.5 });
    run.take({ s: 2, id: "a|b" }, { timeframe: "5m", s: 3, id: "a" }, { s: 310 });
    expect(run.fold.counters()).toMatchObject({ duplicatesIgnored: 2 });
    expect(run.fold.figures()).toMatchObject({ distinct: 5 });
  });

  test("an id and a content that read alike do not meet", () => {
    const run = folding();
    run.take({ s: 1 }, { s: 1, id: `BUY|1|100|${START_MS + 1000}` });
    expect(run.fold.counters()).toMatchObject({ duplicatesIgnored: 0 });
  });

  test("a duplicate moves stream time, a late signal does not", () => {
    const run = folding();
    run.take({ s: 0, id: "a" }, { s: 50, id: "a" });
    expect(run.fold.streamTimeMs()).toBe(START_MS + 50_000);
    run.take({ s: 40, id: "in time" }, { s: 39.999, id: "late" });
    expect(run.fold.streamTimeMs()).toBe(START_MS + 50_000);
    expect(run.late().map((effect) => [effect.id, effect.content["behindMs"]])).toEqual([
      ["trading.signal.1m/0/3", "10001"],
    ]);
    expect(run.fold.counters()).toMatchObject({ late: 1 });
    expect(run.fold.figures()).toMatchObject({ distinct: 3 });
  });

  test("a bad record moves nothing", () => {
    const run = folding();
    run.take({ s: 0 }, { s: 100, qty: 0 });
    expect(run.fold.streamTimeMs()).toBe(START_MS);
    expect(run.fold.counters()).toMatchObject({ quarantined: 1 });
  });

  test("windows close when stream time reaches start + 310 s, by a record or by a tick", () => {
    const run = folding();
    run.take({ s: 0 }, { timeframe: "5m", s: 1 }, { s: 309.999 });
    expect(run.fold.counters()).toMatchObject({ windowsClosed: 0 });
    run.take({ s: 310, id: "x" });
    expect(run.fold.counters()).toMatchObject({ windowsClosed: 2, timersFired: 2 });
    run.fold.tick({ streamTimeMs: START_MS + 610_000, timers: 1, verdicts: [] });
    expect(run.fold.counters()).toMatchObject({ windowsClosed: 3 });
    expect(run.fold.streamTimeMs()).toBe(START_MS + 610_000);
  });

  test("a tick closes as many windows as it fired timers; the next record closes the rest", () => {
    const run = folding();
    run.take({ s: 0 }, { timeframe: "5m", s: 0 }, { timeframe: "15m", s: 0 });
    run.fold.tick({ streamTimeMs: START_MS + 310_000, timers: 2, verdicts: [] });
    expect(run.fold.counters()).toMatchObject({ windowsClosed: 2 });
    run.take({ s: 305 });
    expect(run.fold.counters()).toMatchObject({ windowsClosed: 3 });
  });
});

describe("which records are signals", () => {
  const GOOD = { symbol: BTC, side: "BUY", qty: 1, price: 2, timeframe: "1m", ts: START_MS };
  const judged = (value: unknown, more: { key?: string | null; timestampMs?: bigint } = {}) =>
    judgeSignal({
      ...{
        topic: "trading.signal.1m",
        partition: 0,
        offset: 0n,
        timestampMs: more.timestampMs ?? BigInt(START_MS),
        headers: [],
      },
      key: more.key === null ? null : Buffer.from(more.key ?? BTC),
      value: value === null ? null : Buffer.isBuffer(value) ? value : Buffer.from(JSON.stringify(value)),
    });
  const good = (value: unknown, more?: Parameters<typeof judged>[1]) => judged(value, more) as GoodSignal;
  const codes = (value: unknown, more?: Parameters<typeof judged>[1]) => (judged(value, more) as BadSignal).codes;

  test("a good one is read, decimal text as a double, other fields ignored", () => {
    expect(good({ ...GOOD, qty: "0.10", price: "1000000000", other: null })).toEqual({
      ...{ symbol: BTC, timeframe: "1m", side: "BUY", qty: 0.1, price: 1e9, ts: START_MS },
      identity: `c:BUY|0.1|1000000000|${START_MS}`,
    });
    expect(good({ ...GOOD, id: "x" }).identity).toBe("i:x");
    expect(good({ ...GOOD, qty: 1e-8, ts: 0 })).toMatchObject({ qty: 1e-8, ts: 0 });
    expect(good(GOOD, { timestampMs: BigInt(START_MS - 60_000) }).ts).toBe(START_MS);
    expect(good(GOOD, { timestampMs: -1n }).ts).toBe(START_MS);
  });

  test.each([
    ["no JSON", Buffer.from("{"), "RECORD_UNDECODABLE"],
    ["no UTF-8", Buffer.from('{"a":"\xff"}', "latin1"), "RECORD_UNDECODABLE"],
    ["no value", null, "RECORD_UNDECODABLE"],
    ["a list", [GOOD], "RECORD_REFUSED"],
    ["lower case", { ...GOOD, symbol: "btc-usd" }, "RECORD_REFUSED"],
    ["a symbol too long", { ...GOOD, symbol: "A".repeat(33) }, "RECORD_REFUSED"],
    ["another side", { ...GOOD, side: "HOLD" }, "RECORD_REFUSED"],
    ["another timeframe", { ...GOOD, timeframe: "5m" }, "RECORD_REFUSED"],
    ["no quantity", { ...GOOD, qty: undefined }, "RECORD_REFUSED"],
    ["quantity 0", { ...GOOD, qty: 0 }, "RECORD_REFUSED"],
    ["quantity below 1e-8", { ...GOOD, qty: 9e-9 }, "RECORD_REFUSED"],
    ["a price above 1e9", { ...GOOD, price: 1e9 + 1 }, "RECORD_REFUSED"],
    ["exponent text", { ...GOOD, price: "1e3" }, "RECORD_REFUSED"],
    ["signed text", { ...GOOD, price: "+1" }, "RECORD_REFUSED"],
    ["an id of null", { ...GOOD, id: null }, "RECORD_REFUSED"],
    ["an empty id", { ...GOOD, id: "" }, "RECORD_REFUSED"],
    ["an id too long", { ...GOOD, id: "x".repeat(201) }, "RECORD_REFUSED"],
    ["half a ms", { ...GOOD, ts: START_MS + 0.5 }, "RECORD_REFUSED"],
    ["a negative time", { ...GOOD, ts: -1 }, "RECORD_REFUSED"],
    ["a time beyond the year 9999", { ...GOOD, ts: 253402300800000 }, "RECORD_REFUSED"],
    ["a time as text", { ...GOOD, ts: String(START_MS) }, "RECORD_REFUSED"],
    ["a time 60,001 ms ahead", { ...GOOD, ts: START_MS + 60_001 }, "RECORD_TIME_INVALID"],
  ])("%s is bad", (_name, value, code) => {
    expect(codes(value)).toContain(code);
  });

  test("a record needs its symbol as its key", () => {
    expect(codes(GOOD, { key: null })).toEqual(["RECORD_WITHOUT_KEY"]);
    expect(codes(GOOD, { key: "" })).toEqual(["RECORD_WITHOUT_KEY"]);
    expect(codes(GOOD, { key: "ETH-USD" })).toEqual(["RECORD_KEY_MISMATCH"]);
  });
});
