/**
 * The apps that are simulated, each with a load and whatever its tables refuse.
 */
import { app as trading } from "../../src/machines/trading/app.ts";
import { TIMEFRAMES } from "../../src/machines/trading/schemas.ts";
import { signalTopic } from "../../src/machines/trading/topics.ts";
import type { LoadRecord, Random, SimulationOptions } from "../../src/testing/index.ts";
import visits from "../support/apps/visits/app.ts";
import { EVENTS_TOPIC } from "../support/apps/visits/topics.ts";
import { ledger, ledgerCheck, ledgerLoad, ledgerTables } from "./ledger.ts";

export type SimulatedApp = Omit<SimulationOptions, "seed">;

export const SIMULATED: Readonly<Record<string, SimulatedApp>> = {
  ledger: { app: ledger, load: ledgerLoad, tables: ledgerTables, check: ledgerCheck },
  trading: {
    app: trading,
    load: signals,
    tables: { "app.orders": { unique: [["id"], ["client_order_id"]] }, "app.outbox": { unique: [["event_id"]] } },
  },
  visits: { app: visits, load: seen, tables: { "visits.visits": { unique: [["id"]] } } },
};

const START_MS = Date.UTC(2030, 0, 1);

/** Signals over two or three windows, one side ahead of the other, some of them late, sent twice, or no signals at all. */
function signals(random: Random): LoadRecord[] {
  const count = random.between(30, 250);
  const spreadMs = random.pick([0, 5_000, 10_000]);
  const speed = random.pick([10, 60, 120]);
  const records: LoadRecord[] = [];
  for (let i = 0; i < count; i += 1) {
    const atMs = Math.floor((i / count) * spreadMs);
    const timeframe = random.pick(TIMEFRAMES);
    const behindMs = random.chance(0.05) ? random.between(5_000, 30_000) : random.between(0, 2_000);
    const ts = START_MS + 60_000 + (spreadMs === 0 ? i * 3_000 : atMs * speed) - behindMs;
    const symbol = `S${random.between(0, 3)}-USD`;
    const signal = {
      symbol,
      side: random.chance(0.75) ? "BUY" : "SELL",
      qty: random.chance(0.02) ? 0 : random.between(1, 500) / 100,
      price: String(90 + random.between(0, 2_000) / 100),
      timeframe,
      ts,
      ...(random.chance(0.7) ? { id: `${symbol}-${timeframe}-${i}` } : {}),
    };
    const topic = signalTopic(timeframe);
    const value = random.chance(0.01) ? "{" : JSON.stringify(signal);
    const record: LoadRecord = { atMs, topic, key: random.chance(0.01) ? null : symbol, value, timestampMs: ts };
    records.push(record);
    if (random.chance(0.05)) records.push({ ...record, atMs: atMs + random.between(0, 500) });
  }
  return records.sort((a, b) => a.atMs - b.atMs);
}

/** Visitors who enter, ping, leave, or are never heard of again. */
function seen(random: Random): LoadRecord[] {
  const count = random.between(20, 250);
  const spreadMs = random.pick([0, 5_000, 10_000]);
  const speed = random.pick([1, 5, 20]);
  const kinds = ["enter", "enter", "ping", "ping", "leave", "poison", "unheard-of"];
  return Array.from({ length: count }, (_, i) => {
    const atMs = Math.floor((i / count) * spreadMs);
    const at =
      START_MS +
      (spreadMs === 0 ? i * 1_000 : atMs * speed) -
      random.between(0, 3_000) -
      (random.chance(0.03) ? 15_000 : 0);
    const visitor = `${random.pick(["a", "b", "c", "d", "e"])}${random.between(0, 3)}`;
    const kind = random.chance(0.1) ? random.pick(kinds) : random.pick(kinds.slice(0, 5));
    return { atMs, topic: EVENTS_TOPIC, key: visitor, value: JSON.stringify({ visitor, kind, at }), timestampMs: at };
  });
}
