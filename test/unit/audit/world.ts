/**
 * A small world for the audit's tests: inputs, journal, shard rows, snapshots, published records and rows of the trading app,
 * all in plain arrays that a test may spoil.
 *
 * A correct world is made by a reference producer: it goes through commits that the test writes by hand and turns what the
 * fold expects into records and rows as they would stand in Kafka and Postgres. That the fold itself is right is the business
 * of trading-rules.test.ts, whose values are computed by hand.
 */
import { type AuditOptions, audit } from "../../../src/audit/audit.ts";
import { crcWithRecord } from "../../../src/audit/crc32c.ts";
import type { AuditReport } from "../../../src/audit/report.ts";
import type { ExpectedEffect } from "../../../src/audit/rules.ts";
import type { DatabaseRow, PublishedRecord, SourceRecord } from "../../../src/audit/sources.ts";
import { createTradingRules } from "../../../src/machines/trading/audit/index.ts";

export const INSTANCE = "0b9a1f0e-6a58-4f0c-9e0c-2f1f7f1c7a11";
export const TOKENS = ["6f3f8f2a-0000-4000-8000-000000000001", "6f3f8f2a-0000-4000-8000-000000000002"] as const;
export const TOPICS = ["trading.signal.1m", "trading.signal.5m", "trading.signal.15m"] as const;
/** Start of a window. */
export const START_MS = 1_699_999_800_000;

export type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type Tuple = unknown[];

export interface WorldCommit {
  shard: number;
  seq: number;
  epoch: number;
  token: string;
  code: string;
  streamTimeMs: number;
  taken: number;
  body: { v: number; topics: string[]; entries: Tuple[]; verdicts: Tuple[] };
  positions: Record<string, string>;
}

export interface WorldShard {
  shard: number;
  seq: number;
  confirmed: number;
  epoch: number;
  token: string | null;
  positions: Record<string, string> | null;
  streamTimeMs: number;
  code: string | null;
  snapshotSeq: number;
  snapshotToken: string | null;
  /** null: the snapshot that the row points at is not there. */
  counters: Record<string, number> | null;
}

export interface World {
  inputs: SourceRecord[];
  commits: WorldCommit[];
  shards: WorldShard[];
  outputs: Map<string, Array<Mutable<PublishedRecord>>>;
  orders: Array<Record<string, string>>;
  outbox: Array<Record<string, string>>;
  manifest: { sent: Record<string, unknown> } | undefined;
}

/** What one commit takes: records by topic and offset, or ticks to a stream time with the timers they fire. */
export interface CommitPlan {
  shard: number;
  take: ReadonlyArray<
    { topic: string; offsets: readonly number[] } | { tickMs: number; timers: number; timerVerdicts?: readonly Tuple[] }
  >;
  /** Records set aside, by topic index and offset. */
  verdicts?: ReadonlyArray<{ topic: string; offset: number; code: string }>;
  epoch?: number;
}

export function signalRecord(
  at: { topic: string; partition: number; offset: number },
  fields: Record<string, unknown> & { symbol: string; ts: number },
  more: Partial<SourceRecord> = {},
): SourceRecord {
  const value = { timeframe: at.topic.slice("trading.signal.".length), ...fields };
  return {
    topic: at.topic,
    partition: at.partition,
    offset: BigInt(at.offset),
    timestampMs: BigInt(fields.ts),
    key: Buffer.from(fields.symbol),
    value: Buffer.from(JSON.stringify(value)),
    headers: [["trace", Buffer.from(`${at.topic}-${at.offset}`)]],
    ...more,
  };
}

export function makeWorld(inputs: readonly SourceRecord[], plans: readonly CommitPlan[], relayed = false): World {
  const rules = createTradingRules({ relayed });
  const byAddress = new Map(inputs.map((record) => [`${record.topic}/${record.partition}/${record.offset}`, record]));
  const world: World = {
    inputs: [...inputs],
    commits: [],
    shards: [],
    outputs: new Map(),
    orders: [],
    outbox: [],
    manifest: undefined,
  };
  for (const stream of rules.streams) if (stream.kind === "topic") world.outputs.set(stream.name, []);

  for (const shard of [...new Set(plans.map((plan) => plan.shard))]) {
    let seq = 0;
    let ordinal = 0;
    const sink = {
      expect(stream: string, effect: ExpectedEffect) {
        const source = `${INSTANCE}/${shard}/${seq}/${ordinal}`;
        if (writeEffect(world, stream, effect, { source, shard, byAddress })) ordinal += 1;
      },
    };
    const fold = rules.start(shard, sink);
    const positions: Record<string, string> = Object.fromEntries(TOPICS.map((topic) => [topic, "0"]));
    let taken = 0;
    for (const plan of plans) {
      if (plan.shard !== shard) continue;
      seq += 1;
      ordinal = 0;
      const epoch = plan.epoch ?? 1;
      const commit: WorldCommit = {
        ...{
          shard,
          seq,
          epoch,
          token: TOKENS[epoch - 1] ?? "",
          code: "code-1",
          streamTimeMs: 0,
          taken: 0,
          positions: {},
        },
        body: { v: 1, topics: [...TOPICS], entries: [], verdicts: [] },
      };
      for (const { topic, offset, code } of plan.verdicts ?? []) {
        commit.body.verdicts.push(["r", TOPICS.indexOf(topic as never), String(offset), code, "refused"]);
      }
      for (const take of plan.take) {
        if ("tickMs" in take) {
          commit.body.entries.push(["t", take.tickMs, take.timers]);
          const verdicts = (take.timerVerdicts ?? []).map((tuple) => {
            commit.body.verdicts.push(tuple);
            const [, actorType, key, timerId, dueMs, code, message] = tuple as [
              string,
              string,
              string,
              string,
              number,
              string,
              string,
            ];
            return { kind: "timer", actorType, key, timerId, dueMs, code, message } as const;
          });
          fold.tick({ streamTimeMs: take.tickMs, timers: take.timers, verdicts });
          continue;
        }
        let crc = 0;
        for (const offset of take.offsets) {
          const record = byAddress.get(`${take.topic}/${shard}/${offset}`);
          if (record === undefined)
            throw new Error(`the plan takes ${take.topic}/${shard}/${offset}, which is not there`);
          crc = crcWithRecord(crc, record);
          const verdict = plan.verdicts?.find((v) => v.topic === take.topic && v.offset === offset);
          fold.record(
            record,
            verdict ? { kind: "record", message: "refused", ...verdict, offset: BigInt(offset) } : null,
          );
        }
        const next = String((take.offsets.at(-1) ?? 0) + 1);
        commit.body.entries.push([
          TOPICS.indexOf(take.topic as never),
          String(take.offsets[0]),
          next,
          take.offsets.length,
          crc,
        ]);
        positions[take.topic] = next;
        commit.taken += take.offsets.length;
      }
      taken += commit.taken;
      commit.streamTimeMs = fold.streamTimeMs() ?? 0;
      commit.positions = { ...positions };
      world.commits.push(commit);
    }
    const last = world.commits.at(-1) as WorldCommit;
    world.shards.push({
      ...{ shard, seq, confirmed: seq, epoch: last.epoch, token: last.token, positions: { ...positions } },
      ...{ streamTimeMs: last.streamTimeMs, code: "code-1", snapshotSeq: seq, snapshotToken: last.token },
      counters: { taken, ...fold.counters() },
    });
  }
  return world;
}

/** Runs the audit over the world as it is now. */
export function auditWorld(world: World, options: Partial<AuditOptions> = {}): Promise<AuditReport> {
  return audit({
    rules: createTradingRules(),
    database: { query: async (sql, params) => answer(world, sql, params) },
    inputs: { read: (topic) => each(world.inputs.filter((record) => record.topic === topic)) },
    outputs: { read: (topic) => each(world.outputs.get(topic) ?? []) },
    instance: INSTANCE,
    manifest: world.manifest,
    ...options,
  });
}

/** Puts the expected effect where it belongs. @returns whether it is a record that a commit publishes */
function writeEffect(
  world: World,
  stream: string,
  { id, content, key, labels }: ExpectedEffect,
  from: { source: string; shard: number; byAddress: Map<string, SourceRecord> },
): boolean {
  const text = (name: string) => String(content[name]);
  const topic = world.outputs.get(stream);
  if (stream === "app.orders") {
    world.orders.push({
      ...{
        audit_key: id,
        id,
        client_order_id: text("clientOrderId"),
        symbol: text("symbol"),
        side: text("side"),
        qty: text("qty"),
      },
      ...{
        price: text("price"),
        status: text("status"),
        created_ms: `${text("createdMs")}.000`,
        updated_ms: `${text("updatedMs")}.000`,
      },
    });
    return false;
  }
  if (stream === "app.outbox") {
    world.outbox.push({
      ...{
        audit_key: id,
        event_id: id,
        aggregate_type: text("aggregateType"),
        aggregate_id: text("aggregateId"),
        type: text("type"),
      },
      ...{ payload: text("payload").replaceAll('","', '", "'), occurred_ms: `${text("occurredMs")}.000` },
    });
    return false;
  }
  if (topic === undefined) throw new Error(`there is no stream ${stream}`);
  const headers: Record<string, string> = { "lockstep-id": id, "lockstep-source": from.source };
  const place = { topic: stream, partition: from.shard, offset: BigInt(topic.length * 2), headers };
  if (stream === "trading.orders") {
    topic.push({ ...place, timestampMs: 0, key, value: text("payload"), headers: relayHeaders(id, content) });
    return false;
  }
  const original = from.byAddress.get(id);
  if (original === undefined) {
    // A decision, or the dead letter of a timer.
    if (labels !== undefined)
      Object.assign(headers, { "__streams.errors.exception": labels[0], "__lockstep.timer": "close" });
    const value =
      content["timer"] === undefined ? text("value") : text("timer").replace("{", '{"event":{"type":"close"},');
    topic.push({ ...place, timestampMs: Number(content["timestampMs"]), key, value });
    return true;
  }
  for (const [name, value] of original.headers) headers[name] = value?.toString() ?? "";
  const prefix = stream === "trading.late" ? "__lockstep.late." : "__streams.errors.";
  for (const name of ["topic", "partition", "offset"] as const) headers[prefix + name] = String(original[name]);
  if (labels === undefined) headers[`${prefix}by-ms`] = text("behindMs");
  else headers[`${prefix}exception`] = labels[0] ?? "";
  topic.push({
    ...place,
    timestampMs: Number(original.timestampMs),
    key: original.key?.toString() ?? null,
    value: original.value?.toString() ?? null,
  });
  return true;
}

function relayHeaders(id: string, content: ExpectedEffect["content"]): Record<string, string> {
  const occurred = new Date(Number(content["occurredMs"])).toISOString().replace("Z", "000Z");
  return {
    ...{ event_id: id, event_type: String(content["type"]), aggregate_type: String(content["aggregateType"]) },
    ...{ aggregate_id: String(content["aggregateId"]), occurred_at: occurred },
  };
}

/** Answers the audit's few statements, by the table they read. */
function answer(world: World, sql: string, params: readonly unknown[]): DatabaseRow[] {
  const table = /from\s+(\S+)/.exec(sql.replace(/extract\(epoch from \w+\)/g, ""))?.[1];
  const [first, second, third, fourth] = params;
  switch (table) {
    case "lockstep.shard":
      return world.shards
        .filter(() => first === INSTANCE)
        .map((shard) => ({
          ...{
            shard: shard.shard,
            seq: String(shard.seq),
            confirmed: String(shard.confirmed),
            epoch: String(shard.epoch),
          },
          ...{ token: shard.token, positions: shard.positions && JSON.stringify(shard.positions), code: shard.code },
          ...{
            stream_time_ms: String(shard.streamTimeMs),
            snapshot_seq: String(shard.snapshotSeq),
            snapshot_token: shard.snapshotToken,
          },
        }));
    case "lockstep.journal":
      return world.commits
        .filter((commit) => commit.shard === second && commit.seq > Number(third))
        .slice(0, Number(fourth))
        .map((commit) => ({
          ...{
            seq: String(commit.seq),
            epoch: String(commit.epoch),
            token: commit.token,
            code: commit.code,
            taken: commit.taken,
          },
          ...{
            stream_time_ms: String(commit.streamTimeMs),
            body: JSON.stringify(commit.body),
            positions: JSON.stringify(commit.positions),
          },
        }));
    case "lockstep.snapshot":
      return world.shards
        .filter(
          (shard) =>
            shard.shard === second && shard.snapshotSeq === third && shard.snapshotToken === fourth && shard.counters,
        )
        .map((shard) => ({ counters: JSON.stringify(shard.counters) }));
    case "app.orders":
    case "app.outbox":
      return (table === "app.orders" ? world.orders : world.outbox)
        .filter((row) => String(row["audit_key"]) > String(first))
        .sort((a, b) => (String(a["audit_key"]) < String(b["audit_key"]) ? -1 : 1))
        .slice(0, Number(second));
    default:
      throw new Error(`the world has no table for: ${sql}`);
  }
}

async function* each<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}
