/**
 * Records that must end among the dead letters, one kind for each reason that docs/trading.md names.
 */
import type { Random } from "./random.ts";

export const BAD_KINDS = [
  "not-json",
  "not-utf8",
  "qty-not-positive",
  "side-unknown",
  "field-missing",
  "timeframe-other",
  "no-key",
  "key-differs",
  "ts-ahead",
  "ts-negative",
] as const;
export type BadKind = (typeof BAD_KINDS)[number];

/** Ten minutes: far beyond the 60 s that a signal may be ahead of its Kafka timestamp. */
const AHEAD_MS = 600_000;

export interface BadRecord {
  readonly key: string | null;
  readonly value: Buffer;
  /** Kafka's timestamp where the kind depends on it. */
  readonly timestampMs: number | null;
}

/** @param signal a signal that would have been good */
export function spoil(
  kind: BadKind,
  signal: { readonly symbol: string; readonly ts: number },
  random: Random,
): BadRecord {
  const key = signal.symbol;
  const text = JSON.stringify(signal);
  const withFields = (fields: Record<string, unknown>): BadRecord => ({
    key,
    value: json({ ...signal, ...fields }),
    timestampMs: null,
  });
  switch (kind) {
    case "not-json":
      return { key, value: Buffer.from(text.slice(0, -1)), timestampMs: null };
    case "not-utf8":
      // 0xff occurs nowhere in UTF-8.
      return {
        key,
        value: Buffer.concat([Buffer.from(text.slice(0, -2)), Buffer.from([0xff]), Buffer.from('"}')]),
        timestampMs: null,
      };
    case "qty-not-positive":
      return withFields({ qty: -random.below(3) });
    case "side-unknown":
      return withFields({ side: "HOLD" });
    case "field-missing":
      return withFields({ [random.pick(["symbol", "side", "qty", "price", "timeframe", "ts"])]: undefined });
    case "timeframe-other":
      return withFields({ timeframe: "1h" });
    case "no-key":
      return { key: null, value: Buffer.from(text), timestampMs: null };
    case "key-differs":
      return { key: `${key}-X`, value: Buffer.from(text), timestampMs: null };
    case "ts-ahead":
      // Kafka's timestamp goes back to the signal's time, so that the record is ahead of it whenever it is sent.
      return { key, value: json({ ...signal, ts: signal.ts + AHEAD_MS }), timestampMs: signal.ts };
    case "ts-negative":
      return withFields({ ts: -1 - random.below(1_000_000) });
  }
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
