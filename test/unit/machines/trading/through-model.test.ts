/** Generated signals through the whole model: what the manifest says went in must be what comes out. */
import { describe, expect, it } from "vitest";

import type { CommitEffects } from "../../../../src/actors/effects.ts";
import { judge } from "../../../../src/actors/judge.ts";
import { ShardModel } from "../../../../src/actors/shard-model.ts";
import { app } from "../../../../src/machines/trading/app.ts";
import { createTally } from "../../../../src/machines/trading/generate/manifest.ts";
import { generatorOptions } from "../../../../src/machines/trading/generate/options.ts";
import { type PlannedRecord, plan } from "../../../../src/machines/trading/generate/plan.ts";
import { ACTIONS, type Decision, decisionSchema, orderRowSchema } from "../../../../src/machines/trading/schemas.ts";
import { START } from "./signals.ts";

const OPTIONS = generatorOptions({
  total: 6_000,
  symbols: 4,
  rate: 100,
  duplicates: 0.1,
  late: 0.05,
  bad: 0.05,
  partitions: 2,
});

/** Feeds the plan to one model a partition, in the order sent. */
function run(records: readonly PlannedRecord[], { strict }: { strict: boolean }): CommitEffects[] {
  const definitions = new Map(app.inputs.map((definition) => [definition.topic, definition]));
  const models = Array.from({ length: OPTIONS.partitions }, (_, shard) => {
    const limits = { timersPerCommit: 1_000, outputBytesMax: () => 1_000_000 };
    const model = new ShardModel({ app, shard, partitionsOf: () => OPTIONS.partitions, strict, limits });
    model.begin();
    return model;
  });
  const offsets = new Map<string, bigint>();
  for (const { topic, partition, key, value, ts, timestampMs } of records) {
    const lane = `${topic}/${partition}`;
    const offset = offsets.get(lane) ?? 0n;
    offsets.set(lane, offset + 1n);
    const record = {
      topic,
      partition,
      offset,
      key: key === null ? null : Buffer.from(key),
      value,
      headers: [],
      timestampMs: BigInt(timestampMs ?? ts),
    };
    models[partition]!.takeRecord(judge(app, definitions.get(topic)!, record));
  }
  return models.map((model) => model.finish());
}

describe("generated signals through the model", () => {
  const records = [...plan(OPTIONS, START)];
  const tally = createTally(OPTIONS.partitions);
  for (const record of records) tally.add(record);
  const { sent } = tally.manifest({ options: OPTIONS, startedAt: "" });
  const effects = run(records, { strict: true });
  const publishes = effects.flatMap((commit) => commit.publishes);
  const rows = effects.flatMap((commit) => commit.rows);
  const countOf = (name: string) => effects.reduce((sum, { counts }) => sum + (counts[name] ?? 0), 0);
  const decisions = publishes.filter(({ topic }) => topic === "trading.decisions");
  const parsedDecisions = decisions.map(({ value }): Decision => decisionSchema.parse(JSON.parse(value!.toString())));

  it("sets aside exactly the bad, finds exactly the late and the duplicates", () => {
    expect(publishes.filter(({ topic }) => topic.endsWith(".dlq"))).toHaveLength(sent.bad);
    expect(publishes.filter(({ topic }) => topic === "trading.late")).toHaveLength(sent.late);
    expect(countOf("duplicatesIgnored")).toBe(sent.duplicates);
    expect(countOf("windowsClosed")).toBeGreaterThan(10);
  });

  it("takes every action, and places an order for every decision that is sure enough", () => {
    expect(new Set(parsedDecisions.map(({ action }) => action))).toEqual(new Set(ACTIONS));
    const orders = rows.filter(({ table }) => table === "app.orders");
    const sure = parsedDecisions.filter(({ action, confidence }) => action !== "HOLD" && confidence >= 0.65);
    expect(orders.length).toBeGreaterThan(100);
    expect(orders.map(({ row }) => orderRowSchema.parse(row).client_order_id).toSorted()).toEqual(
      sure.map(({ id }) => `lk-${id}`).toSorted(),
    );
    expect(rows.filter(({ table }) => table === "app.outbox")).toHaveLength(orders.length);
  });

  it("makes the ids of docs/trading.md: a decision is event 1 of its record, its order event 2", () => {
    const known = new Set(parsedDecisions.map(({ id }) => id));
    expect(known.size).toBe(decisions.length);
    for (const { row } of rows.filter(({ table }) => table === "app.outbox")) {
      const payload = row["payload"] as { order_id: string; decision_id: string };
      expect(row["aggregate_id"]).toBe(payload.order_id);
      expect(known.has(payload.decision_id)).toBe(true);
    }
  });

  it("gives the same, byte for byte, without strict mode", () => {
    expect(run(records, { strict: false }).map(({ digest }) => digest)).toEqual(effects.map(({ digest }) => digest));
  });
});
