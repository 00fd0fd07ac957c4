/** Signals and window events for tests, through the real schema. */
import type { Delivered } from "../../../../src/actors/app.ts";
import { type Side, type Signal, signalSchema, type Timeframe } from "../../../../src/machines/trading/schemas.ts";

/** Start of a window: 2026-01-01T00:00:00Z. */
export const START = 1_767_225_600_000;

export interface SignalFields {
  readonly side: Side;
  readonly qty: number | string;
  readonly price: number | string;
  readonly timeframe: Timeframe;
  readonly ts: number;
  readonly id: string;
}

/** A parsed signal of BTC-USD; without an `id` it is known by its content. */
export function parsed(fields: Partial<SignalFields> = {}): Signal {
  const { timeframe = "5m" } = fields;
  return signalSchema(timeframe).parse({
    symbol: "BTC-USD",
    side: "BUY",
    qty: 1,
    price: 100,
    ts: START,
    ...fields,
    timeframe,
  });
}

/** The same as a delivered event, stream time at the signal's own time unless given. */
export function signal(fields: Partial<SignalFields> & { streamTimeMs?: number } = {}): Delivered<"signal", Signal> {
  const { streamTimeMs, ...rest } = fields;
  const value = parsed(rest);
  return { ...value, type: "signal", streamTimeMs: streamTimeMs ?? value.ts };
}
