/**
 * What the rows of the crash table have in common to say.
 */
import { expect, test } from "vitest";

import type { Manifest } from "../../src/cli/app-tools.ts";
import { createKafkaClient } from "../../src/kafka/client.ts";
import { openConnection } from "../../src/kafka/connection.ts";
import type { WantedTopic } from "../../src/kafka/topics.ts";
import type { FaultBed } from "./fault-bed.ts";
import type { Victim } from "./fault-victim.ts";
import type { Deployment } from "./harness.ts";
import { recordCheck } from "./proof.ts";
import { isLongRun } from "./stack.ts";

/** A row that `npm run test:fault` runs and `npm test` leaves out. */
export function longTest(name: string, body: () => Promise<void>): void {
  test.runIf(isLongRun())(name, body);
}

export interface UnderWay {
  readonly shard: number;
  /** Seq of the commit that the fault hit. */
  readonly seq: number;
  readonly victim: Victim;
}

/** The next owner found commit `seq` in Postgres and not in Kafka, and published it from redo, alone and once. */
export function expectRedoPublished(bed: FaultBed, hit: UnderWay): void {
  expect(bed.saidTakingOver("redo-published", hit)).toMatchObject([{ from: hit.seq, to: hit.seq }]);
  const again = bed
    .said("redo-published", hit)
    .filter(({ from, to }) => Number(from) <= hit.seq && hit.seq <= Number(to));
  expect(again).toHaveLength(1);
  expect(bed.said("running", hit)[0]).toMatchObject({ seq: hit.seq });
  recordCheck("the next owner found the commit in Postgres alone and published its redo, once");
}

/** The next owner found nothing of commit `seq`, and nothing to publish. */
export function expectNotCommitted(bed: FaultBed, hit: UnderWay): void {
  expect(bed.saidTakingOver("redo-published", hit)).toEqual([]);
  expect(bed.said("running", hit)[0]).toMatchObject({ seq: hit.seq - 1 });
  recordCheck("the next owner found nothing of the commit, and nothing to publish");
}

/** The next owner found commit `seq` in Postgres and in Kafka. */
export function expectDone(bed: FaultBed, hit: UnderWay): void {
  expect(bed.saidTakingOver("redo-published", hit)).toEqual([]);
  expect(bed.said("running", hit)[0]).toMatchObject({ seq: hit.seq });
  recordCheck("the next owner found the commit in Postgres and in Kafka, and published nothing");
}

/** Of a deployment that was drained by SIGTERM, with the outputs read by Kafka's own consumer. */
export async function expectAuditClean(deployment: Deployment, manifest?: Manifest): Promise<void> {
  const { findings } = await deployment.audit(manifest);
  expect(findings).toEqual([]);
  recordCheck("audit after a drain: no findings");
}

/** Commit `seq` of a shard as the journal has it. */
export async function journalRow(bed: FaultBed, { shard, seq }: { shard: number; seq: number }) {
  const rows = await bed.deployment.query<{
    token: string;
    epoch: string;
    body: { topics: string[]; entries: unknown[][] };
    positions: Record<string, string>;
  }>("SELECT token::text, epoch::text, body, positions FROM lockstep.journal WHERE shard = $1 AND seq = $2", [
    shard,
    seq,
  ]);
  expect(rows).toHaveLength(1);
  return rows[0]!;
}

/** P of a shard, as it stands. */
export async function storedSeq(bed: FaultBed, shard: number): Promise<number> {
  const rows = await bed.deployment.query<{ seq: string }>("SELECT seq::text FROM lockstep.shard WHERE shard = $1", [
    shard,
  ]);
  return Number(rows[0]!.seq);
}

/** k of a shard: the commit that the offsets of all its inputs carry; null when they carry none, or several. */
export async function publishedSeq(bed: FaultBed, shard: number): Promise<number | null> {
  const offsets = Object.values(await bed.deployment.committed(shard));
  const seqs = new Set(offsets.map(({ metadata }) => metadata.split("/")[1]));
  const [seq] = seqs;
  return seqs.size === 1 && seq !== undefined ? Number(seq) : null;
}

/** Pieces of a snapshot that was never published. */
export async function orphanedPieces(deployment: Deployment, shard: number): Promise<number> {
  const rows = await deployment.query<{ count: string }>(
    `SELECT count(*) FROM lockstep.snapshot_piece p WHERE shard = $1 AND NOT EXISTS
       (SELECT FROM lockstep.snapshot s WHERE s.shard = p.shard AND s.seq = p.seq AND s.token = p.token)`,
    [shard],
  );
  return Number(rows[0]!.count);
}

/** Up to where `read_committed` readers may read the topics, partitions summed: it stands still while a transaction is open. */
export async function stableEnd(deployment: Deployment, topics: readonly WantedTopic[]): Promise<bigint> {
  const client = createKafkaClient({ brokers: deployment.stack.brokers, clientId: "lockstep-test" });
  const connection = openConnection(client);
  try {
    await connection.watch(topics.map(({ name }) => name));
    let sum = 0n;
    for (const { name } of topics) {
      const ends = await connection.offsets(name, connection.partitions(name));
      for (const { high } of ends.values()) sum += high;
    }
    return sum;
  } finally {
    connection.destroy();
  }
}
