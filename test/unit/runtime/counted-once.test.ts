/**
 * CM1: whatever becomes of a commit on its way, over all owners it is counted as often as Postgres has it: once, or not at all.
 */
import { expect, test } from "vitest";

import { type ErrorCode, LockstepError } from "../../../src/errors.ts";
import { ProcessMetrics } from "../../../src/runtime/process-metrics.ts";
import type { Shard } from "../../../src/runtime/shard.ts";
import type { ShardMeter } from "../../../src/runtime/shard-meter.ts";
import type { METRICS } from "../../../src/telemetry/metrics-list.ts";
import { turn } from "../../support/fake-ports.ts";
import { until } from "../../support/until.ts";
import { Bed } from "./bed.ts";

const fault = (code: ErrorCode, details = {}) => new LockstepError(code, `${code}, injected`, { details });

interface Case {
  readonly name: string;
  /** Where the commit of the second batch is met, and by what. */
  readonly port: "store" | "publisher";
  readonly when: "before" | "after";
  readonly error: LockstepError;
  /** Another owner takes the shard at that moment. */
  readonly takenOver?: boolean;
  /** The shard is revoked at that moment, and goes to another worker. */
  readonly revoked?: boolean;
}

const FENCED = fault("PUBLISH_FAILED", { fenced: true });
const CASES: readonly Case[] = [
  { name: "its publish was fenced, and the same owner published it", port: "publisher", when: "before", error: FENCED },
  {
    name: "its publish was fenced, and the next owner published it",
    port: "publisher",
    when: "before",
    error: FENCED,
    takenOver: true,
  },
  {
    name: "it is not known whether Kafka took it, and it did",
    port: "publisher",
    when: "after",
    error: fault("PUBLISH_FAILED"),
  },
  { name: "COMMIT was not answered, and done", port: "store", when: "after", error: fault("COMMIT_UNKNOWN") },
  { name: "COMMIT was not answered, and not done", port: "store", when: "before", error: fault("COMMIT_UNKNOWN") },
  {
    name: "COMMIT was not answered, and done, and another owner came",
    port: "store",
    when: "after",
    error: fault("COMMIT_UNKNOWN"),
    takenOver: true,
  },
  {
    name: "COMMIT was not answered, and not done, and another owner came",
    port: "store",
    when: "before",
    error: fault("COMMIT_UNKNOWN"),
    takenOver: true,
  },
  {
    name: "COMMIT was not answered, and done, and the shard was revoked",
    port: "store",
    when: "after",
    error: fault("COMMIT_UNKNOWN"),
    revoked: true,
  },
  {
    name: "COMMIT was not answered, and not done, and the shard was revoked",
    port: "store",
    when: "before",
    error: fault("COMMIT_UNKNOWN"),
    revoked: true,
  },
  { name: "it was begun under another's token", port: "store", when: "before", error: fault("SHARD_LOST") },
  { name: "Postgres was away", port: "store", when: "before", error: fault("STORE_UNAVAILABLE") },
];

test.each(CASES.map((each) => [each.name, each] as const))("CM1: counted once when %s", async (_, each) => {
  const bed = new Bed();
  const meters = [bed.meter];
  let shard = bed.start({ batchRecordsMax: 4 });
  await running(shard);
  bed.append(4);
  await until(() => bed.meter.positions?.["in"] === 4n, { what: "a commit without a fault" });

  let revoked: Promise<boolean> | null = null;
  let met = false;
  bed[each.port][each.when] = (call) => {
    if (met || call !== (each.port === "store" ? "commit" : "publish")) return;
    met = true;
    if (each.takenOver) bed.store.takeOver();
    if (each.revoked) revoked = shard.revoke("test");
    throw each.error;
  };
  bed.append(4);
  await until(() => met, { what: "the fault" });
  if (each.takenOver) {
    await until(() => shard.state === "lost", { what: "the first owner to be lost" });
    revoked = shard.revoke("test");
  }
  if (revoked) {
    await revoked;
    const meter = bed.newMeter("successor");
    meters.push(meter);
    shard = bed.start({}, "successor", meter);
  }
  bed.answered = 10; // whoever lost the shard may have it again
  bed.append(2);
  await until(() => bed.store.rows.length === 10 && bed.publisher.records.length === 10, { what: "all records" });
  await until(() => meters.at(-1)!.positions?.["in"] === 10n, { what: "Kafka to have them" });

  const counted = countsOf(bed, meters);
  expect(counted("lockstep_records_taken_total")).toBe(10);
  expect(counted("lockstep_records_published_total")).toBe(bed.publisher.records.length);
  expect(counted("lockstep_rows_written_total")).toBe(bed.store.rows.length);
  expect(counted("lockstep_tx_total", "commit")).toBe(bed.store.row.seq);
  expect(counted("lockstep_tx_total", "abort")).toBeGreaterThanOrEqual(1);
  expect(counted("lockstep_commit_records")).toBe(bed.store.row.seq);
  expect(counted("lockstep_actor_events_total")).toBe(10);
  expect(counted("lockstep_actor_emitted_total")).toBe(10);
  await shard.revoke("test");
  bed.expectExactlyOnce();
});

test("CM1: what Postgres could not tell when the shard was given up is counted when it comes back", async () => {
  const bed = new Bed();
  const shard = bed.start();
  await running(shard);
  let revoked: Promise<boolean> | null = null;
  bed.store.after = (call) => {
    if (call !== "commit") return;
    bed.store.after = () => {};
    revoked = shard.revoke("test");
    bed.store.readJournal = async () => {
      throw fault("STORE_UNAVAILABLE");
    };
    throw fault("COMMIT_UNKNOWN");
  };
  bed.append(3);
  await until(() => revoked !== null, { what: "the fault" });
  await revoked;
  expect(bed.lines("notCounted")).toHaveLength(1);
  expect(countsOf(bed, [])("lockstep_records_taken_total")).toBe(0);
  // @ts-expect-error the method of the class is there again
  delete bed.store.readJournal;

  const again = bed.start();
  await until(() => bed.meter.positions?.["in"] === 3n, { what: "Kafka to have it" });
  await running(again);
  expect(countsOf(bed, [bed.meter])("lockstep_records_taken_total")).toBe(3);
  await again.revoke("test");
});

async function running(shard: Shard): Promise<void> {
  for (let i = 0; i < 20_000 && shard.state !== "running"; i += 1) await turn();
  expect(shard.state).toBe("running");
}

/** Sums over all that was reported; `label` picks series that have this value. */
function countsOf(bed: Bed, meters: readonly ShardMeter[]) {
  const metrics = new ProcessMetrics({ workers: 1, actorsMax: 5, build: { version: "1", code: "c", node: "v20" } });
  const report = {
    series: bed.series.take(),
    actors: meters.flatMap((meter) => meter.takeActivities()),
    shards: meters.flatMap((meter) => meter.report() ?? []),
    answeredAgoMs: 0,
  };
  metrics.workerReported(0, structuredClone(report));
  metrics.refresh();
  return (name: keyof typeof METRICS, label?: string) =>
    metrics
      .samples(name)
      .filter(
        ({ suffix, labels }) => ["", "_count"].includes(suffix) && (!label || Object.values(labels).includes(label)),
      )
      .reduce((sum, { value }) => sum + value, 0);
}
