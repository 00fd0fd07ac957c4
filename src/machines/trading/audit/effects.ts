/**
 * How the trading app's effects look where they stand: one function for each sort makes the content that is compared, from
 * what is found and from what is expected alike.
 */
import type { ExpectedEffect, FoundEffect, TableRules, TopicRules } from "../../../audit/rules.ts";
import type { InputHeaders, PublishedRecord, SourceRecord } from "../../../audit/sources.ts";
import type { DecisionValues } from "./decide.ts";
import { type GoodSignal, signalTopicOf, TIMEFRAMES } from "./judge.ts";
import type { SignalIds } from "./uuid.ts";

export const DECISIONS = "trading.decisions";
export const LATE = "trading.late";
export const RELAYED_ORDERS = "trading.orders";
export const ORDERS = "app.orders";
export const OUTBOX = "app.outbox";
export const deadLettersOf = (topic: string): string => `${topic}.dlq`;
/** Timers have no topic of their own: their dead letters go to those of the first input. */
const TIMER_DEAD_LETTERS = deadLettersOf(signalTopicOf("1m"));

const CAUSE = "__streams.errors.";
const LATE_HEADER = "__lockstep.late.";
const TIMER_HEADER = "__lockstep.timer";
/** Headers that the system adds to a record it passes on. */
const SYSTEM_HEADERS = ["__streams.errors.", "__lockstep.", "lockstep-"];

// --------------------------------------------------------------------------------------------------- what is expected

export function expectedDecision(signal: GoodSignal, ids: SignalIds, values: DecisionValues): ExpectedEffect {
  const value = JSON.stringify({
    id: ids.decision,
    symbol: signal.symbol,
    action: values.action,
    confidence: values.confidence,
    suggested_price: values.suggestedPrice,
    suggested_qty: values.suggestedQty,
    signals: values.signals,
    timestamp: signal.ts,
    reason: values.reason,
  });
  return { id: ids.decision, key: signal.symbol, content: published(signal.symbol, signal.ts, value) };
}

/** The order's row, its event in the outbox, and that event as the relay publishes it. */
export function expectedOrder(
  signal: GoodSignal,
  ids: SignalIds,
  order: NonNullable<DecisionValues["order"]>,
): { row: ExpectedEffect; event: ExpectedEffect; relayed: ExpectedEffect } {
  const { symbol, ts } = signal;
  const clientOrderId = `lk-${ids.decision}`;
  const qty = order.qty.toFixed(8);
  const price = order.price.toFixed(8);
  const payload = sortedJson({
    order_id: ids.order,
    client_order_id: clientOrderId,
    decision_id: ids.decision,
    symbol,
    side: order.side,
    qty,
    price,
    status: "NEW",
    created_at: ts,
  });
  const time = String(ts);
  return {
    row: {
      id: ids.order,
      key: symbol,
      content: orderContent([clientOrderId, symbol, order.side, qty, price, "NEW", time, time]),
    },
    event: { id: ids.event, key: symbol, content: eventContent(["order", ids.order, "OrderPlaced", payload, time]) },
    relayed: {
      id: ids.event,
      key: ids.order,
      content: { key: ids.order, ...eventContent(["order", ids.order, "OrderPlaced", payload, time]) },
    },
  };
}

/** The original record, with how far it was behind stream time. */
export function expectedLate(record: SourceRecord, byMs: number): ExpectedEffect {
  return { id: originId(record), key: keyText(record), content: passedOn(record, { behindMs: String(byMs) }) };
}

/** @param codes those of which the dead letter must show one */
export function expectedDeadLetter(record: SourceRecord, codes: readonly string[]): ExpectedEffect {
  return { id: originId(record), key: keyText(record), content: passedOn(record, {}), labels: codes };
}

export function expectedTimerDeadLetter(timer: {
  actorType: string;
  key: string;
  timerId: string;
  dueMs: number;
  code: string;
}): { stream: string; effect: ExpectedEffect } {
  const { actorType, key, timerId, dueMs, code } = timer;
  const content = timerContent(key, dueMs, { actorType, key, timerId, dueMs });
  return {
    stream: TIMER_DEAD_LETTERS,
    effect: { id: timerLetterId(key, timerId, dueMs), key, content, labels: [code] },
  };
}

// ------------------------------------------------------------------------------------------------------- what is found

export const decisionsRules: TopicRules = {
  kind: "topic",
  name: DECISIONS,
  figure: "decisions",
  sourced: true,
  effectOf: ({ headers, key, timestampMs, value }) => {
    const id = headers["lockstep-id"];
    return id === undefined ? null : { id, content: published(key, timestampMs, value) };
  },
};

export const lateRules: TopicRules = {
  kind: "topic",
  name: LATE,
  figure: "late",
  sourced: true,
  effectOf: (record) => {
    const id = foundOriginId(record.headers, LATE_HEADER);
    if (id === null) return null;
    return { id, content: foundContent(record, { behindMs: record.headers[`${LATE_HEADER}by-ms`] ?? null }) };
  },
};

export const deadLetterRules: readonly TopicRules[] = TIMEFRAMES.map((timeframe) => ({
  kind: "topic",
  name: deadLettersOf(signalTopicOf(timeframe)),
  figure: "deadLetters",
  sourced: true,
  effectOf: (record) => {
    const label = record.headers[`${CAUSE}exception`];
    if (label === undefined) return null;
    if (record.headers[TIMER_HEADER] !== undefined) return timerLetter(record, label);
    const id = foundOriginId(record.headers, CAUSE);
    return id === null ? null : { id, content: foundContent(record, {}), label };
  },
}));

const MS = (column: string) => `(extract(epoch from ${column}) * 1000)::numeric(20, 3)::text`;

export const ordersRules: TableRules = {
  kind: "table",
  name: ORDERS,
  figure: "orders",
  keyColumn: "id",
  columns: {
    id: "id::text",
    client_order_id: "client_order_id",
    symbol: "symbol",
    side: "side",
    qty: "qty::text",
    price: "price::text",
    status: "status",
    created_ms: MS("created_at"),
    updated_ms: MS("updated_at"),
  },
  effectOf: (row) => ({
    id: String(row["id"]),
    twin: String(row["client_order_id"]),
    content: orderContent([
      String(row["client_order_id"]),
      String(row["symbol"]),
      String(row["side"]),
      String(row["qty"]),
      String(row["price"]),
      String(row["status"]),
      wholeMs(row["created_ms"]),
      wholeMs(row["updated_ms"]),
    ]),
  }),
};

export const outboxRules: TableRules = {
  kind: "table",
  name: OUTBOX,
  figure: "outbox",
  keyColumn: "event_id",
  columns: {
    event_id: "event_id::text",
    aggregate_type: "aggregate_type",
    aggregate_id: "aggregate_id::text",
    type: "type",
    payload: "payload::text",
    occurred_ms: MS("occurred_at"),
  },
  effectOf: (row) => ({
    id: String(row["event_id"]),
    twin: String(row["aggregate_id"]),
    content: eventContent([
      String(row["aggregate_type"]),
      String(row["aggregate_id"]),
      String(row["type"]),
      sortedIfJson(String(row["payload"])),
      wholeMs(row["occurred_ms"]),
    ]),
  }),
};

/** `app.outbox` as the relay publishes it. The relay is no shard: its records name no source. */
export const relayedRules: TopicRules = {
  kind: "topic",
  name: RELAYED_ORDERS,
  figure: "published",
  sourced: false,
  effectOf: ({ headers, key, value }) => {
    const id = headers["event_id"];
    if (id === undefined || value === null) return null;
    const occurredMs = Date.parse(headers["occurred_at"] ?? "");
    const event = eventContent([
      headers["aggregate_type"] ?? "",
      headers["aggregate_id"] ?? "",
      headers["event_type"] ?? "",
      sortedIfJson(value),
      String(occurredMs),
    ]);
    return { id, content: { key, ...event } };
  },
};

// ------------------------------------------------------------------------------------------------------------- content

type Content = FoundEffect["content"];

function published(key: string | null, timestampMs: number, value: string | null): Content {
  return { key, timestampMs, value };
}

function orderContent([clientOrderId, symbol, side, qty, price, status, createdMs, updatedMs]: [
  string,
  string,
  string,
  string,
  string,
  string,
  string,
  string,
]): Content {
  return { clientOrderId, symbol, side, qty, price, status, createdMs, updatedMs };
}

function eventContent([aggregateType, aggregateId, type, payload, occurredMs]: [
  string,
  string,
  string,
  string,
  string,
]): Content {
  return { aggregateType, aggregateId, type, payload, occurredMs };
}

/** A record passed on: key, value, time and headers must be those that came in. */
function passedOn(record: SourceRecord, more: Content): Content {
  const headers: Record<string, string> = {};
  for (const [name, value] of record.headers as InputHeaders) headers[name] = value?.toString("utf8") ?? "";
  const { key, value, timestampMs } = record;
  const content = published(key?.toString("utf8") ?? null, Number(timestampMs), value?.toString("utf8") ?? null);
  return { ...content, headers: ownHeaders(headers), ...more };
}

function foundContent({ key, timestampMs, value, headers }: PublishedRecord, more: Content): Content {
  return { ...published(key, timestampMs, value), headers: ownHeaders(headers), ...more };
}

/** The producer's headers, without those of the system. */
function ownHeaders(headers: Readonly<Record<string, string>>): string {
  const own = Object.entries(headers).filter(([name]) => !SYSTEM_HEADERS.some((prefix) => name.startsWith(prefix)));
  return sortedJson(Object.fromEntries(own));
}

function timerContent(key: string | null, timestampMs: number, timer: Record<string, unknown>): Content {
  return { key, timestampMs, timer: sortedJson(timer) };
}

function timerLetter(record: PublishedRecord, label: string): FoundEffect | null {
  const timer = objectOf(record.value);
  if (timer === null) return null;
  // The event that the timer would have raised is the machine's own affair.
  const { event: _event, ...told } = timer;
  const id = timerLetterId(String(told["key"]), String(told["timerId"]), Number(told["dueMs"]));
  return { id, content: timerContent(record.key, record.timestampMs, told), label };
}

function timerLetterId(key: string, timerId: string, dueMs: number): string {
  return `timer ${key} ${timerId} ${dueMs}`;
}

function originId({ topic, partition, offset }: SourceRecord): string {
  return `${topic}/${partition}/${offset}`;
}

function foundOriginId(headers: Readonly<Record<string, string>>, prefix: string): string | null {
  const parts = ["topic", "partition", "offset"].map((name) => headers[prefix + name]);
  return parts.includes(undefined) ? null : parts.join("/");
}

function keyText({ key }: SourceRecord): string | null {
  return key === null ? null : key.toString("utf8");
}

/** Postgres gives 3 decimals of a ms; a time of the app has none. */
function wholeMs(text: unknown): string {
  return String(text).replace(/\.000$/, "");
}

/** Postgres keeps the members of a jsonb in its own order. */
function sortedIfJson(text: string): string {
  const object = objectOf(text);
  return object === null ? text : sortedJson(object);
}

function sortedJson(object: Readonly<Record<string, unknown>>): string {
  return JSON.stringify(Object.fromEntries(Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1))));
}

function objectOf(text: string | null): Record<string, unknown> | null {
  try {
    const parsed: unknown = JSON.parse(text ?? "");
    return typeof parsed === "object" && parsed !== null && !Array.isArray(parsed)
      ? (parsed as Record<string, unknown>)
      : null;
  } catch {
    return null; // Whatever it is instead, it is compared as text.
  }
}
