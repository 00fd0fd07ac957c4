/**
 * What happens to windows and desks, for the tests that are made from their machines: signals with one sent twice, and one that closes
 * its window; and, where the app is run as a whole, signals of two timeframes that lean to one side, so that its desk places orders.
 */
import type { Signal } from "./schemas.ts";
import { signalTopic } from "./topics.ts";

const START_MS = Date.UTC(2030, 0, 1);

function signal(timeframe: Signal["timeframe"], side: Signal["side"], n: number) {
  const value = {
    symbol: "BTC-USD",
    side,
    qty: 1,
    price: "100.5",
    timeframe,
    ts: START_MS + n * 1_000,
    id: `${timeframe}-${n}`,
  };
  return { topic: signalTopic(timeframe), value };
}

function signals(timeframe: Signal["timeframe"], side: Signal["side"]) {
  return [1, 2, 3, 3, 4, 6 * 60].map((n) => signal(timeframe, side, n));
}

/** Balance 3 and more, aligned: the desk buys. */
const together = [1, 2, 3].flatMap((n) => [signal("1m", "BUY", n), signal("5m", "BUY", n)]);

export const examples = {
  window: [
    { key: "BTC-USD/1m", steps: signals("1m", "BUY") },
    { key: "BTC-USD/1m", steps: together },
    { key: "BTC-USD/5m", steps: signals("5m", "BUY") },
    { key: "BTC-USD/15m", steps: signals("15m", "SELL") },
  ],
};
