/**
 * What trading brings for the commands: topics, a generator of signals, rules for the audit, and what the demo shows of it.
 */
import type { AppTools } from "../../cli/app-tools.ts";
import { systemClock } from "../../clock.ts";
import { createTradingRules } from "./audit/index.ts";
import { createLoad } from "./generate/run.ts";
import { DECISIONS_TOPIC, ORDERS_TOPIC, TRADING_TOPICS } from "./topics.ts";

/** Figures of which a run must show at least one, or it has proven nothing about them. */
const ABOVE_ZERO = ["duplicatesIgnored", "late", "deadLetters", "windowsClosed", "decisions", "orders", "published"];

export const tools: AppTools = {
  topics: TRADING_TOPICS,
  load: ({ total, ...options }) => createLoad({ ...options, total: total ?? null }, systemClock),
  auditRules: (options) => createTradingRules(options),
  demo: {
    latencies: [
      { topic: DECISIONS_TOPIC, name: "decision", figure: "decisions" },
      { topic: ORDERS_TOPIC, name: "order", figure: "published", relayed: true },
    ],
    rows: ({ figures }) => [
      ["signals", `${figures["signals"]}`],
      ["  distinct", `${figures["distinct"]}`],
      ["  duplicates ignored", `${figures["duplicatesIgnored"]}`],
      ["  dead letters", `${figures["deadLetters"]}`],
      ["late (of the distinct)", `${figures["late"]}`],
      ["windows closed", `${figures["windowsClosed"]}`],
      ["decisions", `${figures["decisions"]}`],
      ["orders", `${figures["orders"]}`],
      ["outbox rows", `${figures["outbox"]}`],
      ["published by the relay", `${figures["published"] ?? "(no relay)"}`],
    ],
    faults: ({ figures }) =>
      ABOVE_ZERO.filter((name) => name !== "published" || name in figures) // without a relay there is no such figure
        .filter((name) => !((figures[name] ?? 0) > 0))
        .map((name) => `${name} is ${figures[name]}: the run shows nothing about it`),
  },
};
