/**
 * The topics of the trading app, each name declared once, and how they should be made.
 */
import { TIMEFRAMES, type Timeframe } from "./schemas.ts";

export const signalTopic = <T extends Timeframe>(timeframe: T) => `trading.signal.${timeframe}` as const;
export const DECISIONS_TOPIC = "trading.decisions";
export const LATE_TOPIC = "trading.late";
/** Written by the relay, from `app.outbox`. */
export const ORDERS_TOPIC = "trading.orders";

export interface WantedTopic {
  readonly name: string;
  readonly partitions: number;
  readonly config: Readonly<Record<string, string>>;
}

const PARTITIONS = 6;
const DAY_MS = 86_400_000;

/** A signal from the future would make all that follow late: Kafka refuses what docs/trading.md would set aside. */
const INPUT_CONFIG = {
  "cleanup.policy": "delete",
  "retention.ms": String(7 * DAY_MS),
  "message.timestamp.after.max.ms": "60000",
};

/** Records carry event time, and retention goes by it: a backfill of last week must not be deleted as soon as it is written. */
const OUTPUT_CONFIG = { "cleanup.policy": "delete", "retention.ms": String(30 * DAY_MS) };

/** Signals in, and all that the app, its dead letters and the relay write. */
export const TRADING_TOPICS: readonly WantedTopic[] = [
  ...TIMEFRAMES.map((timeframe) => ({ name: signalTopic(timeframe), partitions: PARTITIONS, config: INPUT_CONFIG })),
  ...[
    DECISIONS_TOPIC,
    LATE_TOPIC,
    ORDERS_TOPIC,
    `${ORDERS_TOPIC}.dlq`,
    ...TIMEFRAMES.map((timeframe) => `${signalTopic(timeframe)}.dlq`),
  ].map((name) => ({ name, partitions: PARTITIONS, config: OUTPUT_CONFIG })),
];
