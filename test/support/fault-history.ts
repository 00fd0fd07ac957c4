/**
 * What happens to a deployment behind its back: offsets deleted, a backup restored, other code started.
 */
import { appendFile, cp, rm } from "node:fs/promises";
import { dirname, join } from "node:path";

import { expect } from "vitest";

import { loadApp } from "../../src/runtime/code.ts";
import { APPS, ROOT } from "./deployment-settings.ts";
import type { Deployment, ProcessEvent } from "./harness.ts";
import { recordCheck, recordHit } from "./proof.ts";
import { withAdmin } from "./recreate-topics.ts";
import { until } from "./until.ts";

/** Everything that a backup of the database of the visits app would bring back. */
const TABLES = [
  "lockstep.shard",
  "lockstep.journal",
  "lockstep.redo",
  "lockstep.snapshot",
  "lockstep.snapshot_piece",
  "visits.visits",
];

/**
 * The first shard that halts, with this code; it and the others that halted are no surprise to later waits.
 * @param text what its message must say
 */
export async function expectHalt(deployment: Deployment, code: string, text: RegExp): Promise<ProcessEvent> {
  const halted = await deployment.untilEvent("halted");
  expect(halted).toMatchObject({ err: { code, message: expect.stringMatching(text) } });
  recordCheck(`the shard halts with ${code}, and says what was found`);
  return halted;
}

/**
 * Ends a process with halted shards, which says by its exit code that not all was drained, and forgets what it said: the waits of
 * the harness give up when a shard has halted.
 */
export async function stopAfterHalt(deployment: Deployment, name: string): Promise<void> {
  const process = deployment.process(name);
  process.signal("SIGTERM");
  const { code } = await process.exited;
  if (code !== 1) throw new Error(`${name} had a halted shard and ended with ${code}, not 1`);
  deployment.forget(name);
}

/** Once the members of the dead have left it. */
export async function deleteGroupOffsets(deployment: Deployment): Promise<void> {
  await withAdmin(deployment.stack.brokers, (admin) =>
    until(
      async () => {
        await admin.deleteGroups([deployment.groupId]);
        return true;
      },
      { what: `group ${deployment.groupId} to be deleted` },
    ),
  );
  const offsets = Object.values(await deployment.committed(0));
  expect(offsets.map(({ offset }) => offset)).toEqual(offsets.map(() => null));
  recordHit("the group's offsets deleted", "Kafka has none for shard 0");
}

/** Deletes the records below an offset, as retention does. */
export async function trim(
  deployment: Deployment,
  { topic, partition, offset }: { topic: string; partition: number; offset: bigint },
): Promise<void> {
  await withAdmin(deployment.stack.brokers, async (admin) => {
    await admin.fetchTopicOffsets(topic); // kafkajs looks for the leader in metadata that it has not asked for
    await admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: String(offset) }] });
    const low = (await admin.fetchTopicOffsets(topic)).find((each) => each.partition === partition)?.low;
    expect(low).toBe(String(offset));
    recordHit("the input trimmed", `${topic}/${partition} begins at ${low}`);
  });
}

export async function backUp(deployment: Deployment): Promise<void> {
  await deployment.query("CREATE SCHEMA backup");
  for (const table of TABLES) await deployment.query(`CREATE TABLE backup.${nameOf(table)} AS TABLE ${table}`);
}

export async function bringBack(deployment: Deployment, tables: readonly string[] = TABLES): Promise<void> {
  const before = await seqOf(deployment);
  await deployment.query(
    `BEGIN; ${tables
      .map((table) => `DELETE FROM ${table}; INSERT INTO ${table} SELECT * FROM backup.${nameOf(table)};`)
      .join(" ")} COMMIT`,
  );
  const after = await seqOf(deployment);
  expect(after).toBeLessThan(before);
  recordHit("Postgres put back to an older state", `seq of all shards: ${after}, was ${before}`);
}

/** Another build of the visits app: the same behaviour, other code. @returns what LOCKSTEP_APP is to be set to */
export async function withOtherBuild<T>(work: (app: string) => Promise<T>): Promise<T> {
  const folder = join(ROOT, ".lockstep/test-apps-other");
  try {
    await cp(dirname(APPS.visits), join(folder, "visits"), { recursive: true });
    await appendFile(join(folder, "visits/machines.js"), "\n// Another build.\n");
    const other = join(folder, "visits/app.js");
    const codes = await Promise.all([APPS.visits, other].map(async (path) => (await loadApp(path)).code));
    expect(codes[1]).not.toBe(codes[0]);
    return await work(other);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function seqOf(deployment: Deployment): Promise<number> {
  const rows = await deployment.query<{ sum: string }>("SELECT sum(seq)::text AS sum FROM lockstep.shard");
  return Number(rows[0]!.sum);
}

function nameOf(table: string): string {
  return table.slice(table.indexOf(".") + 1);
}
