/**
 * What enters and leaves the trading app, as schemas and types. Pure.
 *
 * Every field rule here is one of docs/trading.md. zod costs about 1 us a signal, so it judges each record as it is;
 * the identity of a signal is made here too, once, because writing doubles as text is what it costs most.
 */
import { z } from "zod";

/** In the order in which summaries are taken together. */
export const TIMEFRAMES = ["1m", "5m", "15m"] as const;
export type Timeframe = (typeof TIMEFRAMES)[number];

export const SIDES = ["BUY", "SELL"] as const;
export type Side = (typeof SIDES)[number];

export const ACTIONS = ["STRONG_BUY", "BUY", "HOLD", "SELL", "STRONG_SELL"] as const;
export type Action = (typeof ACTIONS)[number];

export const REASONS = [
  "ALIGNED_SIGNALS",
  "MOMENTUM_SHIFT",
  "DIVERGENT_SIGNALS",
  "INSUFFICIENT_DATA",
  "VOLUME_SPIKE",
] as const;
export type Reason = (typeof REASONS)[number];

/** Last ms of the year 9999: beyond it ISO-8601 has five digits a year, which Postgres does not read. */
const TS_MAX = 253_402_300_799_999;
/** The last of the 8 decimals that an order's price has. */
const AMOUNT_MIN = 1e-8;
const AMOUNT_MAX = 1e9;

/** A signal that has passed its schema. */
export interface Signal {
  readonly symbol: string;
  readonly side: Side;
  readonly qty: number;
  readonly price: number;
  readonly timeframe: Timeframe;
  /** Event time, ms since the Unix epoch. */
  readonly ts: number;
  /** `i:<id>`, or `c:<side>|<qty>|<price>|<ts>` of a signal without an id. */
  readonly identity: string;
}

const symbol = z.string().regex(/^[A-Z0-9-]{1,32}$/, "must be 1 to 32 of A-Z, 0-9 and -");
const time = z.number().int().gte(0).lte(TS_MAX);
const amount = z
  .union(
    [
      z.number(),
      z
        .string()
        .regex(/^[0-9]+(\.[0-9]+)?$/)
        .transform(Number),
    ],
    { error: "must be a number or a decimal string such as 12.5" },
  )
  .pipe(z.number().gte(AMOUNT_MIN).lte(AMOUNT_MAX));

/** The schema of one timeframe's topic. Its output is a `Signal`. */
export function signalSchema(timeframe: Timeframe) {
  return z
    .object({
      symbol,
      side: z.enum(SIDES),
      qty: amount,
      price: amount,
      timeframe: z.literal(timeframe),
      ts: time,
      id: z.string().min(1).max(200).optional(),
    })
    .transform(
      ({ id, ...fields }): Signal => ({
        symbol: fields.symbol,
        side: fields.side,
        qty: fields.qty,
        price: fields.price,
        timeframe: fields.timeframe,
        // -0 is a JSON number, but it does not survive JSON.
        ts: fields.ts + 0,
        identity: identityOf(id, fields),
      }),
    );
}

function identityOf(id: string | undefined, signal: { side: Side; qty: number; price: number; ts: number }): string {
  return id === undefined ? `c:${signal.side}|${signal.qty}|${signal.price}|${signal.ts}` : `i:${id}`;
}

/** A record of `trading.decisions`. */
export const decisionSchema = z.object({
  id: z.guid(),
  symbol,
  action: z.enum(ACTIONS),
  confidence: z.number().gte(0).lte(1),
  suggested_price: z.number().gte(0),
  suggested_qty: z.number().gte(0),
  /** Identities of the signals considered, without their mark, oldest first. */
  signals: z.array(z.string()).min(1).max(20),
  /** ts of the signal that caused it, ms since the Unix epoch. */
  timestamp: time,
  reason: z.enum(REASONS),
});
export type Decision = z.infer<typeof decisionSchema>;

const decimal8 = z.string().regex(/^[0-9]+\.[0-9]{8}$/);

/** A row of `app.orders`, as it is inserted. */
export const orderRowSchema = z.object({
  id: z.guid(),
  client_order_id: z.string(),
  symbol,
  side: z.enum(SIDES),
  qty: decimal8,
  price: decimal8,
  status: z.literal("NEW"),
  /** ISO-8601, UTC, ms. */
  created_at: z.iso.datetime(),
  updated_at: z.iso.datetime(),
});
export type OrderRow = z.infer<typeof orderRowSchema>;

/** Payload of `OrderPlaced` in `app.outbox`. */
export const orderPlacedSchema = z.object({
  order_id: z.guid(),
  client_order_id: z.string(),
  decision_id: z.guid(),
  symbol,
  side: z.enum(SIDES),
  qty: decimal8,
  price: decimal8,
  status: z.literal("NEW"),
  created_at: time,
});
export type OrderPlacedPayload = z.infer<typeof orderPlacedSchema>;
