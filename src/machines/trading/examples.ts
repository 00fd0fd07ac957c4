/**
 * What happens to windows and desks, for the tests that are made from their machines: signals of two timeframes that lean to one
 * side, so that desks decide and orders are placed, with one sent twice and one that closes its window.
 */
import type { Signal } from "./schemas.ts";
import { signalTopic } from "./topics.ts";

const START_MS = Date.UTC(2030, 0, 1);
const MINUTE_MS = 60_000;

function signals(timeframe: Signal["timeframe"], side: Signal["side"]) {
  const signal = (n: number, fields: object = {}) => ({
    topic: signalTopic(timeframe),
    value: {
      symbol: "BTC-USD",
      side,
      qty: 1,
      price: "100.5",
      timeframe,
      ts: START_MS + n * 1_000,
      id: `${timeframe}-${n}`,
      ...fields,
    },
  });
  const after = signal(0, { ts: START_MS + 6 * MINUTE_MS, id: `${timeframe}-after` });
  return [signal(1), signal(2), signal(3), signal(3), signal(4), after];
}

export const examples = {
  window: [
    { key: "BTC-USD/1m", steps: signals("1m", "BUY") },
    { key: "BTC-USD/5m", steps: signals("5m", "BUY") },
    { key: "BTC-USD/15m", steps: signals("15m", "SELL") },
  ],
};
