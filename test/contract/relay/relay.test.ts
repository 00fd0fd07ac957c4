/**
 * A relay on real servers: set-up, positions, what it says, what it halts for, and the way on.
 */
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { afterEach, describe, expect, test } from "vitest";

import { partitionFor } from "../../../src/actors/partition.ts";
import { fenceWriter } from "../../../src/kafka/transactional-writer.ts";
import { relayGroupId } from "../../../src/relay/context.ts";
import { formatPosition } from "../../../src/relay/position.ts";
import { formatLsn, parseLsn } from "../../../src/storage/lsn.ts";
import { openLockSession } from "../../../src/storage/relay-lock.ts";
import { faultsOf, numbersOf, RelayBed, resyncOf } from "../../support/relay-bed.ts";
import { until } from "../../support/until.ts";

let bed: RelayBed | null = null;
afterEach(async () => {
  await bed?.close();
  bed = null;
});
async function open(options: Parameters<typeof RelayBed.open>[0] = {}): Promise<RelayBed> {
  bed = await RelayBed.open(options);
  return bed;
}

describe("set-up", () => {
  test("SU1: rows that a migration's next reader inserts are published, the first one included", async () => {
    const it = await open();
    await it.insert([0]);
    const relay = it.start();
    expect(numbersOf(await it.untilPublished(1))).toEqual([0]);
    await it.insert([1]);
    expect(await it.untilPublished(2)).toHaveLength(2);
    expect((await relay.said("relay-running"))["underWay"]).toBeNull();
    const [row] = await it.query<{ started: boolean }>("SELECT started_at IS NOT NULL AS started FROM lockstep.relay");
    expect(row!.started).toBe(true);
  });

  test("SU4: rows of partitions are published under the table's name, those of one made later included", async () => {
    const it = await open({
      tableSql: `
        CREATE SCHEMA app;
        CREATE TABLE app.outbox (
          event_id uuid, aggregate_type text, aggregate_id uuid, type text, payload jsonb, occurred_at timestamptz
        ) PARTITION BY HASH (event_id);
        CREATE TABLE app.outbox_0 PARTITION OF app.outbox FOR VALUES WITH (MODULUS 2, REMAINDER 0);`,
    });
    const relay = it.start();
    await relay.said("relay-running");
    await it.query("CREATE TABLE app.outbox_1 PARTITION OF app.outbox FOR VALUES WITH (MODULUS 2, REMAINDER 1)");
    const count = 20;
    await it.insert(Array.from({ length: count }, (_, n) => n));
    expect(faultsOf(await it.untilPublished(count), count)).toEqual({ lost: 0, doubled: 0, outOfOrder: 0 });
  });

  test("SU2, R15: rows that were there before halt the relay, and a resync publishes them, once", async () => {
    const it = await open({ migrated: false });
    await it.migrate(null);
    await it.insert([0, 1, 2]);
    await it.migrate();
    const relay = it.start();
    expect(await relay.said("relay-halted")).toMatchObject({ err: { code: "RELAY_RESYNC_NEEDED" } });
    expect(await it.records()).toEqual([]);
    const report = await until(() => relay.reports.find(({ state }) => state === "halted"), { what: "the report" });
    expect(report).toMatchObject({ reason: { code: "RELAY_RESYNC_NEEDED" } });

    expect(await resyncOf(it, { dryRun: true })).toMatchObject({ rows: 3, onTopic: 0, missing: 3 });
    expect(await it.records()).toEqual([]);
    const stopped = new Error("killed");
    const dies = (point: string) => {
      if (point === "resync-published") throw stopped;
    };
    await expect(resyncOf(it, { hook: dies })).rejects.toBe(stopped);
    expect(await it.untilPublished(3)).toHaveLength(3);
    await until(() => relay.lines.filter(({ event }) => event === "relay-halted").length > 0, { what: "the halt" });

    expect(await resyncOf(it)).toMatchObject({ rows: 3, onTopic: 3, missing: 0 });
    await relay.said("relay-running"); // by itself
    await it.insert([3]);
    expect(faultsOf(await it.untilPublished(4), 4)).toEqual({ lost: 0, doubled: 0, outOfOrder: 0 });
    await until(
      async () => (await it.query("SELECT FROM pg_replication_slots WHERE database = current_database()")).length === 1,
      {
        what: "slots that nobody needs to be dropped",
      },
    );
  });

  test("SU3: a slot that was made and not recorded is made anew", async () => {
    const it = await open();
    const before = await it.slot();
    await it.query("UPDATE lockstep.relay SET slot_lsn = NULL");
    await it.migrate();
    expect(await it.slot()).toMatchObject({ slot_name: before!.slot_name });
    it.start();
    await it.insert([0]);
    await it.untilPublished(1);
  });

  test("without a set-up it halts and says what to run", async () => {
    const it = await open({ migrated: false });
    await it.migrate(null);
    expect(await it.start().said("relay-halted")).toMatchObject({
      err: { code: "RELAY_NOT_SET_UP", message: expect.stringContaining("lockstep migrate") },
    });
  });
});

describe("position", () => {
  test("RI1, RI2: every transaction carries it, and the slot is never ahead of it", async () => {
    const it = await open();
    const relay = it.start({ env: { LOCKSTEP_RELAY_BATCH_RECORDS_MAX: "7" } });
    await relay.said("relay-running");
    for (let n = 0; n < 40; n += 5) await it.insert([n, n + 1, n + 2, n + 3, n + 4]);
    let looks = 0;
    await until(
      async () => {
        const slot = await it.slot(); // first: the position may only have risen since
        const stored = await it.position();
        expect(parseLsn(slot!.confirmed)).toBeLessThanOrEqual(stored!.position.lsn);
        looks += 1;
        return (await it.records()).length === 40;
      },
      { what: "40 records" },
    );
    expect(looks).toBeGreaterThan(0);
    const stored = await until(
      async () => {
        const found = await it.position();
        return found!.position.underWay === null && found;
      },
      { what: "the position to be whole" },
    );
    const [server] = await it.query<{ id: string }>("SELECT system_identifier::text AS id FROM pg_control_system()");
    expect(stored.log).toEqual({ systemIdentifier: server!.id, timeline: 1, slot: (await it.slot())!.slot_name });
    expect(faultsOf(await it.records(), 40)).toEqual({ lost: 0, doubled: 0, outOfOrder: 0 });
  });

  test("it follows a log without rows for us, and the slot follows it", async () => {
    const it = await open();
    const relay = it.start();
    await relay.said("relay-running");
    await it.query("CREATE TABLE noise AS SELECT generate_series(1, 1000) AS n");
    const [end] = await it.query<{ lsn: string }>("SELECT pg_current_wal_flush_lsn()::text AS lsn");
    await until(async () => parseLsn((await it.slot())!.confirmed) >= parseLsn(end!.lsn), {
      what: "the slot to follow",
    });
    const report = await until(() => relay.reports.findLast(({ lag }) => lag !== null), { what: "a report with lags" });
    expect(report).toMatchObject({ state: "running", pending: 0, oldestAgeMs: 0, lag: { walStatus: "reserved" } });
  });

  test("RI11: what it says to be pending is all that it has read, not a batch alone", async () => {
    const it = await open();
    const slow = async (point: string) => {
      if (point === "before-publish") await sleep(20);
    };
    const relay = it.start({ env: { LOCKSTEP_RELAY_BATCH_RECORDS_MAX: "1" }, hook: slow });
    await relay.said("relay-running");
    await it.insertMany(100);
    await until(() => relay.reports.some(({ pending }) => pending > 50), { what: "a report of the rows that wait" });
    expect(faultsOf(await it.untilPublished(100), 100)).toEqual({ lost: 0, doubled: 0, outOfOrder: 0 });
    await until(() => relay.reports.at(-1)!.pending === 0, { what: "a report that none waits" });
    expect(Math.max(...relay.reports.map(({ pending }) => pending))).toBeLessThanOrEqual(100);
  });

  test("it is written again though nothing moves: Kafka forgets offsets of a group without members", async () => {
    const it = await open();
    const relay = it.start({ env: { LOCKSTEP_RELAY_POSITION_MS: "3600000" }, settings: { refreshMs: 300 } });
    await relay.said("relay-running");
    const committed = () => relay.reports.reduce((sum, { counts }) => sum + counts.committed, 0);
    await until(() => committed() >= 4, { what: "the position to be written three times more" });
    expect((await it.position())!.position.underWay).toBeNull();
    expect(await it.records()).toEqual([]);
  });

  test("RI5: it is read after the fence: what a predecessor still commits until then counts", async () => {
    const it = await open();
    const first = it.start();
    await it.insert([0]);
    await it.untilPublished(1);
    await first.stop();
    // A predecessor whose transaction waits before its end: row 1, and the position after it.
    await it.insert([1]);
    const [end] = await it.query<{ lsn: string }>("SELECT pg_current_wal_flush_lsn()::text AS lsn");
    const { log } = (await it.position())!;
    let produced = false;
    let go = (): void => {};
    const gone = new Promise<void>((resolve) => {
      go = resolve;
    });
    const group = relayGroupId(it.groupId);
    const writer = (await fenceWriter({
      client: it.client,
      transactionalId: group,
      groupId: group,
      hook: async (point) => {
        if (point !== "kafka.before-end") return;
        produced = true;
        await gone;
      },
    }))!;
    const [one] = await it.records();
    const record = { ...one!, topic: it.topic, value: Buffer.from('{"n": 1}'), timestampMs: BigInt(Date.now()) };
    const position = formatPosition({ position: { lsn: parseLsn(end!.lsn), underWay: null }, log });
    const publishing = writer.publish({ records: [record], offsets: [{ topic: it.topic, partition: 0, ...position }] });
    await until(() => produced, { what: "the predecessor to stand before its end" });
    const order: string[] = [];
    const second = it.start({
      hook: async (point) => {
        order.push(point);
        if (point !== "locked") return;
        go();
        await publishing;
      },
    });
    await second.said("relay-running");
    expect(order.slice(0, 3)).toEqual(["locked", "fenced", "position-read"]);
    const late = { records: [], offsets: [{ topic: it.topic, partition: 0, ...position }] };
    await expect(writer.publish(late)).rejects.toMatchObject({
      code: "PUBLISH_FAILED",
      details: { fenced: true },
    });
    await writer.close();
    await it.insert([2]);
    expect(faultsOf(await it.untilPublished(3), 3)).toEqual({ lost: 0, doubled: 0, outOfOrder: 0 });
  });
});

describe("records", () => {
  test("partition and order are those of the key", async () => {
    const it = await open();
    it.start();
    await it.insertMany(200);
    const records = await it.untilPublished(200);
    expect(faultsOf(records, 200)).toEqual({ lost: 0, doubled: 0, outOfOrder: 0 });
    for (const { key, partition } of records) expect(partition).toBe(partitionFor(key!, 4));
  });

  test("RI8: a row that its topic cannot take goes to the dead letters, and those around it are published", async () => {
    const it = await open({ topicConfig: { "max.message.bytes": "20000" } });
    const relay = it.start();
    await it.insert([0]);
    const [large] = await it.insert([1], { payload: { n: 1, pad: "x".repeat(50_000) } });
    const [nameless] = await it.insert([2], { aggregate_id: null });
    await it.insert([3], { payload: null });
    await it.insert([4]);
    const records = await it.untilPublished(3);
    expect(records.map(({ value }) => value && (JSON.parse(String(value)) as { n: number }).n).sort()).toEqual([
      0,
      4,
      null,
    ]);
    const letters = await until(
      async () => {
        const found = await it.records(`${it.topic}.dlq`);
        return found.length === 2 && found;
      },
      { what: "two dead letters" },
    );
    const told = new Map(
      letters.map(({ headers, value }) => {
        const header = Object.fromEntries(headers.map(([name, bytes]) => [name, String(bytes)]));
        return [header["event_id"], { code: header["__streams.errors.exception"], value: value && String(value) }];
      }),
    );
    expect(told.get(large!)).toMatchObject({ code: "OUTPUT_TOO_LARGE", value: expect.stringContaining("xxx") });
    expect(told.get(nameless!)).toMatchObject({ code: "RECORD_WITHOUT_KEY", value: '{"n": 2}' });
    await until(() => relay.reports.reduce((sum, { counts }) => sum + counts.deadLetters, 0) === 2, {
      what: "the count of dead letters",
    });
  });
});

describe("RI6: it halts, and publishes nothing", () => {
  /** With one row published, and no relay. */
  async function prepared(): Promise<RelayBed> {
    const it = await open();
    const relay = it.start();
    await it.insert([0]);
    await it.untilPublished(1);
    await until(async () => (await it.position())?.position.underWay === null, { what: "the position" });
    await relay.stop();
    return it;
  }

  test.each<[name: string, code: string, spoil: (it: RelayBed) => Promise<unknown>]>([
    [
      "R10: the slot was dropped",
      "RELAY_SLOT_LOST",
      (it) => it.query("SELECT pg_drop_replication_slot(slot) FROM lockstep.relay"),
    ],
    [
      "R12: the position lies beyond the log",
      "RELAY_POSITION_CONTRADICTS",
      (it) => movePosition(it, ({ lsn }) => lsn + (1n << 40n)),
    ],
    ["R13: the group is gone", "RELAY_POSITION_CONTRADICTS", (it) => deleteGroup(it)],
    [
      "R14: the slot was moved on by someone else",
      "RELAY_POSITION_CONTRADICTS",
      async (it) => {
        await it.query("CREATE TABLE noise AS SELECT generate_series(1, 1000) AS n");
        await it.query("SELECT pg_replication_slot_advance(slot, pg_current_wal_flush_lsn()) FROM lockstep.relay");
      },
    ],
    [
      "R16: the publication was dropped and made again",
      "RELAY_SET_UP_CHANGED",
      async (it) => {
        await it.query("DROP PUBLICATION lockstep_relay_trial");
        await it.query("CREATE PUBLICATION lockstep_relay_trial FOR TABLE app.outbox WITH (publish = 'insert')");
      },
    ],
    [
      "R16: the table was taken out of the publication",
      "RELAY_SET_UP_CHANGED",
      (it) => it.query("ALTER PUBLICATION lockstep_relay_trial DROP TABLE app.outbox"),
    ],
    [
      "SU4: the publication leaves rows out",
      "RELAY_SET_UP_CHANGED",
      (it) => it.query("ALTER PUBLICATION lockstep_relay_trial SET TABLE app.outbox WHERE (event_id IS NULL)"),
    ],
    [
      "SU4: the publication leaves columns out, and its ids are put down as ours",
      "RELAY_SET_UP_CHANGED",
      async (it) => {
        await it.query("ALTER PUBLICATION lockstep_relay_trial SET TABLE app.outbox (event_id)");
        await it.query("UPDATE lockstep.relay SET member_oid = (SELECT oid FROM pg_publication_rel)");
      },
    ],
  ])("%s", async (_, code, spoil) => {
    const it = await prepared();
    await spoil(it);
    const relay = it.start();
    await it.insert([1]);
    expect(await relay.said("relay-halted")).toMatchObject({ err: { code, remedy: "halt" } });
    await sleep(700); // it looks again, twice
    expect(await it.records()).toHaveLength(1);
    expect(relay.lines.filter(({ event }) => event === "relay-halted")).toHaveLength(1);
    expect(relay.lines.filter(({ event }) => event === "relay-running")).toHaveLength(0);
    await resyncOf(it);
    await relay.said("relay-running");
    await it.insert([2]);
    expect(faultsOf(await it.untilPublished(3), 3)).toEqual({ lost: 0, doubled: 0, outOfOrder: 0 });
  });

  test("R16: also when that happens while it runs", async () => {
    const it = await open();
    const relay = it.start();
    await relay.said("relay-running");
    await it.query("ALTER PUBLICATION lockstep_relay_trial DROP TABLE app.outbox");
    await it.insert([0]);
    expect(await relay.said("relay-halted")).toMatchObject({ err: { code: "RELAY_SET_UP_CHANGED" } });
    await resyncOf(it);
    expect(faultsOf(await it.untilPublished(1), 1)).toEqual({ lost: 0, doubled: 0, outOfOrder: 0 });
  });

  test("a topic that is not there is named, and once it is made the relay goes on by itself", async () => {
    const it = await open();
    const relay = it.start();
    await relay.said("relay-running");
    await relay.stop();
    await withAdmin(it, (admin) => admin.deleteTopics({ topics: [`${it.topic}.dlq`] }));
    const next = it.start();
    expect(await next.said("relay-halted")).toMatchObject({
      err: { code: "PUBLISH_REFUSED", message: expect.stringContaining(`${it.topic}.dlq`) },
    });
    await withAdmin(it, (admin) => admin.createTopics({ topics: [{ topic: `${it.topic}.dlq`, numPartitions: 2 }] }));
    await next.said("relay-running");
    await it.insert([0]);
    await it.untilPublished(1);
  });
});

test("RI10: a resync while others insert misses none and doubles none", async () => {
  const it = await open();
  const relay = it.start();
  await it.insertMany(300);
  await it.untilPublished(300);
  await relay.stop();
  await it.query("SELECT pg_drop_replication_slot(slot) FROM lockstep.relay");
  await it.insertMany(300, 300);
  let inserted = 600;
  let inserting = true;
  const writer = (async () => {
    while (inserting) {
      await it.insertMany(5, inserted);
      inserted += 5;
    }
  })();
  const report = await resyncOf(it);
  expect(report.missing).toBeGreaterThanOrEqual(300);
  expect(report.onTopic).toBe(300);
  inserting = false;
  await writer;
  it.start();
  expect(faultsOf(await it.untilPublished(inserted), inserted)).toEqual({ lost: 0, doubled: 0, outOfOrder: 0 });
});

test("R15: a resync names the transactions that hold up its slot, gives up in the end, and is run again; a dry run waits for none", async () => {
  const it = await open();
  await it.insert([0, 1, 2]);
  const other = new pg.Client({ connectionString: it.database.url, application_name: "forgotten" });
  await other.connect();
  try {
    await other.query("BEGIN");
    const { rows } = await other.query<{ pid: number }>("SELECT pg_backend_pid() AS pid, txid_current()");
    const name = `pid ${rows[0]!.pid} (forgotten, `;
    expect(await resyncOf(it, { dryRun: true })).toMatchObject({ rows: 3, missing: 3, slot: null });
    const said: string[] = [];
    const say = (text: string) => {
      said.push(text);
    };
    await expect(resyncOf(it, { say, slotWait: { sayMs: 100, maxMs: 1_000 } })).rejects.toMatchObject({
      code: "RELAY_RESYNC_NEEDED",
      message: expect.stringContaining(name),
    });
    expect(said[0]).toContain("waits until every transaction in progress has ended");
    expect(said[1]).toContain(name);
    expect(await it.records()).toEqual([]);
    // While it waits they end.
    const waited = resyncOf(it, {
      slotWait: { sayMs: 100, maxMs: 60_000 },
      say: (text) => {
        if (text.includes(name)) void other.query("COMMIT");
      },
    });
    expect(await waited).toMatchObject({ rows: 3, missing: 3 });
    expect(await it.untilPublished(3)).toHaveLength(3);
    await until(
      async () => (await it.query("SELECT FROM pg_replication_slots WHERE database = current_database()")).length === 1,
      { what: "slots that nobody needs to be dropped" },
    );
  } finally {
    await other.end();
  }
});

describe("a resync does not guess", () => {
  test("where a topic has lost events it wants --since", async () => {
    const it = await open();
    const relay = it.start();
    await it.insert([0, 1, 2]);
    const [first] = await it.untilPublished(3);
    await relay.stop();
    const { partition } = first!;
    await withAdmin(it, async (admin) => {
      await admin.fetchTopicOffsets(it.topic); // else it does not know who leads it
      const partitions = [{ partition, offset: String(first!.offset + 1n) }];
      await admin.deleteTopicRecords({ topic: it.topic, partitions });
    });
    await expect(resyncOf(it)).rejects.toMatchObject({
      code: "RELAY_RESYNC_NEEDED",
      message: expect.stringContaining(`${it.topic}/${partition} begins at`),
    });
    expect(await resyncOf(it, { dryRun: true })).toMatchObject({ rows: 3, missing: 1 });
    expect(await resyncOf(it, { since: new Date(Date.UTC(2027, 0, 1)) })).toMatchObject({ rows: 0, missing: 0 });
  });

  test("a compacted topic tells nothing", async () => {
    const it = await open({ topicConfig: { "cleanup.policy": "compact,delete" } });
    for (const since of [null, new Date(0)])
      await expect(resyncOf(it, { since })).rejects.toMatchObject({
        code: "RELAY_RESYNC_NEEDED",
        message: expect.stringContaining("compacted"),
      });
  });
});

test("RI10: --since leaves out what occurred before, and no row of which that is not known", async () => {
  const it = await open({ migrated: false });
  await it.migrate(null);
  await it.insert([0, 1, 2, 3]);
  await it.insert([4], { occurred_at: null });
  await it.migrate();
  expect(await resyncOf(it, { since: new Date(Date.UTC(2026, 0, 1) + 2) })).toMatchObject({ rows: 3, missing: 3 });
  expect(numbersOf(await it.untilPublished(3)).sort()).toEqual([2, 3, 4]);
});

describe("the lock", () => {
  test("RL1, RL2: a session that sends nothing loses it, and learns of it", async () => {
    const it = await open();
    const options = { url: it.database.url, app: "trial", applicationName: "contract", timeoutMs: 1_000 };
    const first = await openLockSession(options);
    const second = await openLockSession(options);
    try {
      expect(await first.tryLock()).toBe(true);
      expect(await second.tryLock()).toBe(false);
      await sleep(2_500); // the heartbeats hold it
      expect([await second.tryLock(), first.lost.aborted]).toEqual([false, false]);
      // What a stopped process looks like from the server: a session without heartbeats.
      const silent = await openLockSession({ ...options, timeoutMs: 60_000 });
      await silent.query("SET idle_session_timeout = 500");
      await first.unlock();
      expect(await silent.tryLock()).toBe(true);
      await until(() => second.tryLock(), { what: "the lock to be free" });
      expect(silent.lost.aborted).toBe(true);
      await expect(silent.query("SELECT 1")).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
      await silent.close();
    } finally {
      await Promise.all([first.close(), second.close()]);
    }
  });

  test("of two relays one works, and the other takes over when it stops", async () => {
    const it = await open();
    const first = it.start();
    await first.said("relay-running");
    const second = it.start();
    await second.said("relay-standby");
    await it.insertMany(50);
    await it.untilPublished(50);
    await first.stop();
    await second.said("relay-running");
    await it.insertMany(50, 50);
    expect(faultsOf(await it.untilPublished(100), 100)).toEqual({ lost: 0, doubled: 0, outOfOrder: 0 });
    expect(first.reports.at(-1)).toMatchObject({ state: "stopped" });
  });
});

test("RI9: rows are pruned when they are old and published, and never before", async () => {
  const it = await open();
  await it.insert([0, 1]); // of January
  await it.insert([2], { occurred_at: new Date(Date.now() + 3_600_000).toISOString() });
  const held: string[] = [];
  let hold = true;
  const relay = it.start({
    env: { LOCKSTEP_OUTBOX_KEEP_MS: "1000" },
    hook: async (point) => {
      while (point === "before-publish" && hold) {
        held.push(point);
        await sleep(50);
      }
    },
  });
  await until(() => held.length > 40, { what: "the relay to be held up for 2 s" });
  expect(await it.query("SELECT FROM app.outbox")).toHaveLength(3);
  hold = false;
  await relay.said("relay-pruned");
  expect(await it.query("SELECT FROM app.outbox")).toHaveLength(1);
  expect(await it.untilPublished(3)).toHaveLength(3);
});

async function movePosition(it: RelayBed, to: (position: { lsn: bigint }) => bigint): Promise<void> {
  const { position, log } = (await it.position())!;
  const group = relayGroupId(it.groupId);
  const writer = (await until(() => fenceWriter({ client: it.client, transactionalId: group, groupId: group }), {
    what: "the fence",
  }))!;
  const metadata = [log.systemIdentifier, log.timeline, log.slot, 0, 0].join("/");
  await writer.publish({ records: [], offsets: [{ topic: it.topic, partition: 0, offset: to(position), metadata }] });
  await writer.close();
  expect(formatLsn((await it.position())!.position.lsn)).toBe(formatLsn(to(position)));
}

async function deleteGroup(it: RelayBed): Promise<void> {
  await withAdmin(it, (admin) => admin.deleteGroups([relayGroupId(it.groupId)]));
}

async function withAdmin<T>(
  it: RelayBed,
  use: (admin: ReturnType<ReturnType<RelayBed["client"]["open"]>["kafka"]["admin"]>) => Promise<T>,
): Promise<T> {
  const handle = it.client.open();
  const admin = handle.kafka.admin();
  try {
    await admin.connect();
    return await use(admin);
  } finally {
    await admin.disconnect();
    handle.destroy();
  }
}
