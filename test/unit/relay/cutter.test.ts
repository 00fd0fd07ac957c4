/**
 * Cuts and positions, as tables: what comes from the log, where it is cut, what a successor makes of it.
 */
import { describe, expect, test } from "vitest";

import { type Cut, type Cutter, createCutter } from "../../../src/relay/cutter.ts";
import type { RelayPosition } from "../../../src/relay/position.ts";
import type { StreamEvent } from "../../../src/storage/replication-stream.ts";

const TABLE = "app.outbox";

/** A database transaction whose commit record lies at `at`, with its rows. */
function transaction(at: bigint, ...rows: string[]): StreamEvent[] {
  return [
    { kind: "begin", commitLsn: at, committedMs: Number(at) },
    ...rows.map((row) => ({
      kind: "insert" as const,
      table: TABLE,
      values: new Map([["row", Buffer.from(row)]]),
      bytes: 10,
    })),
    { kind: "commit", commitLsn: at, endLsn: at + 5n },
  ];
}

function reached(endLsn: bigint): StreamEvent {
  return { kind: "reached", endLsn, asked: false };
}

function cutterAt(position: RelayPosition, recordsMax = 1_000): Cutter {
  return createCutter({
    position,
    table: TABLE,
    recordsMax,
    bytesMax: 1_000_000,
    toRecord: (values) => ({
      record: { topic: "t", partition: 0, key: null, value: values.get("row")!, headers: [], timestampMs: 0n },
      dead: String(values.get("row")) === "dead",
    }),
  });
}

const none = (lsn: bigint): RelayPosition => ({ lsn, underWay: null });
const texts = (cuts: readonly Cut[]) => cuts.flatMap(({ records }) => records.map(({ value }) => String(value)));

/** As the session does it: cut when full, and at the end. */
function run(cutter: Cutter, events: readonly StreamEvent[]): Cut[] {
  const cuts: Cut[] = [];
  for (const event of events) {
    cutter.add(event);
    if (cutter.full) cuts.push(cutter.cut());
  }
  return cutter.rows > 0 ? [...cuts, cutter.cut()] : cuts;
}

/** What the server sends to who starts at E: whole database transactions whose commit begins at or above. */
function sentFrom(lsn: bigint, log: readonly StreamEvent[][]): StreamEvent[] {
  return log.filter(([first]) => first?.kind === "begin" && first.commitLsn >= lsn).flat();
}

describe("the position of a cut", () => {
  test.each<[name: string, events: StreamEvent[], position: RelayPosition]>([
    ["nothing", [], none(1n)],
    ["RI1: a whole database transaction: its end", transaction(10n, "a"), none(15n)],
    ["RI1: two of them: the end of the second", [...transaction(10n, "a"), ...transaction(20n, "b")], none(25n)],
    [
      "RI4: within one: the end of the last whole one, and the rows so far",
      [...transaction(10n, "a"), ...transaction(20n, "b", "c").slice(0, -1)],
      { lsn: 15n, underWay: { commitLsn: 20n, rows: 2 } },
    ],
    ["the log without rows for us: how far it was sent", [...transaction(10n, "a"), reached(99n)], none(99n)],
    ["RI4: what was sent before: no step back", [...transaction(10n, "a"), reached(3n)], none(15n)],
    [
      "RI4: a keep-alive inside a database transaction: nothing",
      [...transaction(10n, "a").slice(0, -1), reached(99n)],
      { lsn: 1n, underWay: { commitLsn: 10n, rows: 1 } },
    ],
    ["one without rows: its end", transaction(10n), none(15n)],
  ])("%s", (_, events, position) => {
    const cutter = cutterAt(none(1n));
    for (const event of events) cutter.add(event);
    expect(cutter.position).toEqual(position);
    expect(cutter.cut().position).toEqual(position);
  });

  test("RI4: what a predecessor left under way stays in it until those rows have come again", () => {
    const underWay = { commitLsn: 20n, rows: 2 };
    const cutter = cutterAt({ lsn: 15n, underWay });
    expect(cutter.position).toEqual({ lsn: 15n, underWay });
    cutter.add(reached(18n));
    expect(cutter.position).toEqual({ lsn: 18n, underWay });
    for (const event of transaction(20n, "a", "b", "c").slice(0, 3)) cutter.add(event);
    expect(cutter.position).toEqual({ lsn: 18n, underWay });
    cutter.add(transaction(20n, "a", "b", "c")[3]!);
    expect(cutter.position).toEqual({ lsn: 18n, underWay: { commitLsn: 20n, rows: 3 } });
    cutter.add(transaction(20n)[1]!);
    expect(cutter.cut()).toMatchObject({ position: none(25n), records: [{ value: Buffer.from("c") }] });
  });
});

describe("RI3: whoever goes on at a position publishes exactly what is missing, in order", () => {
  const log = [
    transaction(10n, "a", "b", "c"),
    transaction(20n),
    transaction(30n, "d"),
    transaction(40n, "e", "f", "g", "h", "i"),
    transaction(50n, "j"),
  ];
  const all = "abcdefghij".split("");

  for (const recordsMax of [1, 2, 3, 4, 7, 100]) {
    test(`with cuts of ${recordsMax}, after each of them`, () => {
      const count = run(cutterAt(none(1n), recordsMax), log.flat()).length;
      for (let published = 0; published <= count; published += 1) {
        const first = run(cutterAt(none(1n), recordsMax), log.flat()).slice(0, published);
        const position = first.at(-1)?.position ?? none(1n);
        // The successor's cuts lie elsewhere.
        const rest = run(cutterAt(position, recordsMax + 1), sentFrom(position.lsn, log));
        expect([...texts(first), ...texts(rest)]).toEqual(all);
        const positions = [...first, ...rest].map((cut) => cut.position.lsn);
        expect(positions).toEqual([...positions].sort((a, b) => Number(a - b)));
      }
    });
  }
});

test("what was published whole is passed over, should it come again", () => {
  expect(texts(run(cutterAt(none(25n)), [...transaction(20n, "old"), ...transaction(30n, "new")]))).toEqual(["new"]);
});

test("latencies are those of database transactions that end in the cut, and dead letters are counted", () => {
  const cutter = cutterAt(none(1n));
  for (const event of [...transaction(10n, "a"), ...transaction(20n), ...transaction(30n, "dead", "b").slice(0, -1)])
    cutter.add(event);
  expect(cutter.oldestMs).toBe(10);
  expect(cutter.cut()).toMatchObject({ committedMs: [10], deadLetters: 1 });
  expect(cutter).toMatchObject({ rows: 0, oldestMs: null, settled: false });
  cutter.add(transaction(30n)[1]!);
  expect(cutter.cut()).toMatchObject({ committedMs: [30], deadLetters: 0, records: [], position: none(35n) });
});

describe("RI6: a log that is not the one the position was made from halts", () => {
  const position = { lsn: 15n, underWay: { commitLsn: 20n, rows: 3 } };
  test.each<[name: string, events: StreamEvent[]]>([
    ["another one with rows comes first", transaction(30n, "a")],
    ["the one under way has fewer rows", transaction(20n, "a", "b")],
    ["the one under way has no rows", transaction(20n)],
    ["another one without rows ends beyond it", transaction(30n)],
    ["all below a place beyond it was sent", [reached(21n)]],
  ])("%s", (_, events) => {
    expect(() => run(cutterAt(position), events)).toThrow(
      expect.objectContaining({ code: "RELAY_POSITION_CONTRADICTS" }),
    );
  });
});

test("RI6: a row under another table's name halts: it may be ours, of a partition or a child", () => {
  const cutter = cutterAt(none(1n));
  cutter.add(transaction(10n)[0]!);
  expect(() => cutter.add({ kind: "insert", table: "app.outbox_2026", values: new Map(), bytes: 9 })).toThrow(
    expect.objectContaining({ code: "RELAY_SET_UP_CHANGED", remedy: "halt" }),
  );
});
