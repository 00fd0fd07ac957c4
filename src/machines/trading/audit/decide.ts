/**
 * The arithmetic of a decision and of its order (docs/trading.md, "Windows", "Desk", "Orders"), written from the page.
 *
 * Doubles throughout: the order in which sums are taken is part of the rule, and results are compared exactly.
 */
import type { GoodSignal, Side } from "./judge.ts";

/** One window of one timeframe, as far as a decision looks at it. */
export interface WindowState {
  readonly buys: number;
  readonly sells: number;
  /** The latest 10 accepted signals, in order of acceptance. */
  readonly latest: readonly GoodSignal[];
}

export interface DecisionValues {
  readonly action: "STRONG_BUY" | "BUY" | "HOLD" | "SELL" | "STRONG_SELL";
  /** Rounded to 8 decimals, as the two after it. */
  readonly confidence: number;
  readonly suggestedPrice: number;
  readonly suggestedQty: number;
  /** Identities without their mark, oldest first, at most 20. */
  readonly signals: readonly string[];
  readonly reason: string;
  /** null when the decision places no order. */
  readonly order: { readonly side: Side; readonly qty: number; readonly price: number } | null;
}

const SIGNALS_TOLD = 20;
const SIGNALS_IN_QTY = 5;
const ORDER_CONFIDENCE_MIN = 0.65;
const ORDER_QTY_MAX = 10;
/** Of `price`, by action. */
const PRICE_FACTOR = { STRONG_BUY: 0.998, BUY: 0.999, HOLD: 1, STRONG_SELL: 1.002, SELL: 1.001 } as const;

/** @param windows 2 or 3 windows of one start, in the order 1m, 5m, 15m, none empty */
export function decide(windows: readonly WindowState[]): DecisionValues {
  const summaries = windows.map(summarize);
  const balance = sum(windows.map(({ buys, sells }) => buys - sells));
  const price = mean(summaries.map((summary) => summary.price));
  const volatility = mean(summaries.map((summary) => summary.deviation));
  const majority = summaries[0]?.majority;
  const aligned = majority !== "NONE" && summaries.every((summary) => summary.majority === majority);
  const alignment = aligned ? 1 : 0.5;

  const action = actionFor(balance);
  const strong = action === "STRONG_BUY" || action === "STRONG_SELL";
  const fromBalance = Math.min(1, Math.abs(balance) / 10) * 0.4;
  const fromCalm = Math.max(0.3, 1 - volatility / 100) * 0.2;
  const confidence = action === "HOLD" ? 0.5 : Math.min(1, alignment * 0.4 + fromBalance + fromCalm);
  const suggestedPrice = roundHalfEven8(action === "HOLD" ? price : price * PRICE_FACTOR[action]);

  // The sort is stable, so signals of one ts stay in the order of the timeframes, and of acceptance within one.
  const considered = windows.flatMap((window) => window.latest).sort((a, b) => a.ts - b.ts);
  const meanQty = mean(considered.slice(-SIGNALS_IN_QTY).map((signal) => signal.qty));

  return {
    action,
    confidence: roundHalfEven8(confidence),
    suggestedPrice,
    suggestedQty: action === "HOLD" ? 0 : roundHalfEven8(Math.trunc(meanQty * 1e4) / 1e4),
    signals: considered.slice(-SIGNALS_TOLD).map((signal) => signal.identity.slice(2)),
    reason: reasonFor(action, alignment),
    order:
      action === "HOLD" || confidence < ORDER_CONFIDENCE_MIN
        ? null
        : { side: balance > 0 ? "BUY" : "SELL", qty: orderQty(confidence, strong), price: suggestedPrice },
  };
}

/** To 8 decimals, a tie to the even one. */
export function roundHalfEven8(x: number): number {
  const scaled = x * 1e8;
  const below = Math.floor(scaled);
  const rest = scaled - below;
  if (rest < 0.5) return below / 1e8;
  if (rest > 0.5) return (below + 1) / 1e8;
  return (below % 2 === 0 ? below : below + 1) / 1e8;
}

function summarize({ buys, sells, latest }: WindowState): {
  price: number;
  deviation: number;
  majority: Side | "NONE";
} {
  const prices = latest.map((signal) => signal.price);
  const price = mean(prices);
  const variance = mean(prices.map((p) => (p - price) * (p - price)));
  return { price, deviation: Math.sqrt(variance), majority: buys > sells ? "BUY" : sells > buys ? "SELL" : "NONE" };
}

function actionFor(balance: number): DecisionValues["action"] {
  if (balance > 5) return "STRONG_BUY";
  if (balance > 2) return "BUY";
  if (balance < -5) return "STRONG_SELL";
  if (balance < -2) return "SELL";
  return "HOLD";
}

function reasonFor(action: DecisionValues["action"], alignment: number): string {
  switch (action) {
    case "STRONG_BUY":
    case "STRONG_SELL":
      return alignment > 0.8 ? "ALIGNED_SIGNALS" : "MOMENTUM_SHIFT";
    case "BUY":
    case "SELL":
      return "ALIGNED_SIGNALS";
    case "HOLD":
      return alignment < 0.6 ? "DIVERGENT_SIGNALS" : "INSUFFICIENT_DATA";
  }
}

/** @param confidence unrounded */
function orderQty(confidence: number, strong: boolean): number {
  const base = 1 + (9 * (confidence - ORDER_CONFIDENCE_MIN)) / 0.35;
  return roundHalfEven8(Math.min(ORDER_QTY_MAX, base * (strong ? 1.2 : 1)));
}

/** From 0, oldest first. */
function sum(numbers: readonly number[]): number {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}

function mean(numbers: readonly number[]): number {
  return sum(numbers) / numbers.length;
}
