/**
 * Which records are signals, and which go to the dead letters (docs/trading.md, "Signals").
 *
 * The audit reads values by hand, not by the app's schemas: a fault there must not hide itself.
 */
import type { SourceRecord } from "../../../audit/sources.ts";
import { readStrictJson } from "../../../audit/strict-json.ts";

export const TIMEFRAMES = ["1m", "5m", "15m"] as const;
export type Timeframe = (typeof TIMEFRAMES)[number];
export const signalTopicOf = (timeframe: Timeframe): string => `trading.signal.${timeframe}`;

export type Side = "BUY" | "SELL";

export interface GoodSignal {
  readonly symbol: string;
  readonly timeframe: Timeframe;
  readonly side: Side;
  readonly qty: number;
  readonly price: number;
  /** ms since the Unix epoch. */
  readonly ts: number;
  /** With its mark: `i:` for an id, `c:` for content. */
  readonly identity: string;
}

/** Codes that are right for the dead letter: a record may be bad in several ways, and the page does not say which is told. */
export interface BadSignal {
  readonly codes: readonly string[];
}

const TS_MAX = 253402300799999;
const AHEAD_MS_MAX = 60_000;
const AMOUNT_MIN = 1e-8;
const AMOUNT_MAX = 1e9;
const ID_LENGTH_MAX = 200;

export function judgeSignal(record: SourceRecord): GoodSignal | BadSignal {
  const codes = new Set<string>();
  const keyMissing = record.key === null || record.key.length === 0;
  if (keyMissing) codes.add("RECORD_WITHOUT_KEY");

  const fields = parseObject(record.value);
  if (fields === "too large") return { codes: [...codes, "RECORD_TOO_LARGE"] };
  if (fields === "undecodable") return { codes: [...codes, "RECORD_UNDECODABLE"] };
  if (fields === "no object") return { codes: [...codes, "RECORD_REFUSED"] };

  const timeframe = TIMEFRAMES.find((name) => signalTopicOf(name) === record.topic);
  const symbol =
    typeof fields["symbol"] === "string" && /^[A-Z0-9-]{1,32}$/.test(fields["symbol"]) ? fields["symbol"] : null;
  const side = fields["side"] === "BUY" || fields["side"] === "SELL" ? fields["side"] : null;
  const qty = amountOf(fields["qty"]);
  const price = amountOf(fields["price"]);
  const ts = timeOf(fields["ts"]);
  const id = idOf(fields);
  const timeframeFits = timeframe !== undefined && fields["timeframe"] === timeframe;
  if (symbol === null || side === null || qty === null || price === null || id === null || !timeframeFits) {
    codes.add("RECORD_REFUSED");
  }
  if (ts === null) {
    codes.add("RECORD_REFUSED");
    codes.add("RECORD_TIME_INVALID");
  }
  if (!keyMissing && record.key?.toString("latin1") !== symbol) codes.add("RECORD_KEY_MISMATCH");
  // A record without a Kafka timestamp has nothing that its time could be beyond.
  const ahead = ts !== null && record.timestampMs >= 0n && ts > Number(record.timestampMs) + AHEAD_MS_MAX;
  if (ahead) codes.add("RECORD_TIME_INVALID");

  if (
    symbol === null ||
    side === null ||
    qty === null ||
    price === null ||
    id === null ||
    ts === null ||
    !timeframeFits
  ) {
    return { codes: [...codes] };
  }
  if (codes.size > 0) return { codes: [...codes] };
  const identity = id === undefined ? `c:${side}|${qty}|${price}|${ts}` : `i:${id}`;
  return { symbol, timeframe, side, qty, price, ts, identity };
}

function parseObject(
  value: Buffer | null,
): Readonly<Record<string, unknown>> | "too large" | "undecodable" | "no object" {
  const read = readStrictJson(value);
  if (typeof read === "string") return read;
  const { value: parsed } = read;
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) return "no object";
  return parsed as Record<string, unknown>;
}

/** A number or decimal text, as a double within the bounds. */
function amountOf(field: unknown): number | null {
  let amount: number;
  if (typeof field === "number") amount = field;
  else if (typeof field === "string" && /^[0-9]+(\.[0-9]+)?$/.test(field)) amount = Number(field);
  else return null;
  return amount >= AMOUNT_MIN && amount <= AMOUNT_MAX ? amount : null;
}

function timeOf(field: unknown): number | null {
  if (typeof field !== "number" || !Number.isInteger(field) || field < 0 || field > TS_MAX) return null;
  return field === 0 ? 0 : field; // -0 is 0
}

/** @returns undefined without an id, null with one that is not allowed */
function idOf(fields: Readonly<Record<string, unknown>>): string | undefined | null {
  if (!Object.hasOwn(fields, "id")) return undefined;
  const { id } = fields;
  return typeof id === "string" && id.length >= 1 && id.length <= ID_LENGTH_MAX ? id : null;
}
