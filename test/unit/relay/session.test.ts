/**
 * How long a session of the relay waits for what may never come, and how much it puts into one Kafka transaction.
 */
import { describe, expect, test } from "vitest";

import { LockstepError } from "../../../src/errors.ts";
import type { RelayContext, RelaySettings } from "../../../src/relay/context.ts";
import { type CommittedPosition, formatPosition, laterOf, type RelayPosition } from "../../../src/relay/position.ts";
import { runSession } from "../../../src/relay/session.ts";
import { RelayObserver } from "../../../src/relay/status.ts";
import type { LockSession } from "../../../src/storage/relay-lock.ts";
import type { StreamEvent } from "../../../src/storage/replication-stream.ts";
import { FakeClock } from "../../support/fake-ports.ts";

const LOG = { systemIdentifier: "1", timeline: 1, slot: "slot" };
const INSPECTED = {
  system_identifier: "1",
  timeline: 1,
  flushed: "0/100000",
  keep_mb: "1",
  published: true,
  slot: {
    confirmed: "0/10",
    restart: "0/10",
    wal_status: "reserved",
    active_pid: null,
    plugin: "pgoutput",
    safe: null,
  },
  row: {
    outbox_table: "app.outbox",
    group_id: "group",
    system_identifier: "1",
    publication: "publication",
    slot: "slot",
    slot_lsn: "0/10",
    started: true,
    resync_reason: null,
    stray_slots: [],
  },
};

interface Published {
  readonly records: readonly unknown[];
  readonly offsets: readonly CommittedPosition[];
}

const at = (lsn: bigint, underWay: RelayPosition["underWay"] = null) =>
  formatPosition({ position: { lsn, underWay }, log: LOG });

/** A session whose servers do what the test says. */
function sessionOf(options: {
  fenced?: () => boolean;
  /** What the stream brings; then the session is told to stop. Absent: another session holds the slot. */
  events?: readonly StreamEvent[];
  /** Instead: what it brings at which ms, ascending; the clock goes on while it is waited for. */
  timed?: readonly (readonly [atMs: number, events: readonly StreamEvent[]])[];
  settings?: Partial<RelaySettings>;
  /** The position as the log of the group's coordinator has it; that one answers 0x10. */
  inLog?: CommittedPosition;
  onTake?: () => void;
}) {
  const clock = new FakeClock();
  const asked: string[] = [];
  const published: Published[] = [];
  const publishedMs: number[] = [];
  const timed = options.timed && [...options.timed];
  const stop = new AbortController();
  const told = { fences: 0, opens: 0, closed: 0, acknowledged: [] as bigint[] };
  const lock = {
    query: async (sql: string) => {
      asked.push(sql);
      return sql.includes("pg_control_system() c") ? [INSPECTED] : [];
    },
  } as unknown as LockSession;
  const writer = {
    publish: async (transaction: Published) => {
      published.push(transaction);
      publishedMs.push(clock.nowMs);
    },
    close: async () => {
      told.closed += 1;
    },
  };
  const target = { partitions: 1, bytesMax: 1e6, aheadMsMax: 1e15, behindMsMax: 1e15 };
  let pending = options.events;
  const context = {
    app: "app",
    groupId: "group",
    settings: {
      batchRecordsMax: 1_000,
      batchBytesMax: 1e6,
      lingerMs: 0,
      positionMs: 1e6,
      refreshMs: 1e9,
      keepMs: 0,
      ...options.settings,
    },
    observer: new RelayObserver(),
    log: { debug() {}, info() {}, warn() {}, error() {} },
    clock,
    hook: () => {},
    ports: {
      fence: async () => {
        told.fences += 1;
        return options.fenced === undefined || options.fenced() ? writer : null;
      },
      committed: async () => at(0x10n),
      committedInLog: async () => options.inLog ?? null,
      targets: async () => ({
        table: "app.outbox",
        events: { ...target, topic: "orders" },
        deadLetters: { ...target, topic: "orders.dlq" },
      }),
      openStream: async () => {
        told.opens += 1;
        if (pending === undefined && timed === undefined)
          throw new LockstepError("STORE_UNAVAILABLE", "slot in use", { details: { sqlstate: "55006" } });
        return {
          queuedBytes: 0,
          take: async (waitMs: number) => {
            options.onTake?.();
            if (timed !== undefined) {
              const [next] = timed;
              if (next === undefined) stop.abort();
              if (next === undefined || next[0] > clock.nowMs + waitMs) {
                if (next !== undefined) clock.nowMs += waitMs;
                return [];
              }
              clock.nowMs = Math.max(clock.nowMs, next[0]);
              return timed.shift()![1];
            }
            const taken = pending!;
            pending = [];
            if (taken.length === 0) stop.abort();
            return taken;
          },
          acknowledge: (lsn: bigint) => told.acknowledged.push(lsn),
          close: async () => {},
        };
      },
    },
  } as unknown as RelayContext;
  return { clock, asked, published, publishedMs, stop, told, run: () => runSession(context, lock, stop.signal) };
}

describe("RI5: a coordinator that has not read its log", () => {
  test.each([
    ["a later end", at(0x30n), at(0x30n)],
    ["a later row", at(0x10n, { commitLsn: 0x20n, rows: 1 }), at(0x10n, { commitLsn: 0x20n, rows: 1 })],
    ["an earlier end", at(0x08n), at(0x10n)],
  ])("does not take the relay back: the log has %s", async (_what, inLog, position) => {
    const { published, run } = sessionOf({ events: [], inLog });
    await run();
    expect(published[0]!.offsets).toEqual([{ topic: "orders", partition: 0, ...position }]);
  });
});

test("RI4, RI5: of two positions the later is that with the greater end, then what is under way, then its rows", () => {
  const ascending = [
    null,
    at(0x10n),
    at(0x10n, { commitLsn: 0x20n, rows: 1 }),
    at(0x10n, { commitLsn: 0x20n, rows: 2 }),
    at(0x10n, { commitLsn: 0x30n, rows: 1 }),
    at(0x20n),
  ];
  for (const [i, one] of ascending.entries())
    for (const [j, other] of ascending.entries()) expect(laterOf(one, other)).toEqual(ascending[Math.max(i, j)]);
});

test("RI5: of positions in different logs that counts which the coordinator's log has", () => {
  const position = { lsn: 0x08n, underWay: null };
  for (const other of [{ systemIdentifier: "2" }, { timeline: 2 }, { slot: "another" }]) {
    const inLog = formatPosition({ position, log: { ...LOG, ...other } });
    expect(laterOf(at(0x10n), inLog)).toBe(inLog);
  }
});

describe("deadlines", () => {
  test("a predecessor's transaction that never ends: a minute, then the session is over and may begin anew", async () => {
    const { clock, told, published, run } = sessionOf({ fenced: () => false });
    await expect(run()).rejects.toMatchObject({ code: "KAFKA_UNAVAILABLE", remedy: "retry" });
    expect(clock.nowMs).toBeGreaterThanOrEqual(60_000);
    expect(clock.nowMs).toBeLessThan(61_000);
    expect(told.fences).toBe(Math.floor(clock.nowMs / 50) + 1);
    expect(published).toEqual([]);
  });

  test("who stops meanwhile does not wait for it", async () => {
    const { clock, stop, run } = sessionOf({
      fenced: () => {
        if (clock.nowMs >= 1_000) stop.abort();
        return false;
      },
    });
    await run();
    expect(clock.nowMs).toBeLessThan(2_000);
  });

  test("a slot that another session holds: that session is ended again and again, for half a minute", async () => {
    const { clock, asked, told, published, run } = sessionOf({});
    await expect(run()).rejects.toMatchObject({ code: "STORE_UNAVAILABLE", details: { sqlstate: "55006" } });
    expect(clock.nowMs).toBeGreaterThanOrEqual(30_000);
    expect(clock.nowMs).toBeLessThan(31_000);
    const ended = asked.filter((sql) => sql.includes("pg_terminate_backend"));
    expect(ended).toHaveLength(told.opens - 1);
    expect(told.opens).toBeGreaterThan(100);
    expect(published).toHaveLength(1); // the position, and not one row
    expect(told.closed).toBe(1);
  });
});

/** One database transaction of so many rows, each of so many bytes in the log; `nth` in the log. */
function transaction(rows: number, bytes: number, nth = 0): StreamEvent[] {
  const commitLsn = BigInt(0x20 + 0x20 * nth);
  const values = new Map(
    Object.entries({
      event_id: "11111111-1111-4111-8111-111111111111",
      aggregate_type: "order",
      aggregate_id: "a",
      type: "Placed",
      payload: "{}",
      occurred_at: "2026-01-01 00:00:00+00",
    }).map(([name, text]) => [name, Buffer.from(text)]),
  );
  return [
    { kind: "begin", commitLsn, committedMs: 0 },
    ...Array.from({ length: rows }, () => ({ kind: "insert" as const, table: "app.outbox", values, bytes })),
    { kind: "commit", commitLsn, endLsn: commitLsn + 0x10n },
  ];
}

describe("limits of one Kafka transaction", () => {
  test.each<[name: string, settings: Partial<RelaySettings>, sizes: number[]]>([
    ["none is reached", {}, [10]],
    ["rows", { batchRecordsMax: 4 }, [4, 4, 2]],
    ["rows, exactly", { batchRecordsMax: 5 }, [5, 5, 0]],
    ["bytes", { batchBytesMax: 250 }, [3, 3, 3, 1]],
    ["bytes, of a row that is larger than the limit", { batchBytesMax: 1 }, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]],
  ])("%s", async (_, settings, sizes) => {
    const { published, told, run } = sessionOf({ events: transaction(10, 100), settings });
    await run();
    // The first has the position alone. Where the last cut met the last row, the end of the database transaction waits for `positionMs`.
    const expected = sizes.at(-1) === 0 ? sizes.slice(0, -1) : sizes;
    expect(published.slice(1).map(({ records }) => records.length)).toEqual(expected);
    expect(told.acknowledged).toHaveLength(expected.length);
    // RI2: all but the last lie inside the database transaction.
    const whole = sizes.at(-1) === 0 ? [] : [0x30n];
    expect(told.acknowledged.filter((lsn) => lsn > 0x10n)).toEqual(whole);
  });
});

describe("RI13: rows wait for others until the linger is over since the last Kafka transaction began", () => {
  const at = (...times: number[]) => times.map((ms, nth) => [ms, transaction(1, 100, nth)] as const);
  const quiet = [9_000, []] as const;
  const asks: StreamEvent = { kind: "reached", endLsn: 0x30n, asked: true };
  const halves = (firstMs: number, secondMs: number) => {
    const [begin, row, commit] = transaction(1, 100) as [StreamEvent, StreamEvent, StreamEvent];
    return [[firstMs, [begin, row]] as const, [secondMs, [commit]] as const];
  };

  test.each<[name: string, timed: (readonly [number, readonly StreamEvent[]])[], sent: string]>([
    ["one after a pause goes at once", at(500), "1 at 500"],
    ["several share one, and none waits longer than that", [...at(500, 510, 530, 599), quiet], "1 at 500, 3 at 600"],
    ["each that comes later than that goes at once", at(500, 600, 701), "1 at 500, 1 at 600, 1 at 701"],
    ["a server that asks is not kept waiting", [...at(500, 510), [520, [asks]]], "1 at 500, 1 at 520"],
    ["nor who stops the relay", at(500, 510), "1 at 500, 1 at 510"],
    ["half a database transaction is waited for", [...halves(500, 5_000)], "1 at 5000"],
  ])("%s", async (_, timed, sent) => {
    const { published, publishedMs, run } = sessionOf({ timed, settings: { lingerMs: 100 } });
    await run();
    const said = published.map(({ records }, nth) => `${records.length} at ${publishedMs[nth]}`);
    expect(said.join(", ")).toBe(`0 at 0, ${sent}`);
  });

  test("a limit that is reached ends the wait", async () => {
    const timed = [[10, transaction(4, 100)] as const];
    const { published, publishedMs, run } = sessionOf({ timed, settings: { lingerMs: 100, batchRecordsMax: 4 } });
    await run();
    expect(published.map(({ records }, nth) => [publishedMs[nth], records.length])).toEqual([
      [0, 0],
      [10, 4],
    ]);
  });

  test("while rows wait the loop sleeps, also inside a database transaction", async () => {
    let takes = 0;
    const timed = halves(500, 60_500);
    const { run } = sessionOf({ timed, settings: { lingerMs: 100 }, onTake: () => (takes += 1) });
    await run();
    expect(takes).toBeLessThan(100);
  });
});
