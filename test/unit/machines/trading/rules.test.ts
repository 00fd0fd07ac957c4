import { describe, expect, it } from "vitest";

import {
  accept,
  actionFor,
  confidenceOf,
  cut4,
  emptyWindow,
  type Judgement,
  judge,
  majority,
  type OpenWindow,
  orderFor,
  reasonFor,
  round8,
  type Summary,
  summarize,
  windowDue,
  windowStart,
} from "../../../../src/machines/trading/rules.ts";
import { parsed, type SignalFields, START } from "./signals.ts";

function windowOf(signals: ReadonlyArray<Partial<SignalFields>>): OpenWindow {
  return signals.reduce<OpenWindow>((window, fields) => accept(window, parsed(fields)), emptyWindow(START));
}

function summary(fields: Partial<Summary> = {}): Summary {
  return {
    timeframe: "1m",
    start: START,
    buys: 0,
    sells: 0,
    price: 100,
    deviation: 0,
    latest: [taken("a")],
    ...fields,
  };
}

function taken(identity: string, fields: { ts?: number; qty?: number } = {}) {
  return { identity, ts: START, qty: 1, price: 100, ...fields };
}

describe("windows", () => {
  it.each([
    [0, 0],
    [299_999, 0],
    [300_000, 300_000],
    [START, START],
    [START + 299_999, START],
    [253_402_300_799_999, 253_402_300_500_000],
  ])("ts %d falls into the window of %d", (ts, start) => {
    expect(windowStart(ts)).toBe(start);
  });

  it("is due when nothing that is not late can fall into it", () => {
    expect(windowDue(300_000)).toBe(610_000);
  });

  it("counts all sides, and takes price and population deviation of the latest 10", () => {
    // 12 signals at 1..12: the latest 10 are 3..12, mean 7.5, deviation sqrt((10^2 - 1) / 12) = sqrt(8.25).
    const window = windowOf(
      Array.from({ length: 12 }, (_, i) => ({ price: i + 1, side: i % 3 === 0 ? "SELL" : "BUY", id: `s${i}` })),
    );
    const { buys, sells, price, deviation, latest } = summarize("5m", window);
    expect({ buys, sells, price, deviation }).toEqual({ buys: 8, sells: 4, price: 7.5, deviation: Math.sqrt(8.25) });
    expect(latest.map(({ identity }) => identity)).toEqual(Array.from({ length: 10 }, (_, i) => `s${i + 2}`));
  });

  it("takes latest in order of acceptance, not of ts", () => {
    const window = windowOf([
      { id: "a", ts: START + 5 },
      { id: "b", ts: START + 3 },
    ]);
    expect(window.latest.map(({ identity }) => identity)).toEqual(["a", "b"]);
  });

  it("names a signal without id by its content, without the mark", () => {
    expect(windowOf([{ qty: 2, price: 3.5 }]).latest[0]?.identity).toBe(`BUY|2|3.5|${START}`);
  });

  it.each([
    [2, 1, "BUY"],
    [1, 2, "SELL"],
    [3, 3, "NONE"],
    [0, 0, "NONE"],
  ])("%d buys and %d sells have the majority %s", (buys, sells, expected) => {
    expect(majority({ buys, sells })).toBe(expected);
  });
});

describe("decisions", () => {
  it.each([
    [6, "STRONG_BUY"],
    [5, "BUY"],
    [3, "BUY"],
    [2, "HOLD"],
    [0, "HOLD"],
    [-2, "HOLD"],
    [-3, "SELL"],
    [-5, "SELL"],
    [-6, "STRONG_SELL"],
  ])("a balance of %d is %s", (balance, action) => {
    expect(actionFor(balance)).toBe(action);
  });

  it.each([
    // alignment * 0.4 + min(1, |balance| / 10) * 0.4 + max(0.3, 1 - volatility / 100) * 0.2
    [{ alignment: 1, balance: 10, volatility: 0 }, 1],
    [{ alignment: 1, balance: -25, volatility: 0 }, 1],
    [{ alignment: 1, balance: 3, volatility: 0 }, 0.4 + 0.12 + 0.2],
    [{ alignment: 0.5, balance: 6, volatility: 0 }, 0.2 + 0.24 + 0.2],
    [{ alignment: 0.5, balance: -7, volatility: 50 }, 0.2 + 0.28 + 0.1],
    [{ alignment: 1, balance: 4, volatility: 70 }, 0.4 + 0.16 + 0.06],
    [{ alignment: 1, balance: 4, volatility: 1000 }, 0.4 + 0.16 + 0.06],
  ])("%o has a confidence of %d", (of, confidence) => {
    expect(confidenceOf(of)).toBeCloseTo(confidence, 12);
  });

  it.each([
    ["STRONG_BUY", 1, "ALIGNED_SIGNALS"],
    ["STRONG_SELL", 0.5, "MOMENTUM_SHIFT"],
    ["BUY", 0.5, "ALIGNED_SIGNALS"],
    ["SELL", 1, "ALIGNED_SIGNALS"],
    ["HOLD", 0.5, "DIVERGENT_SIGNALS"],
    ["HOLD", 1, "INSUFFICIENT_DATA"],
  ] as const)("%s at alignment %d is for %s", (action, alignment, reason) => {
    expect(reasonFor(action, alignment)).toBe(reason);
  });

  it.each([
    ["STRONG_BUY", 6, 0.998],
    ["BUY", 4, 0.999],
    ["HOLD", 0, 1],
    ["SELL", -4, 1.001],
    ["STRONG_SELL", -6, 1.002],
  ])("%s suggests the mean price times its factor", (action, balance, factor) => {
    const sides = balance > 0 ? { buys: balance } : { sells: -balance };
    const judgement = judge([summary({ ...sides, price: 100 }), summary({ timeframe: "5m", price: 200 })]);
    expect(judgement).toMatchObject({ action, price: 150 * factor });
  });

  it("is aligned when all majorities are one side, and a tie is no side", () => {
    const reasonOf = (...windows: Partial<Summary>[]) => judge(windows.map(summary)).reason;
    expect(reasonOf({ buys: 3 }, { buys: 4 })).toBe("ALIGNED_SIGNALS");
    expect(reasonOf({ buys: 9 }, { sells: 1 })).toBe("MOMENTUM_SHIFT");
    expect(reasonOf({ buys: 9 }, { buys: 1, sells: 1 })).toBe("MOMENTUM_SHIFT");
    expect(reasonOf({}, {})).toBe("DIVERGENT_SIGNALS");
    expect(reasonOf({ buys: 1 }, { buys: 1 })).toBe("INSUFFICIENT_DATA");
    expect(reasonOf({ buys: 3 }, { buys: 4 }, { sells: 1 })).toBe("MOMENTUM_SHIFT");
  });

  it("holds with a confidence of 0.5 and no quantity", () => {
    expect(judge([summary({ buys: 1 }), summary({ sells: 1 })])).toMatchObject({
      action: "HOLD",
      confidence: 0.5,
      qty: 0,
    });
  });

  it("takes the volatility as the mean of the deviations", () => {
    const { confidence } = judge([
      summary({ buys: 4, deviation: 10 }),
      summary({ timeframe: "5m", buys: 6, deviation: 30 }),
    ]);
    expect(confidence).toBeCloseTo(0.4 + 0.4 + 0.8 * 0.2, 12);
  });

  it("orders signals by ts, then timeframe, then acceptance", () => {
    const judgement = judge([
      summary({
        latest: [
          taken("1m-late", { ts: START + 9 }),
          taken("1m-a", { ts: START + 5 }),
          taken("1m-b", { ts: START + 5 }),
        ],
      }),
      summary({ timeframe: "5m", latest: [taken("5m-first", { ts: START }), taken("5m", { ts: START + 5 })] }),
      summary({ timeframe: "15m", latest: [taken("15m", { ts: START + 5 })] }),
    ]);
    expect(judgement.signals).toEqual(["5m-first", "1m-a", "1m-b", "5m", "15m", "1m-late"]);
  });

  it("names the last 20 signals, and means the quantity of the last 5, cut to 4 decimals", () => {
    const ten = (name: string, from: number) =>
      Array.from({ length: 10 }, (_, i) => taken(`${name}${i}`, { ts: from + i, qty: from + i - START + 1 }));
    const judgement = judge([
      summary({ buys: 9, latest: ten("a", START) }),
      summary({ timeframe: "5m", buys: 9, latest: ten("b", START + 10) }),
      summary({
        timeframe: "15m",
        buys: 9,
        latest: ten("c", START + 20).map((signal, i) => ({ ...signal, qty: i < 9 ? 1 : 1.00035 })),
      }),
    ]);
    expect(judgement.signals).toEqual(
      [...ten("b", START + 10), ...ten("c", START + 20)].map(({ identity }) => identity),
    );
    // (1 + 1 + 1 + 1 + 1.00035) / 5 = 1.00007, cut to 1.
    expect(judgement.qty).toBe(1);
  });

  it("means the quantity of fewer signals when there are fewer than 5", () => {
    const { qty } = judge([
      summary({ buys: 9, latest: [taken("a", { qty: 1 })] }),
      summary({ timeframe: "5m", latest: [taken("b", { qty: 2 })] }),
    ]);
    expect(qty).toBe(1.5);
  });
});

describe("orders", () => {
  const judgement = (fields: Partial<Judgement>): Judgement => ({
    action: "BUY",
    confidence: 0.8,
    price: 100,
    qty: 1,
    reason: "ALIGNED_SIGNALS",
    signals: [],
    ...fields,
  });

  it.each([
    ["BUY", 0.65, 1],
    ["STRONG_BUY", 0.65, 1.2],
    ["SELL", 0.825, 5.5],
    ["STRONG_SELL", 0.825, 6.6],
    ["BUY", 1, 10],
    // (1 + 9 * 0.3 / 0.35) * 1.2 = 10.457
    ["STRONG_BUY", 0.95, 10],
    // 1 + 9 * 0.07 / 0.35
    ["BUY", 0.72, 2.8],
  ] as const)("%s at %d orders %d", (action, confidence, qty) => {
    expect(orderFor(judgement({ action, confidence }))?.qty).toBe(qty);
  });

  it.each([
    ["BUY", "BUY"],
    ["STRONG_BUY", "BUY"],
    ["SELL", "SELL"],
    ["STRONG_SELL", "SELL"],
  ] as const)("%s is an order to %s", (action, side) => {
    expect(orderFor(judgement({ action }))?.side).toBe(side);
  });

  it("orders nothing for HOLD or below 0.65, judged before rounding", () => {
    expect(orderFor(judgement({ action: "HOLD", confidence: 1 }))).toBeNull();
    expect(orderFor(judgement({ confidence: 0.6499999999 }))).toBeNull();
  });

  it("orders at the rounded price", () => {
    expect(orderFor(judgement({ price: 1.123456789 }))?.price).toBe(1.12345679);
  });
});

describe("numbers", () => {
  it.each([
    // Halves that doubles hold exactly: n / 2^k times 1e8 ends in .5.
    [0.001953125, 0.00195312], // 195312.5 -> even 195312
    [0.005859375, 0.00585938], // 585937.5 -> even 585938
    [1.001953125, 1.00195312],
    [0.123456784, 0.12345678],
    [0.123456786, 0.12345679],
    [0.5, 0.5],
    [0, 0],
    [1_002_000_000, 1_002_000_000],
  ])("%d is rounded half-even to %d", (value, rounded) => {
    expect(round8(value)).toBe(rounded);
  });

  it.each([
    [1.23459, 1.2345],
    [0.00009, 0],
    [7, 7],
  ])("%d is cut to %d", (value, cut) => {
    expect(cut4(value)).toBe(cut);
  });
});
