/**
 * The world that signals come from: prices walk, and the mood of each symbol drifts between buying and selling over several
 * windows, so that every action occurs.
 */
import { SIDES, type Side } from "../schemas.ts";
import type { Random } from "./random.ts";

const NAMES = [
  "BTC",
  "ETH",
  "SOL",
  "XRP",
  "ADA",
  "DOGE",
  "DOT",
  "LTC",
  "LINK",
  "AVAX",
  "ATOM",
  "UNI",
  "XLM",
  "ALGO",
  "FIL",
  "NEAR",
  "ICP",
  "APT",
  "ARB",
  "OP",
];

/** Period of a symbol's mood, ms of event time: several windows. */
const MOOD_PERIOD_MS_MIN = 2_400_000;
const MOOD_PERIOD_MS_MAX = 6_000_000;
/**
 * Probability of BUY swings this far around a half. Balances grow with the number of signals, so little is enough: at the
 * default rate about 2 of 5 signals lead to an order; with 0.3 it would be 3 of 4, nearly all of them STRONG.
 */
const MOOD_SWING = 0.05;
/** Relative step of a price at each signal. */
const PRICE_STEP = 0.0004;

export interface Quote {
  readonly side: Side;
  readonly qty: number;
  readonly price: number;
}

export interface Market {
  readonly symbols: readonly string[];
  quote(symbolIndex: number, ts: number): Quote;
}

export function symbolName(index: number): string {
  const round = Math.floor(index / NAMES.length);
  return `${NAMES[index % NAMES.length]}${round === 0 ? "" : round}-USD`;
}

export function createMarket(count: number, random: Random): Market {
  const symbols = Array.from({ length: count }, (_, index) => symbolName(index));
  const states = symbols.map(() => ({
    price: 10 ** (random.next() * 4),
    periodMs: MOOD_PERIOD_MS_MIN + random.next() * (MOOD_PERIOD_MS_MAX - MOOD_PERIOD_MS_MIN),
    phase: random.next() * 2 * Math.PI,
  }));
  return {
    symbols,
    quote(symbolIndex, ts) {
      const state = states[symbolIndex]!;
      state.price *= 1 + (random.next() - 0.5) * 2 * PRICE_STEP;
      const mood = MOOD_SWING * Math.sin(state.phase + (2 * Math.PI * ts) / state.periodMs);
      return {
        side: random.chance(0.5 + mood) ? SIDES[0] : SIDES[1],
        qty: (1 + random.below(50_000)) / 10_000,
        price: Math.max(0.0001, Math.round(state.price * 1e4) / 1e4),
      };
    },
  };
}
