/**
 * What trading brings for the commands: topics, a generator of signals, rules for the audit, and what the demo shows of it.
 */
import type { AppTools } from "../../cli/app-tools.ts";
import { systemClock } from "../../clock.ts";
import { createTradingRules } from "./audit/index.ts";
import { createLoad } from "./generate/run.ts";
import { DECISIONS_TOPIC, TRADING_TOPICS } from "./topics.ts";

/** Figures of which a run must show at least one, or it has proven nothing about them. */
const ABOVE_ZERO = ["duplicatesIgnored", "late", "deadLetters", "windowsClosed", "decisions", "orders"];

export const tools: AppTools = {
  topics: TRADING_TOPICS,
  load: ({ total, ...options }) => createLoad({ ...options, total: total ?? null }, systemClock),
  auditRules: () => createTradingRules(),
  demo: {
    latencyTopic: DECISIONS_TOPIC,
    latencyName: "decision",
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
    ],
    faults: ({ figures }) =>
      ABOVE_ZERO.filter((name) => !((figures[name] ?? 0) > 0)).map(
        (name) => `${name} is ${figures[name]}: the run shows nothing about it`,
      ),
  },
};
