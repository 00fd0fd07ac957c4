import { describe, expect, it } from "vitest";

import { type DeskEvent, desk } from "../../../../src/machines/trading/desk.ts";
import type { Timeframe } from "../../../../src/machines/trading/schemas.ts";
import { START } from "./signals.ts";
import { given, Stepper } from "./stepper.ts";

const KEY = "BTC-USD";

/** A window with `balance` more buys than sells; its one latest signal is named after it. */
function updated(
  timeframe: Timeframe,
  balance: number,
  fields: { start?: number; price?: number; deviation?: number; timestamp?: number } = {},
): DeskEvent {
  const { start = START, price = 100, deviation = 0, timestamp = start } = fields;
  return {
    type: "windowUpdated",
    symbol: KEY,
    timeframe,
    start,
    buys: Math.max(0, balance),
    sells: Math.max(0, -balance),
    price,
    deviation,
    latest: [{ identity: `${timeframe}:${balance}`, ts: timestamp, qty: 2, price }],
    timestamp,
    streamTimeMs: timestamp,
  };
}

function closed(timeframe: Timeframe, start = START): DeskEvent {
  return { type: "windowClosed", symbol: KEY, timeframe, start, streamTimeMs: start + 310_000 };
}

describe("desk", () => {
  it("decides nothing with one timeframe, however often it is updated", () => {
    given(desk, KEY, [updated("1m", 8)])
      .when(updated("1m", 9))
      .then([]);
  });

  it("decides and orders once two timeframes are there", () => {
    given(desk, KEY, [updated("1m", 6, { price: 100 })])
      .when(updated("5m", 5, { price: 200, timestamp: START + 7 }))
      .then([
        {
          type: "decided",
          symbol: KEY,
          action: "STRONG_BUY",
          confidence: 1,
          price: 149.7,
          qty: 2,
          signals: ["1m:6", "5m:5"],
          timestamp: START + 7,
          reason: "ALIGNED_SIGNALS",
        },
        { type: "orderPlaced", symbol: KEY, side: "BUY", qty: 10, price: 149.7, timestamp: START + 7 },
      ]);
  });

  it("decides at every further signal, with the newest summary of each window", () => {
    given(desk, KEY, [updated("1m", 6), updated("5m", 6), updated("1m", 1)])
      .when(updated("5m", 0))
      .then([
        {
          type: "decided",
          action: "HOLD",
          confidence: 0.5,
          price: 100,
          qty: 0,
          reason: "DIVERGENT_SIGNALS",
          signals: ["1m:1", "5m:0"],
        },
      ]);
  });

  it("places no order below the threshold", () => {
    // 0.5 * 0.4 + 0.6 * 0.4 + 0.2 = 0.64
    given(desk, KEY, [updated("1m", 7)])
      .when(updated("5m", -1))
      .then([{ type: "decided", action: "STRONG_BUY", confidence: 0.64, reason: "MOMENTUM_SHIFT" }]);
  });

  it("sells as it buys", () => {
    // 0.4 + 0.4 * 0.4 + 0.2 = 0.76; qty 1 + 9 * 0.11 / 0.35
    given(desk, KEY, [updated("1m", -2)])
      .when(updated("5m", -2))
      .then([
        { type: "decided", action: "SELL", confidence: 0.76, price: 100.1 },
        { type: "orderPlaced", side: "SELL", qty: 3.82857143, price: 100.1 },
      ]);
  });

  it("D1: takes summaries in the order of timeframes, whichever came first", () => {
    const events = [updated("15m", 1), updated("1m", 1), updated("5m", 1)];
    for (const [first, second, third] of [events, events.toReversed()]) {
      given(desk, KEY, [first!, second!])
        .when(third!)
        .then([{ type: "decided", signals: ["1m:1", "5m:1", "15m:1"] }, { type: "orderPlaced" }]);
    }
  });

  it("D2: never mixes windows of two starts", () => {
    const later = START + 300_000;
    given(desk, KEY, [updated("1m", 9), updated("5m", 9), updated("15m", -1, { start: later })])
      .when(updated("1m", -2, { start: later }))
      .then([{ type: "decided", action: "SELL", signals: ["1m:-2", "15m:-1"] }, { type: "orderPlaced" }]);
  });

  it("D3: decides without a closed window, and forgets a start without windows", () => {
    const stepper = given(desk, KEY, [updated("1m", 9), updated("5m", 9), updated("15m", 9), closed("1m")])
      .when(updated("5m", 1))
      .then([{ type: "decided", signals: ["5m:1", "15m:9"] }, { type: "orderPlaced" }]);
    expect(stepper.send(closed("5m"))).toEqual([]);
    stepper.send(closed("15m"));
    expect(stepper.context).toEqual({ symbol: KEY, starts: [] });
  });

  it("D3: closing what it never had changes nothing", () => {
    const stepper = new Stepper(desk, KEY);
    stepper.send(updated("1m", 1));
    const before = stepper.context;
    stepper.send(closed("1m", START - 300_000));
    expect(stepper.context).toEqual(before);
  });
});
