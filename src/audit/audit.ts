/**
 * The audit of one instance: does what stands in Kafka and Postgres follow, exactly once and in order, from the input and the
 * journal?
 *
 *   1. Read the input, and all that was published and inserted.
 *   2. Per shard, go through the journal: check each commit against the input, and hand its records and ticks, in that order,
 *      to the fold that the app's rules bring. What the fold expects is held against what was found.
 *   3. Report what was not found, what nothing explains, and whether counters and sums agree.
 *
 * It knows journal, shards and topics, and nothing of any app. It shares no code with what it judges (test/house/imports.test.ts),
 * only reads, and should be run on a system that was drained: what is under way shows as `unfinished`.
 */
import { createEffectStream, createSourceRegister, type EffectStream } from "./effect-stream.ts";
import { readTable, readTopic } from "./found-effects.ts";
import { createJournalCheck } from "./journal-check.ts";
import { mergeShard } from "./merge.ts";
import { PartitionLog } from "./partition-log.ts";
import { type AuditReport, createFindings, type Findings } from "./report.ts";
import type { AppRules, EffectSink, ShardFold, StreamRules } from "./rules.ts";
import type { Database, InputSource, OutputSource } from "./sources.ts";
import { readCounters, readJournal, readShards, type StoredShard } from "./stored-state.ts";

export interface AuditOptions {
  readonly rules: AppRules;
  readonly database: Database;
  readonly inputs: InputSource;
  readonly outputs: OutputSource;
  /** Id of the instance (a UUID), as it stands in `lockstep.instance`. */
  readonly instance: string;
  /** What the generator says it has sent, as parsed JSON; without it nothing is compared with it. */
  readonly manifest?: unknown;
  /** Findings listed per kind; all are counted. Default 20. */
  readonly findingsMax?: number;
}

const FINDINGS_MAX = 20;

/**
 * @returns the report; a fault of the system is a finding, never an error
 * @throws whatever a reader throws: an audit that could not read everything has no result
 */
export async function audit(options: AuditOptions): Promise<AuditReport> {
  const { rules, instance } = options;
  const findings = createFindings(options.findingsMax ?? FINDINGS_MAX);
  const shards = await readShards(options.database, instance);
  if (shards.length === 0) findings.add("journal", `Instance ${instance} has no shards.`, "lockstep.shard");
  const logs = await readInputs(options);
  const streams = createStreams(options, findings);
  for (const stream of streams.values()) await stream.load();

  const figures: Record<string, number> = { inputRecords: logs.records };
  for (const shard of shards) {
    const shardLogs = rules.inputs.map((topic) => logs.take(topic, shard.shard));
    addFigures(figures, await auditShard({ ...options, shard, logs: shardLogs, streams, findings }));
  }
  logs.reportRest(findings);
  for (const stream of streams.values()) await stream.end();

  for (const { name, figure } of rules.streams) addFigures(figures, { [figure]: streams.get(name)?.found() ?? 0 });
  const { totals } = findings;
  const shown = rules.conclude({ figures, manifest: options.manifest, findings });
  return {
    ok: Object.values(totals).every((total) => total === 0),
    app: rules.app,
    instance,
    figures: { ...shown, lost: totals.lost, doubled: totals.doubled, outOfOrder: totals.outOfOrder },
    totals: { ...totals },
    findings: findings.list(),
  };
}

/** Step 2, for one shard. @returns its figures */
async function auditShard(options: {
  rules: AppRules;
  database: Database;
  instance: string;
  shard: StoredShard;
  logs: readonly PartitionLog[];
  streams: ReadonlyMap<string, EffectStream>;
  findings: Findings;
}): Promise<Readonly<Record<string, number>>> {
  const { rules, database, instance, shard, logs, streams, findings } = options;
  const check = createJournalCheck({ shard, logs, findings });
  const sourced = new Set(rules.streams.filter((s) => s.kind === "topic" && s.sourced).map((s) => s.name));
  let seq = 0;
  let published = 0;
  let taken = 0;
  const sink: EffectSink = {
    expect(name, effect) {
      const stream = streams.get(name);
      if (stream === undefined)
        throw new Error(`The rules of ${rules.app} expect an effect on ${name}, which they do not name.`);
      const ordinal = sourced.has(name) ? published : null;
      if (ordinal !== null) published += 1;
      stream.expect(effect, { shard: shard.shard, seq, ordinal });
    },
  };
  const fold = rules.start(shard.shard, sink);
  for await (const commit of mergeShard(readJournal(database, { instance, shard: shard.shard }), check)) {
    seq = commit.stored.seq;
    published = 0;
    for (const item of commit.items) {
      if (item.kind === "tick") {
        fold.tick(item);
        continue;
      }
      taken += 1;
      fold.record(item.record, item.verdict);
    }
    check.folded(commit.stored, fold.streamTimeMs());
  }
  check.end();
  await checkCounters({ database, instance, shard, fold, taken, findings });
  return { ...fold.figures(), taken };
}

/** Counters are comparable only when the snapshot covers the last commit, as it does after a graceful stop. */
async function checkCounters(options: {
  database: Database;
  instance: string;
  shard: StoredShard;
  fold: ShardFold;
  taken: number;
  findings: Findings;
}): Promise<void> {
  const { database, instance, shard, fold, findings } = options;
  if (shard.snapshotToken === null || shard.snapshotSeq !== shard.seq) return;
  const where = `shard ${shard.shard}, snapshot ${shard.snapshotSeq}`;
  const at = { instance, shard: shard.shard, seq: shard.snapshotSeq, token: shard.snapshotToken };
  const counters = await readCounters(database, at);
  if (counters === null) {
    findings.add("journal", "The shard row points at a snapshot that is not there.", where);
    return;
  }
  for (const [name, expected] of Object.entries({ taken: options.taken, ...fold.counters() })) {
    const found = counters[name] ?? 0;
    if (found !== expected) findings.add("mismatch", `The counter ${name} is ${found}, expected ${expected}.`, where);
  }
}

interface InputLogs {
  /** Records of all inputs. */
  readonly records: number;
  /** The log of one partition; empty when the input has no record there. Each is given once. */
  take(topic: string, partition: number): PartitionLog;
  /** Records of partitions that no shard took. */
  reportRest(findings: Findings): void;
}

async function readInputs({ rules, inputs }: AuditOptions): Promise<InputLogs> {
  const logs = new Map<string, PartitionLog>();
  for (const topic of rules.inputs) {
    for await (const record of inputs.read(topic)) {
      const name = `${topic}/${record.partition}`;
      let log = logs.get(name);
      if (log === undefined) {
        log = new PartitionLog(topic, record.partition);
        logs.set(name, log);
      }
      log.append(record);
    }
  }
  return {
    records: [...logs.values()].reduce((sum, { length }) => sum + length, 0),
    take(topic, partition) {
      const name = `${topic}/${partition}`;
      const log = logs.get(name);
      logs.delete(name);
      return log ?? new PartitionLog(topic, partition);
    },
    reportRest(findings) {
      for (const [name, { length }] of logs) {
        findings.add("unfinished", `${length} records are in a partition that has no shard.`, name, length);
      }
    },
  };
}

function createStreams(options: AuditOptions, findings: Findings): Map<string, EffectStream> {
  const sources = createSourceRegister();
  const reader = (stream: StreamRules) =>
    stream.kind === "topic" ? () => readTopic(stream, options) : () => readTable(stream, options.database);
  return new Map(
    options.rules.streams.map((stream) => [
      stream.name,
      createEffectStream({ name: stream.name, read: reader(stream), sources, findings }),
    ]),
  );
}

function addFigures(sums: Record<string, number>, figures: Readonly<Record<string, number>>): void {
  for (const [name, figure] of Object.entries(figures)) sums[name] = (sums[name] ?? 0) + figure;
}
