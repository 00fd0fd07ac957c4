/**
 * Debezium and the relay: the same rows, the same records; and one takes over from the other, both ways, while rows are being written.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, test } from "vitest";

import type { InputRecord } from "../../src/actors/record.ts";
import type { RelayShown } from "../../src/cli/relay.ts";
import { lockstep } from "../support/command.ts";
import {
  CONNECTOR,
  type DebeziumBed,
  ORDERS_PARTITIONS,
  openBed,
  SECOND_TOPIC,
  SLOT,
} from "../support/debezium/bed.ts";
import {
  expectedRecords,
  insertRows,
  type OutboxRow,
  peculiarRows,
  plainRows,
  someKeys,
} from "../support/debezium/outbox-rows.ts";
import { type RelayProcess, startRelay } from "../support/debezium/relay-process.ts";
import { judge, orderRecord } from "../support/debezium/verdict.ts";
import { noteFigures } from "../support/figures.ts";
import { until } from "../support/until.ts";

const NOTHING_WRONG = { lost: 0, doubled: 0, foreign: 0, outOfOrder: 0, differing: [] };

let bed: DebeziumBed;
const relays: RelayProcess[] = [];
const writers: Writer[] = [];
afterEach(async () => {
  await Promise.all(writers.splice(0).map((writer) => writer.stop()));
  await Promise.all(relays.splice(0).map((relay) => relay.kill()));
  await bed.close();
});

function relay(): RelayProcess {
  const started = startRelay(bed.env);
  relays.push(started);
  return started;
}

/** Its exit code is 1 when the relay would not start, and what it prints is the same. */
async function relayStatus(): Promise<RelayShown> {
  return JSON.parse((await lockstep(["relay", "status", "--json"], bed.env)).stdout);
}

/** Per partition, what its readers see, in their order. */
function sequences(records: readonly InputRecord[]): unknown[][] {
  const partitions: unknown[][] = Array.from({ length: ORDERS_PARTITIONS }, () => []);
  for (const record of records) partitions[record.partition]!.push(orderRecord(record));
  return partitions;
}

describe("Debezium and the relay", () => {
  test("make the same records, partition by partition and in the same order", async () => {
    bed = await openBed({ relay: true });
    await bed.worker.start();
    await bed.worker.put(CONNECTOR, await bed.config({ "transforms.outbox.route.topic.replacement": SECOND_TOPIC }));
    relay();
    const beganMs = performance.now();
    const keys = someKeys(30);
    const peculiar = Object.values(peculiarRows());
    const alone = plainRows(1_000, keys);
    const transaction = plainRows(8_000, keys);
    await insertRows(bed.pool, peculiar);
    for (const row of alone) await insertRows(bed.pool, [row]);
    await insertRows(bed.pool, transaction);
    const rows = [...peculiar, ...alone, ...transaction];
    const order = rows.map(({ eventId }) => eventId);

    const ofRelay = await bed.untilPublished(order.at(-1)!);
    const ofDebezium = await bed.untilPublished(order.at(-1)!, SECOND_TOPIC);
    const expected = await expectedRecords(bed.pool);
    const verdict = judge(ofDebezium, expected, { order, partitions: ORDERS_PARTITIONS });
    noteFigures({
      test: "relay and Debezium",
      rows: rows.length,
      seconds: Math.round((performance.now() - beganMs) / 100) / 10,
      kills: 0,
      ...verdict,
      differing: verdict.differing.length,
    });
    expect(verdict).toMatchObject(NOTHING_WRONG);
    expect(judge(ofRelay, expected, { order, partitions: ORDERS_PARTITIONS })).toEqual(verdict);
    expect(sequences(ofDebezium)).toEqual(sequences(ofRelay));
    expect(ofRelay).toHaveLength(rows.length);
    // What README.md names as different.
    const [one] = alone;
    const timestampOf = (records: readonly InputRecord[]) =>
      new Date(
        Number(records.find((record) => record.key?.toString() === one!.aggregateId)!.timestampMs),
      ).toISOString();
    expect(timestampOf(ofRelay)).toBe("2026-11-21T00:22:06.123Z");
    expect(timestampOf(ofDebezium)).not.toBe(timestampOf(ofRelay));
  });

  test("take over from one another while rows are written: no row is lost, doubled or out of order", async () => {
    bed = await openBed({ relay: true, slot: false });
    const beganMs = performance.now();
    const first = relay();
    const writer = startWriter();
    await until(async () => (await bed.ends()) > 200n, { what: "the relay's first records" });

    // From the relay to Debezium, as README.md has it.
    const { rows: here } = await bed.pool.query<{ lsn: string }>("SELECT pg_current_wal_lsn() AS lsn");
    await until(
      async () => {
        const { position } = await relayStatus();
        const { rows } = await bed.pool.query("SELECT $1::pg_lsn >= $2::pg_lsn AS passed", [
          position!.lsn,
          here[0]!.lsn,
        ]);
        return rows[0].passed as boolean;
      },
      { what: "the relay to pass the making of the publication" },
    );
    await first.stop();
    const left = await relayStatus();
    expect(left).toMatchObject({ holder: null, fault: null, position: { underWay: null } });
    await bed.pool.query("SELECT pg_copy_logical_replication_slot($1, $2)", [left.slot!.name, SLOT]);
    await bed.pool.query("SELECT pg_replication_slot_advance($1, $2)", [SLOT, left.position!.lsn]);
    const relayRows = (await bed.records()).length;
    await bed.worker.start();
    await bed.worker.put(CONNECTOR, await bed.config());
    await bed.pool.query("SELECT pg_drop_replication_slot($1)", [left.slot!.name]);
    await until(async () => (await bed.records()).length > relayRows + 200, { what: "Debezium's first records" });
    expect((await relayStatus()).fault).toMatchObject({ code: "RELAY_SLOT_LOST" });

    // And back.
    await bed.worker.send("PUT", `/connectors/${CONNECTOR}/stop`);
    await until(
      async () => {
        const { connector, tasks } = await bed.worker.status(CONNECTOR);
        return connector.state === "STOPPED" && tasks.length === 0;
      },
      { what: "the connector to be stopped" },
    );
    const debeziumRows = (await bed.records()).length - relayRows;
    const resynced = JSON.parse(await bed.lockstep("relay", "resync", "--yes", "--json")) as { missing: number };
    relay();
    const afterResync = (await bed.records()).length;
    await until(async () => (await bed.records()).length > afterResync + 200, { what: "the relay's records again" });
    const rows = await writer.stop();

    const order = rows.map(({ eventId }) => eventId);
    const records = await bed.untilPublished(order.at(-1)!);
    const verdict = judge(records, await expectedRecords(bed.pool), { order, partitions: ORDERS_PARTITIONS });
    noteFigures({
      test: "relay, Debezium, relay",
      rows: rows.length,
      seconds: Math.round((performance.now() - beganMs) / 100) / 10,
      kills: 0,
      ...verdict,
      differing: verdict.differing.length,
    });
    expect(verdict).toMatchObject({ ...NOTHING_WRONG, records: rows.length });
    for (const share of [relayRows, debeziumRows, resynced.missing]) expect(share).toBeGreaterThan(0);
  });
});

interface Writer {
  /** All rows, in the order in which they were committed. */
  stop(): Promise<OutboxRow[]>;
}

/** Commits a few rows at a time, each later than the one before, until it is stopped. */
function startWriter(): Writer {
  const keys = someKeys(10);
  const written: OutboxRow[] = [];
  let stopped = false;
  const work = (async () => {
    while (!stopped) {
      const rows = plainRows(5, keys).map((row, index) => ({
        ...row,
        occurredAt: new Date(1_790_000_000_000 + written.length + index).toISOString(),
      }));
      await insertRows(bed.pool, rows);
      written.push(...rows);
      await sleep(5); // a rate, not a wait
    }
  })();
  const writer: Writer = {
    async stop() {
      stopped = true;
      await work;
      return written;
    },
  };
  writers.push(writer);
  return writer;
}
