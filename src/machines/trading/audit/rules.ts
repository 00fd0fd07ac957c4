/**
 * The trading app as the audit knows it: its inputs, where its effects stand, its fold, and the sums that must agree.
 *
 * Everything here is written from docs/trading.md. Neither the machines nor their rules are imported.
 */
import type { AppRules } from "../../../audit/rules.ts";
import { deadLetterRules, decisionsRules, lateRules, ordersRules, outboxRules, relayedRules } from "./effects.ts";
import { createTradingFold } from "./fold.ts";
import { signalTopicOf, TIMEFRAMES } from "./judge.ts";
import { checkManifest } from "./manifest.ts";

/** @param options.relayed also checks the relay's topic, `trading.orders`, against the outbox; default false */
export function createTradingRules(options: { relayed?: boolean } = {}): AppRules {
  const relayed = options.relayed ?? false;
  const streams = [decisionsRules, lateRules, ...deadLetterRules, ordersRules, outboxRules];
  return {
    app: "trading",
    inputs: TIMEFRAMES.map(signalTopicOf),
    streams: relayed ? [...streams, relayedRules] : streams,
    start: (_shard, sink) => createTradingFold(sink, { relayed }),
    conclude({ figures, manifest, findings }) {
      const figure = (name: string) => figures[name] ?? 0;
      const signals = figure("inputRecords");
      const badSignals = figure("deadLetters") - figure("timersSetAside");
      const sum = figure("distinct") + figure("duplicatesIgnored") + badSignals;
      if (signals !== sum) {
        const parts = `${figure("distinct")} distinct + ${figure("duplicatesIgnored")} duplicates + ${badSignals} dead letters`;
        findings.add("mismatch", `There are ${signals} signals, but ${parts} = ${sum}.`, "sums");
      }
      if (figure("orders") !== figure("outbox")) {
        findings.add(
          "mismatch",
          `There are ${figure("orders")} orders, but ${figure("outbox")} events of them.`,
          "sums",
        );
      }
      if (relayed && figure("outbox") !== figure("published")) {
        findings.add(
          "mismatch",
          `The outbox has ${figure("outbox")} rows, but ${figure("published")} are published.`,
          "sums",
        );
      }
      const shown = {
        signals,
        distinct: figure("distinct"),
        duplicatesIgnored: figure("duplicatesIgnored"),
        late: figure("late"),
        deadLetters: figure("deadLetters"),
        decisions: figure("decisions"),
        orders: figure("orders"),
        outbox: figure("outbox"),
        ...(relayed ? { published: figure("published") } : {}),
        windowsClosed: figure("windowsClosed"),
      };
      if (manifest !== undefined) checkManifest(manifest, { ...shown, bad: badSignals }, findings);
      return shown;
    },
  };
}
