/**
 * The machines and the audit's fold, each written from docs/trading.md alone, agree: generated signals go through the shard
 * model in commits of chance sizes, and the audit finds nothing in what comes out.
 */
import fc from "fast-check";
import { expect, test } from "vitest";

import { runChecksum } from "../../../src/actors/crc32c.ts";
import type { CommitEffects } from "../../../src/actors/effects.ts";
import type { JournalEntry } from "../../../src/actors/journal.ts";
import { encodeJournal } from "../../../src/actors/journal-codec.ts";
import { judge } from "../../../src/actors/judge.ts";
import type { InputRecord } from "../../../src/actors/record.ts";
import { ShardModel } from "../../../src/actors/shard-model.ts";
import { app } from "../../../src/machines/trading/app.ts";
import { createTally } from "../../../src/machines/trading/generate/manifest.ts";
import { generatorOptions } from "../../../src/machines/trading/generate/options.ts";
import { plan } from "../../../src/machines/trading/generate/plan.ts";
import { auditWorld, INSTANCE, START_MS, TOKENS, TOPICS, type World } from "./world.ts";

const PARTITIONS = 2;
const WINDOW_MS = 300_000;

test("generated signals through the model give an audit without findings", async () => {
  const sizes = fc.record({
    seed: fc.integer({ min: 1, max: 1_000_000 }),
    total: fc.integer({ min: 1, max: 1_500 }),
    symbols: fc.integer({ min: 1, max: 5 }),
    commitRecords: fc.integer({ min: 1, max: 200 }),
    timersMax: fc.integer({ min: 1, max: 5 }),
  });
  let decisions = 0;
  let late = 0;
  await fc.assert(
    fc.asyncProperty(sizes, async (given) => {
      const report = await auditWorld(worldOfModel(given));
      expect(report.findings).toEqual([]);
      decisions += report.figures["decisions"] ?? 0;
      late += report.figures["late"] ?? 0;
    }),
    { numRuns: 12 },
  );
  // Otherwise the agreement is about nothing.
  expect(decisions).toBeGreaterThan(0);
  expect(late).toBeGreaterThan(0);
});

function worldOfModel(given: {
  seed: number;
  total: number;
  symbols: number;
  commitRecords: number;
  timersMax: number;
}): World {
  const { seed, total, symbols, commitRecords, timersMax } = given;
  // At 2 signals a second a run spans several windows.
  const options = generatorOptions({
    seed,
    total,
    symbols,
    rate: 2,
    duplicates: 0.1,
    late: 0.05,
    bad: 0.05,
    partitions: PARTITIONS,
  });
  const tally = createTally(PARTITIONS);
  const inputs: InputRecord[] = [];
  const lanes = new Map<string, bigint>();
  for (const planned of plan(options, START_MS)) {
    tally.add(planned);
    const { topic, partition, key, value, ts, timestampMs } = planned;
    const offset = lanes.get(`${topic}/${partition}`) ?? 0n;
    lanes.set(`${topic}/${partition}`, offset + 1n);
    const time = BigInt(timestampMs ?? ts);
    inputs.push({
      topic,
      partition,
      offset,
      key: key === null ? null : Buffer.from(key),
      value,
      headers: [],
      timestampMs: time,
    });
  }
  const world: World = {
    inputs,
    commits: [],
    shards: [],
    outputs: new Map(),
    orders: [],
    outbox: [],
    manifest: undefined,
  };
  world.manifest = tally.manifest({ options, startedAt: "" }) as unknown as NonNullable<World["manifest"]>;
  for (let shard = 0; shard < PARTITIONS; shard += 1) {
    const mine = inputs.filter((record) => record.partition === shard);
    runShard(world, shard, { records: mine, commitRecords, timersMax });
  }
  return world;
}

function runShard(
  world: World,
  shard: number,
  { records, commitRecords, timersMax }: { records: readonly InputRecord[]; commitRecords: number; timersMax: number },
): void {
  const limits = { timersPerCommit: timersMax, outputBytesMax: () => 1_000_000 };
  const model = new ShardModel({ app, shard, partitionsOf: () => PARTITIONS, strict: false, limits });
  const definitions = new Map(app.inputs.map((definition) => [definition.topic, definition]));
  const positions = Object.fromEntries(TOPICS.map((topic) => [topic, "0"]));
  let seq = 0;
  const commit = (take: () => JournalEntry[], taken: number) => {
    seq += 1;
    model.begin();
    const body = JSON.parse(encodeJournal({ entries: take(), verdicts: [] }));
    write(world, { shard, seq }, model.finish());
    model.accept();
    const owner = { epoch: 1, token: TOKENS[0], code: "code-1" };
    world.commits.push({
      shard,
      seq,
      ...owner,
      streamTimeMs: model.streamTimeMs,
      taken,
      body,
      positions: { ...positions },
    });
  };

  for (let from = 0; from < records.length; from += commitRecords) {
    const batch = records.slice(from, from + commitRecords);
    commit(() => {
      for (const record of batch) {
        model.takeRecord(judge(app, definitions.get(record.topic)!, record));
        positions[record.topic] = String(record.offset + 1n);
      }
      return runsOf(batch);
    }, batch.length);
  }
  const end = model.streamTimeMs + 2 * WINDOW_MS;
  while (model.streamTimeMs < end || (model.nextDueMs ?? Number.POSITIVE_INFINITY) <= end) {
    commit(() => [{ kind: "tick", ...model.takeTick(end, { timersMax }) }], 0);
  }

  const counters = { ...model.counters };
  world.shards.push({
    ...{
      shard,
      seq,
      confirmed: seq,
      epoch: 1,
      token: TOKENS[0],
      positions,
      streamTimeMs: model.streamTimeMs,
      code: "code-1",
    },
    ...{ snapshotSeq: seq, snapshotToken: TOKENS[0], counters },
  });
}

function runsOf(records: readonly InputRecord[]): JournalEntry[] {
  const runs: InputRecord[][] = [];
  for (const record of records) {
    const run = runs.at(-1);
    if (run?.[0]?.topic === record.topic) run.push(record);
    else runs.push([record]);
  }
  return runs.map((run) => ({
    ...{ kind: "run", topic: run[0]!.topic, first: run[0]!.offset, next: run.at(-1)!.offset + 1n },
    ...{ count: run.length, crc: runChecksum(run) },
  }));
}

/** What a commit makes durable, as it would be read from Kafka and Postgres. */
function write(world: World, at: { shard: number; seq: number }, { publishes, rows }: CommitEffects): void {
  for (const [ordinal, { topic, partition, key, value, headers, timestampMs }] of publishes.entries()) {
    const records = world.outputs.get(topic) ?? [];
    world.outputs.set(topic, records);
    const texts = Object.fromEntries(headers.map(([name, content]) => [name, content?.toString() ?? ""]));
    texts["lockstep-source"] = `${INSTANCE}/${at.shard}/${at.seq}/${ordinal}`;
    records.push({
      ...{ topic, partition, offset: BigInt(records.length), timestampMs: Number(timestampMs), headers: texts },
      ...{ key: key?.toString() ?? null, value: value?.toString() ?? null },
    });
  }
  const ms = (text: unknown) => `${Date.parse(String(text))}.000`;
  for (const { table, row } of rows) {
    const texts = Object.fromEntries(Object.entries(row).map(([name, value]) => [name, String(value)]));
    if (table === "app.orders") {
      const times = { created_ms: ms(row["created_at"]), updated_ms: ms(row["updated_at"]) };
      world.orders.push({ ...texts, ...times, audit_key: String(row["id"]) });
    } else {
      const payload = typeof row["payload"] === "string" ? row["payload"] : JSON.stringify(row["payload"]);
      world.outbox.push({ ...texts, payload, occurred_ms: ms(row["occurred_at"]), audit_key: String(row["event_id"]) });
    }
  }
}
