/**
 * The trading app: signals in, decisions out, orders into Postgres. Its rules are docs/trading.md.
 */
import { count, defineApp, input, insert, outbox, publish, type RouteMeta, tell } from "../../actors/app.ts";
import { type Decided, desk, type OrderPlaced } from "./desk.ts";
import { LATENESS_MS } from "./rules.ts";
import {
  type Decision,
  decisionSchema,
  type OrderPlacedPayload,
  type OrderRow,
  signalSchema,
  type Timeframe,
} from "./schemas.ts";
import { DECISIONS_TOPIC, LATE_TOPIC, ORDERS_TOPIC, signalTopic } from "./topics.ts";
import { signalWindow } from "./window.ts";

export const app = defineApp("trading", {
  inputs: {
    [signalTopic("1m")]: signals("1m"),
    [signalTopic("5m")]: signals("5m"),
    [signalTopic("15m")]: signals("15m"),
  },
  actors: {
    window: { machine: signalWindow, on: { signal: (signal) => `${signal.symbol}/${signal.timeframe}` } },
    desk: { machine: desk },
  },
  emits: {
    windowUpdated: tell("desk", (event) => event.symbol),
    windowClosed: [tell("desk", (event) => event.symbol), count("windowsClosed")],
    duplicateIgnored: count("duplicatesIgnored"),
    decided: publish(DECISIONS_TOPIC, { schema: decisionSchema, key: (event) => event.symbol, value: toDecision }),
    orderPlaced: [
      insert("app.orders", toOrderRow),
      outbox({
        aggregateType: "order",
        aggregateId: (_event, meta) => meta.id,
        type: "OrderPlaced",
        payload: toPayload,
      }),
    ],
  },
  late: { allowedMs: LATENESS_MS, topic: LATE_TOPIC },
  outboxTopic: ORDERS_TOPIC,
  migrations: new URL("./migrations/", import.meta.url),
});

// An app is loaded by its path; one outside this repository has but this export. Hence the default export.
export default app;

function signals(timeframe: Timeframe) {
  return input("signal", {
    schema: signalSchema(timeframe),
    time: (signal) => signal.ts,
    key: (signal) => signal.symbol,
  });
}

function toDecision(event: Decided, meta: RouteMeta): Decision {
  return {
    id: meta.id,
    symbol: event.symbol,
    action: event.action,
    confidence: event.confidence,
    suggested_price: event.price,
    suggested_qty: event.qty,
    signals: [...event.signals],
    timestamp: event.timestamp,
    reason: event.reason,
  };
}

function toOrderRow(event: OrderPlaced, meta: RouteMeta): OrderRow {
  const time = new Date(event.timestamp).toISOString();
  return {
    id: meta.id,
    client_order_id: clientOrderId(meta),
    symbol: event.symbol,
    side: event.side,
    qty: event.qty.toFixed(8),
    price: event.price.toFixed(8),
    status: "NEW",
    created_at: time,
    updated_at: time,
  };
}

function toPayload(event: OrderPlaced, meta: RouteMeta): OrderPlacedPayload {
  return {
    order_id: meta.id,
    client_order_id: clientOrderId(meta),
    decision_id: meta.idOf("decided"),
    symbol: event.symbol,
    side: event.side,
    qty: event.qty.toFixed(8),
    price: event.price.toFixed(8),
    status: "NEW",
    created_at: event.timestamp,
  };
}

/** What an exchange would know the order by: the same in every replay. */
function clientOrderId(meta: RouteMeta): string {
  return `lk-${meta.idOf("decided")}`;
}
