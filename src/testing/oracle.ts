/**
 * Judges a deployment in memory after it came to rest: what a plain fold of the input gives stands in the topics and in the
 * tables, each thing once, in order, and nothing else. docs/protocol.md has the invariants.
 *
 *   I1   commits are numbered without gaps, and their runs tile the input
 *   I2   Kafka's offsets are those of the latest commit
 *   I5   at most one committed Kafka transaction per commit; records in the order of commits
 *   I6   read_committed records = fold(input)
 *   I7   rows = fold(input); ids are unique
 *   I8   the state that a snapshot holds = fold(input)
 *   I9   every input record was taken once
 *   I10  after a graceful stop k = P = c = S
 */
import { outputTopics } from "../actors/app.ts";
import { judge, SOURCE_HEADER } from "../actors/judge.ts";
import { parseOffsetMetadata } from "../actors/offset-metadata.ts";
import type { CommitRequest } from "../actors/ports.ts";
import type { InputRecord, OutputRecord } from "../actors/record.ts";
import { ShardModel } from "../actors/shard-model.ts";
import type { Cluster } from "./cluster.ts";

export interface Judgement {
  /** Empty: all is well. Each a sentence. */
  readonly faults: readonly string[];
  readonly figures: {
    readonly taken: number;
    readonly commits: number;
    readonly published: number;
    readonly rows: number;
    readonly ticks: number;
    readonly verdicts: number;
  };
}

const FAULTS_MAX = 20;

export function judgeCluster(cluster: Cluster): Judgement {
  const faults: string[] = [];
  const figures = { taken: 0, commits: 0, published: 0, rows: 0, ticks: 0, verdicts: 0 };
  const published = publishedBySource(cluster, faults);
  for (const shard of cluster.postgres.shards.keys()) {
    const { row, history } = cluster.postgres.of(shard);
    figures.commits += history.length;
    figures.ticks += history.reduce((n, { journal }) => n + journal.entries.filter((e) => e.kind === "tick").length, 0);
    figures.verdicts += history.reduce((n, { journal }) => n + journal.verdicts.length, 0);
    history.forEach(({ seq }, i) => {
      if (seq !== i + 1) faults.push(`I1: shard ${shard}: commit ${seq} comes as number ${i + 1}`);
    });
    checkRuns(shard, history, faults);
    if (row.seq !== history.length)
      faults.push(`I1: shard ${shard} stands at ${row.seq} after ${history.length} commits`);
    const input = takenInput(cluster, shard, history, faults);
    figures.taken += [...input.values()].reduce((n, records) => n + records.length, 0);
    const expected = fold(cluster, shard, history, input);
    compareRecords(shard, expected.publishes, published.get(shard) ?? [], faults);
    figures.published += expected.publishes.length;
    figures.rows += compareRows(cluster, shard, expected.rows, faults);
    compareOffsets(cluster, shard, faults);
    compareState(cluster, shard, expected.model, faults);
  }
  const strangers = [...published.keys()].filter((shard) => !cluster.postgres.shards.has(shard));
  for (const shard of strangers) faults.push(`I6: records of shard ${shard}, which there is not, were published`);
  return { faults: faults.slice(0, FAULTS_MAX), figures };
}

/** I1. Runs go on where the one before ended, or beyond: what lies between is no data. */
function checkRuns(shard: number, history: readonly CommitRequest[], faults: string[]): void {
  const at = new Map<string, bigint>();
  for (const { seq, journal, positions } of history) {
    for (const entry of journal.entries) {
      if (entry.kind !== "run") continue;
      const from = at.get(entry.topic) ?? 0n;
      if (entry.first < from || entry.next <= entry.first)
        faults.push(
          `I1: shard ${shard}: commit ${seq} takes ${entry.topic} from ${entry.first} to ${entry.next}, after ${from}`,
        );
      at.set(entry.topic, entry.next);
    }
    for (const [topic, position] of Object.entries(positions))
      if ((at.get(topic) ?? 0n) !== position)
        faults.push(`I1: shard ${shard}: commit ${seq} leaves ${topic} at ${position}, its runs at ${at.get(topic)}`);
  }
}

/** I9. The records of each input, as the journal says they were taken. */
function takenInput(
  cluster: Cluster,
  shard: number,
  history: readonly CommitRequest[],
  faults: string[],
): Map<string, InputRecord[]> {
  const all = new Map<string, InputRecord[]>();
  for (const { topic } of cluster.app.inputs) {
    const { records } = cluster.kafka.log(topic, shard).read(0n, Number.POSITIVE_INFINITY);
    all.set(topic, records);
    const runs = history.flatMap(({ journal }) => journal.entries.filter((e) => e.kind === "run" && e.topic === topic));
    const counted = runs.reduce((n, run) => n + (run.kind === "run" ? run.count : 0), 0);
    if (counted !== records.length)
      faults.push(`I9: shard ${shard} took ${counted} records of ${topic}, which has ${records.length}`);
  }
  return all;
}

/** The whole history as ONE batch of a model that never restarts: where batches were cut must not matter. */
function fold(
  cluster: Cluster,
  shard: number,
  history: readonly CommitRequest[],
  input: ReadonlyMap<string, readonly InputRecord[]>,
) {
  const { app, kafka } = cluster;
  const model = new ShardModel({
    app,
    shard,
    partitionsOf: (topic) => kafka.partitions(topic),
    strict: true,
    limits: {
      timersPerCommit: Number.POSITIVE_INFINITY,
      outputBytesMax: () => cluster.outputBytesMax,
      effectBytesMax: () => Number.MAX_SAFE_INTEGER,
    },
  });
  const definitions = new Map(app.inputs.map((definition) => [definition.topic, definition]));
  const next = new Map<string, number>();
  model.begin();
  for (const { journal } of history) {
    const recordVerdicts = new Map(
      journal.verdicts.filter((v) => v.kind === "record").map((v) => [`${v.topic}/${v.offset}`, v]),
    );
    const timerVerdicts = journal.verdicts.filter((v) => v.kind === "timer");
    for (const entry of journal.entries) {
      if (entry.kind === "tick") {
        model.takeTick(entry.streamTimeMs, { timersMax: entry.timers, verdicts: timerVerdicts });
        continue;
      }
      const from = next.get(entry.topic) ?? 0;
      next.set(entry.topic, from + entry.count);
      for (const record of (input.get(entry.topic) ?? []).slice(from, from + entry.count)) {
        const verdict = recordVerdicts.get(`${record.topic}/${record.offset}`);
        model.takeRecord(judge(app, definitions.get(entry.topic)!, record), verdict, timerVerdicts);
      }
    }
  }
  const { publishes, rows } = model.finish();
  model.accept();
  return { publishes, rows, model };
}

interface Published {
  readonly record: InputRecord;
  readonly seq: number;
  readonly ordinal: number;
}

/** I5. What `read_committed` readers see of each shard, in the order of its commits. */
function publishedBySource(cluster: Cluster, faults: string[]): Map<number, Published[]> {
  const byShard = new Map<number, Published[]>();
  const inputs = new Set(cluster.app.inputs.map(({ topic }) => topic));
  for (const topic of outputTopics(cluster.app)) {
    if (inputs.has(topic)) continue;
    const latest = new Map<string, Published>();
    for (const record of cluster.kafka.readTopic(topic)) {
      const source = record.headers.findLast(([name]) => name === SOURCE_HEADER)?.[1]?.toString() ?? "";
      const [, shard, seq, ordinal] = source.split("/").map(Number);
      const found = { record, seq: seq!, ordinal: ordinal! };
      const of = `${record.partition}/${shard}`;
      const before = latest.get(of);
      if (before && (before.seq > found.seq || (before.seq === found.seq && before.ordinal >= found.ordinal)))
        faults.push(
          `I5: ${topic}/${record.partition}: ${source} at offset ${record.offset} comes after ${before.seq}/${before.ordinal} of the same shard`,
        );
      latest.set(of, found);
      const all = byShard.get(shard!) ?? [];
      byShard.set(shard!, all);
      all.push(found);
    }
  }
  for (const all of byShard.values()) all.sort((a, b) => a.seq - b.seq || a.ordinal - b.ordinal);
  return byShard;
}

function compareRecords(
  shard: number,
  expected: readonly OutputRecord[],
  found: readonly Published[],
  faults: string[],
): void {
  const lengths = `shard ${shard}: ${found.length} records are published, the fold gives ${expected.length}`;
  if (found.length !== expected.length) faults.push(`I6: ${lengths}`);
  for (const [i, wanted] of expected.entries()) {
    const got = found[i];
    const text = textOf(wanted);
    const gotText = got && textOf({ ...got.record, headers: got.record.headers.slice(0, -1) });
    if (gotText === text) continue;
    faults.push(`I6: shard ${shard}: record ${i} is ${gotText ?? "missing"}, the fold gives ${text}`);
    return;
  }
}

function compareRows(
  cluster: Cluster,
  shard: number,
  expected: ReturnType<typeof fold>["rows"],
  faults: string[],
): number {
  const found = cluster.postgres.rows.filter((row) => row.shard === shard);
  const textOfRow = (row: { table: string; row: unknown }) => `${row.table} ${JSON.stringify(row.row)}`;
  if (found.length !== expected.length)
    faults.push(`I7: shard ${shard}: ${found.length} rows were inserted, the fold gives ${expected.length}`);
  const differs = expected.findIndex((row, i) => !found[i] || textOfRow(found[i]) !== textOfRow(row));
  if (differs >= 0)
    faults.push(
      `I7: shard ${shard}: row ${differs} is ${found[differs] ? textOfRow(found[differs]) : "missing"}, the fold gives ${textOfRow(expected[differs]!)}`,
    );
  return found.length;
}

/** I2, I5, I10. */
function compareOffsets(cluster: Cluster, shard: number, faults: string[]): void {
  const { row } = cluster.postgres.of(shard);
  const topics = cluster.app.inputs.map(({ topic }) => topic);
  for (const [topic, { offset, metadata }] of Object.entries(cluster.kafka.offsetsOf(shard, topics))) {
    const seq = parseOffsetMetadata(metadata)?.seq ?? null;
    if (row.positions === null && offset === null) continue;
    if (offset !== row.positions?.[topic] || seq !== row.seq)
      faults.push(
        `I2: shard ${shard}: Kafka has offset ${offset} of ${topic} at commit ${seq}, Postgres ${row.positions?.[topic]} at ${row.seq}`,
      );
  }
  if (row.confirmed !== row.seq || row.snapshotSeq !== row.seq || row.owner !== null)
    faults.push(
      `I10: shard ${shard}: after a graceful stop P = ${row.seq}, c = ${row.confirmed}, S = ${row.snapshotSeq}, owner ${row.owner}`,
    );
  let last = -1;
  for (const { offsets } of cluster.kafka.transactions) {
    if (offsets[0]?.partition !== shard) continue;
    const seq = parseOffsetMetadata(offsets[0].metadata)?.seq ?? -1;
    // Start positions may be written twice: they are fixed in the row, and publish nothing.
    if (seq < last || (seq === last && seq > 0))
      faults.push(`I5: shard ${shard}: a transaction of commit ${seq} was committed after one of ${last}`);
    last = seq;
  }
}

/** I8. */
function compareState(cluster: Cluster, shard: number, expected: ShardModel, faults: string[]): void {
  const { row, snapshots } = cluster.postgres.of(shard);
  if (row.seq === 0 || row.snapshotSeq !== row.seq) return;
  const stored = snapshots.find(
    ({ manifest }) => manifest.seq === row.snapshotSeq && manifest.token === row.snapshotToken,
  );
  if (!stored) {
    faults.push(`I8: shard ${shard}: the manifest of snapshot ${row.snapshotSeq} is missing`);
    return;
  }
  const { seq, token, pieces } = stored.manifest;
  const found = Buffer.concat(
    Array.from({ length: pieces }, (_, piece) => cluster.postgres.pieces.get(`${shard}/${seq}/${token}/${piece}`)!),
  );
  const wanted = Buffer.concat([...expected.capture().pieces(Number.MAX_SAFE_INTEGER)]);
  if (!found.equals(wanted))
    faults.push(`I8: shard ${shard}: the snapshot of commit ${seq} is not the state that the fold gives`);
}

function textOf({ topic, partition, key, value, headers, timestampMs }: OutputRecord): string {
  const head = headers.map(([name, content]) => `${name}=${content?.toString()}`).join(" ");
  return `${topic}/${partition} ${key?.toString() ?? "null"} ${value?.toString() ?? "null"} at ${timestampMs} [${head}]`;
}
