/**
 * The arithmetic of the trading app: windows, decisions, orders. Pure functions of plain data, line by line as in
 * docs/trading.md, which wins over this file. Doubles throughout; what leaves the app is rounded here, at the edge.
 *
 * Invariants
 *   R1  Sums start at 0 and go oldest first, so the same signals give the same bits.
 *   R2  A decision is made on unrounded numbers; only what is emitted is rounded.
 */
import { addIdentity, type Identities, NO_IDENTITIES } from "./identities.ts";
import { type Action, type Reason, type Side, type Signal, TIMEFRAMES, type Timeframe } from "./schemas.ts";

export const WINDOW_MS = 300_000;
export const LATENESS_MS = 10_000;

/** Latest signals of a window, from which its price comes. */
const LATEST_MAX = 10;
/** Latest signals over the windows, from which a quantity comes, and which a decision names. */
const QTY_SIGNALS_MAX = 5;
const NAMED_SIGNALS_MAX = 20;

const ORDER_CONFIDENCE_MIN = 0.65;
const ORDER_QTY_MAX = 10;

// --------------------------------------------------------------------------------------------------------------- windows

/** What is kept of each of a window's latest signals. */
export interface Taken {
  /** Without its mark. */
  readonly identity: string;
  readonly ts: number;
  readonly qty: number;
  readonly price: number;
}

export interface OpenWindow {
  readonly start: number;
  readonly buys: number;
  readonly sells: number;
  /** At most 10, in order of acceptance. */
  readonly latest: readonly Taken[];
  readonly identities: Identities;
}

/** What the desk knows of a window. */
export interface Summary {
  readonly timeframe: Timeframe;
  readonly start: number;
  readonly buys: number;
  readonly sells: number;
  readonly price: number;
  readonly deviation: number;
  readonly latest: readonly Taken[];
}

/** Start of the tumbling window that an event time falls in, ms. */
export function windowStart(ts: number): number {
  return Math.floor(ts / WINDOW_MS) * WINDOW_MS;
}

/** Stream time at which a window is over, since nothing that is not late can fall into it any more, ms. */
export function windowDue(start: number): number {
  return start + WINDOW_MS + LATENESS_MS;
}

export function emptyWindow(start: number): OpenWindow {
  return { start, buys: 0, sells: 0, latest: [], identities: NO_IDENTITIES };
}

/** The window with one more signal, whose identity it has not seen. */
export function accept(window: OpenWindow, signal: Signal): OpenWindow {
  const taken: Taken = { identity: signal.identity.slice(2), ts: signal.ts, qty: signal.qty, price: signal.price };
  const { latest } = window;
  return {
    start: window.start,
    buys: window.buys + (signal.side === "BUY" ? 1 : 0),
    sells: window.sells + (signal.side === "SELL" ? 1 : 0),
    latest: latest.length < LATEST_MAX ? [...latest, taken] : [...latest.slice(1 - LATEST_MAX), taken],
    identities: addIdentity(window.identities, signal.identity),
  };
}

/** @param window one with at least one signal */
export function summarize(timeframe: Timeframe, window: OpenWindow): Summary {
  const { start, buys, sells, latest } = window;
  const price = mean(latest, (signal) => signal.price);
  const variance = mean(latest, (signal) => (signal.price - price) * (signal.price - price));
  return { timeframe, start, buys, sells, price, deviation: Math.sqrt(variance), latest };
}

export function majority(window: { readonly buys: number; readonly sells: number }): Side | "NONE" {
  if (window.buys > window.sells) return "BUY";
  return window.sells > window.buys ? "SELL" : "NONE";
}

// -------------------------------------------------------------------------------------------------------------- decisions

/** A decision before rounding. */
export interface Judgement {
  readonly action: Action;
  readonly confidence: number;
  readonly price: number;
  readonly qty: number;
  readonly reason: Reason;
  /** Identities without their mark, oldest first, at most 20. */
  readonly signals: readonly string[];
}

/** Times the price, by action: below it to buy, above it to sell. */
const PRICE_FACTORS = { STRONG_BUY: 0.998, BUY: 0.999, HOLD: 1, SELL: 1.001, STRONG_SELL: 1.002 } as const;

/**
 * Judges the windows of one start together.
 * @param summaries 2 or 3, of one start, in the order of `TIMEFRAMES`
 */
export function judge(summaries: readonly Summary[]): Judgement {
  const balance = sum(summaries, (window) => window.buys - window.sells);
  const price = mean(summaries, (window) => window.price);
  const volatility = mean(summaries, (window) => window.deviation);
  const alignment = isAligned(summaries) ? 1 : 0.5;
  const action = actionFor(balance);
  const ordered = inOrder(summaries);
  const signals = ordered.slice(-NAMED_SIGNALS_MAX).map((signal) => signal.identity);
  const reason = reasonFor(action, alignment);
  if (action === "HOLD") return { action, confidence: 0.5, price, qty: 0, reason, signals };
  return {
    action,
    confidence: confidenceOf({ alignment, balance, volatility }),
    price: price * PRICE_FACTORS[action],
    qty: cut4(mean(ordered.slice(-QTY_SIGNALS_MAX), (signal) => signal.qty)),
    reason,
    signals,
  };
}

export function actionFor(balance: number): Action {
  if (balance > 5) return "STRONG_BUY";
  if (balance > 2) return "BUY";
  if (balance < -5) return "STRONG_SELL";
  return balance < -2 ? "SELL" : "HOLD";
}

export function confidenceOf(of: { alignment: number; balance: number; volatility: number }): number {
  const strength = Math.min(1, Math.abs(of.balance) / 10);
  const calm = Math.max(0.3, 1 - of.volatility / 100);
  return Math.min(1, of.alignment * 0.4 + strength * 0.4 + calm * 0.2);
}

export function reasonFor(action: Action, alignment: number): Reason {
  if (action === "HOLD") return alignment < 0.6 ? "DIVERGENT_SIGNALS" : "INSUFFICIENT_DATA";
  if (action === "BUY" || action === "SELL") return "ALIGNED_SIGNALS";
  return alignment > 0.8 ? "ALIGNED_SIGNALS" : "MOMENTUM_SHIFT";
}

function isAligned(summaries: readonly Summary[]): boolean {
  const first = majority(summaries[0]!);
  return first !== "NONE" && summaries.every((window) => majority(window) === first);
}

/**
 * By (ts, timeframe, acceptance), oldest first: signals of equal ts stay in the order in which they come here.
 * Insertion, since there are at most 30, nearly in order: a tenth of the time that flatMap and sort take, at every signal.
 */
function inOrder(summaries: readonly Summary[]): Taken[] {
  const ordered: Taken[] = [];
  for (const { latest } of summaries) {
    for (const signal of latest) {
      let slot = ordered.length;
      for (; slot > 0 && ordered[slot - 1]!.ts > signal.ts; slot -= 1) ordered[slot] = ordered[slot - 1]!;
      ordered[slot] = signal;
    }
  }
  return ordered;
}

// ----------------------------------------------------------------------------------------------------------------- orders

export interface Order {
  readonly side: Side;
  readonly qty: number;
  readonly price: number;
}

/** The order that a decision leads to, with rounded numbers; null when it leads to none. */
export function orderFor(judgement: Judgement): Order | null {
  const { action, confidence, price } = judgement;
  if (action === "HOLD" || confidence < ORDER_CONFIDENCE_MIN) return null;
  const strong = action === "STRONG_BUY" || action === "STRONG_SELL";
  const qty = (1 + (9 * (confidence - ORDER_CONFIDENCE_MIN)) / 0.35) * (strong ? 1.2 : 1);
  return {
    side: action === "STRONG_BUY" || action === "BUY" ? "BUY" : "SELL",
    qty: round8(Math.min(ORDER_QTY_MAX, qty)),
    price: round8(price),
  };
}

// ---------------------------------------------------------------------------------------------------------------- numbers

/** Half-even to 8 decimals. @param value >= 0 */
export function round8(value: number): number {
  const scaled = value * 1e8;
  const floor = Math.floor(scaled);
  const rest = scaled - floor;
  if (rest < 0.5) return floor / 1e8;
  if (rest > 0.5) return (floor + 1) / 1e8;
  return (floor % 2 === 0 ? floor : floor + 1) / 1e8;
}

/** Toward zero, to 4 decimals. */
export function cut4(value: number): number {
  return Math.trunc(value * 1e4) / 1e4;
}

function sum<T>(items: readonly T[], of: (item: T) => number): number {
  let total = 0;
  for (const item of items) total += of(item);
  return total;
}

function mean<T>(items: readonly T[], of: (item: T) => number): number {
  return sum(items, of) / items.length;
}

/** Position of a timeframe in the order in which summaries are taken together. */
export function timeframeRank(timeframe: Timeframe): number {
  return TIMEFRAMES.indexOf(timeframe);
}
