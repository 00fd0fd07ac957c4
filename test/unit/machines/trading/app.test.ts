import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

import { outputTopics, type Route, type RouteMeta } from "../../../../src/actors/app.ts";
import defaultExport, { app } from "../../../../src/machines/trading/app.ts";
import { decisionSchema, orderPlacedSchema, orderRowSchema } from "../../../../src/machines/trading/schemas.ts";
import { ORDERS_TOPIC, TRADING_TOPICS } from "../../../../src/machines/trading/topics.ts";
import { START } from "./signals.ts";

const DECISION_ID = "11111111-1111-5111-8111-111111111111";
const ORDER_ID = "22222222-2222-5222-8222-222222222222";
const meta: RouteMeta = {
  id: ORDER_ID,
  timeMs: START + 1,
  idOf: (type) => (type === "decided" ? DECISION_ID : expect.unreachable(type)),
  derive: (name) => name,
  actor: { type: "desk", key: "BTC-USD" },
};

function route<K extends Route<unknown>["kind"]>(event: string, kind: K): Extract<Route<unknown>, { kind: K }> {
  const found = app.emits[event]?.find((candidate) => candidate.kind === kind);
  if (!found) throw new Error(`The event ${event} has no route ${kind}.`);
  return found as Extract<Route<unknown>, { kind: K }>;
}

const decided = {
  type: "decided",
  symbol: "BTC-USD",
  action: "STRONG_BUY",
  confidence: 0.9,
  price: 1234.5,
  qty: 2,
  signals: ["a", "b"],
  timestamp: START + 1,
  reason: "ALIGNED_SIGNALS",
};
const placed = { type: "orderPlaced", symbol: "BTC-USD", side: "BUY", qty: 8.1, price: 1234.5, timestamp: START + 1 };

describe("trading app", () => {
  it("is found under both names that a loader looks for", () => {
    expect(defaultExport).toBe(app);
    expect(app.name).toBe("trading");
  });

  it("sends a signal to the window of its symbol and timeframe, and keys it by symbol", () => {
    expect(app.inputs.map(({ topic }) => topic)).toEqual([
      "trading.signal.1m",
      "trading.signal.5m",
      "trading.signal.15m",
    ]);
    const signal = { symbol: "BTC-USD", timeframe: "15m", ts: START };
    expect(app.actors["window"]?.on["signal"]?.(signal)).toBe("BTC-USD/15m");
    for (const input of app.inputs) expect([input.key?.(signal), input.time(signal)]).toEqual(["BTC-USD", START]);
  });

  it("publishes decisions with their fields in the order of the specification", () => {
    const { topic, key, value } = route("decided", "publish");
    const record = value(decided, { ...meta, id: DECISION_ID });
    expect([topic, key(decided, meta)]).toEqual(["trading.decisions", "BTC-USD"]);
    expect(decisionSchema.safeParse(record).error).toBeUndefined();
    expect(JSON.stringify(record)).toBe(
      `{"id":"${DECISION_ID}","symbol":"BTC-USD","action":"STRONG_BUY","confidence":0.9,"suggested_price":1234.5,"suggested_qty":2,` +
        `"signals":["a","b"],"timestamp":${START + 1},"reason":"ALIGNED_SIGNALS"}`,
    );
  });

  it("inserts an order under its own id, known to the outside by its decision", () => {
    const { table, row } = route("orderPlaced", "insert");
    const order = row(placed, meta);
    expect(table).toBe("app.orders");
    expect(orderRowSchema.safeParse(order).error).toBeUndefined();
    expect(order).toStrictEqual({
      id: ORDER_ID,
      client_order_id: `lk-${DECISION_ID}`,
      symbol: "BTC-USD",
      side: "BUY",
      qty: "8.10000000",
      price: "1234.50000000",
      status: "NEW",
      created_at: "2026-01-01T00:00:00.001Z",
      updated_at: "2026-01-01T00:00:00.001Z",
    });
  });

  it("tells the outside of an order in the same commit", () => {
    const { aggregateType, aggregateId, type, payload } = route("orderPlaced", "outbox");
    expect([aggregateType, aggregateId(placed, meta), type, app.outboxTable]).toEqual([
      "order",
      ORDER_ID,
      "OrderPlaced",
      "app.outbox",
    ]);
    expect(orderPlacedSchema.safeParse(payload(placed, meta)).error).toBeUndefined();
    expect(payload(placed, meta)).toStrictEqual({
      order_id: ORDER_ID,
      client_order_id: `lk-${DECISION_ID}`,
      decision_id: DECISION_ID,
      symbol: "BTC-USD",
      side: "BUY",
      qty: "8.10000000",
      price: "1234.50000000",
      status: "NEW",
      created_at: START + 1,
    });
  });

  it("inserts exactly the columns that the migration makes", () => {
    const sql = readFileSync(join(app.migrations ?? "", "0001-orders.sql"), "utf8");
    const table = sql.match(/CREATE TABLE app\.orders \(([\s\S]*?)\n\);/)?.[1] ?? "";
    const columns = [...table.matchAll(/^ {2}([a-z_]+) /gm)].map((match) => match[1]);
    expect(Object.keys(route("orderPlaced", "insert").row(placed, meta))).toEqual(columns);
  });

  it("wants every topic that it reads or writes, and the relay's", () => {
    const wanted = TRADING_TOPICS.map(({ name }) => name);
    const used = [...app.inputs.map(({ topic }) => topic), ...outputTopics(app), ORDERS_TOPIC, `${ORDERS_TOPIC}.dlq`];
    expect(wanted.toSorted()).toEqual(used.toSorted());
    for (const { name, partitions, config } of TRADING_TOPICS) {
      const isInput = app.inputs.some(({ topic }) => topic === name);
      expect([name, partitions, config["message.timestamp.after.max.ms"]]).toEqual([
        name,
        6,
        isInput ? "60000" : undefined,
      ]);
    }
  });
});
