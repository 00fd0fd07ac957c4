/**
 * Each fault that a run could have, planted into a correct one, is found, and found as what it is.
 */
import { describe, expect, test } from "vitest";

import { crcWithRecord } from "../../../src/audit/crc32c.ts";
import type { FindingKind } from "../../../src/audit/report.ts";
import { createTradingRules } from "../../../src/machines/trading/audit/index.ts";
import { tradingWorld } from "./trading-world.ts";
import { auditWorld, START_MS, TOKENS, type World } from "./world.ts";

const DECISIONS = "trading.decisions";

describe("a correct run", () => {
  test("has no finding, and figures that can be counted by hand", async () => {
    const report = await auditWorld(tradingWorld());
    expect(report.findings).toEqual([]);
    expect(report.ok).toBe(true);
    expect(report.figures).toEqual({
      ...{ signals: 35, distinct: 27, duplicatesIgnored: 2, late: 1, deadLetters: 7 },
      ...{ decisions: 17, orders: 15, outbox: 15, windowsClosed: 8, lost: 0, doubled: 0, outOfOrder: 0 },
    });
  });

  test("has no finding without a manifest", async () => {
    const world = tradingWorld();
    world.manifest = undefined;
    expect((await auditWorld(world)).ok).toBe(true);
  });

  test("has no finding on the relay's topic when that is audited too", async () => {
    const report = await auditWorld(tradingWorld({ relayed: true }), { rules: createTradingRules({ relayed: true }) });
    expect(report.findings).toEqual([]);
    expect(report.figures["published"]).toBe(15);
  });

  test("is not judged by counters of a snapshot that does not cover the last commit", async () => {
    const world = tradingWorld();
    world.shards[0]!.snapshotSeq = 1;
    world.shards[0]!.counters = { taken: 1 };
    expect((await auditWorld(world)).ok).toBe(true);
  });
});

/** Spoils a correct world; the audit must report exactly these kinds, and say the text in one of its findings. */
function planted(name: string, spoil: (world: World) => void, kinds: readonly FindingKind[], text: RegExp): void {
  test(name, async () => {
    const world = tradingWorld();
    spoil(world);
    const report = await auditWorld(world);
    expect(report.ok).toBe(false);
    expect([...new Set(report.findings.map((finding) => finding.kind))].sort()).toEqual([...kinds].sort());
    expect(report.findings.filter((f) => text.test(f.text)).map((f) => kinds.includes(f.kind))).toContain(true);
  });
}

const topic = (world: World, name: string) => world.outputs.get(name)!;
const oneMinute = (world: World, offset: number) =>
  world.inputs.find((r) => r.topic === "trading.signal.1m" && r.partition === 0 && r.offset === BigInt(offset))!;
const without = <T>(list: T[], index: number): T => list.splice(index, 1)[0]!;
const commitOf = (world: World, shard: number, seq: number) =>
  world.commits.find((c) => c.shard === shard && c.seq === seq)!;
/** The run numbered `index` in a commit: [topic, first, next, count, crc]. */
const run = (world: World, shard: number, seq: number, index: number) =>
  commitOf(world, shard, seq).body.entries[index] as [number, string, string, number, number];

describe("A-once, A-nothing-else: decisions", () => {
  planted("a missing decision is lost", (w) => without(topic(w, DECISIONS), 3), ["lost"], /is missing/);
  planted(
    "a decision that stands twice is doubled",
    (w) => topic(w, DECISIONS).push({ ...topic(w, DECISIONS)[3]!, offset: 900n }),
    ["doubled"],
    /stands at trading.decisions\/0 offset 6 already/,
  );
  planted(
    "another decision of the same source is doubled, and foreign",
    (w) => {
      const headers = { ...topic(w, DECISIONS)[3]!.headers, "lockstep-id": "11111111-2222-5333-8444-555555555555" };
      topic(w, DECISIONS).push({ ...topic(w, DECISIONS)[3]!, offset: 900n, headers });
    },
    ["doubled", "foreign"],
    /has published another record already/,
  );
  planted(
    "a record that names no commit as its source is foreign",
    (w) => topic(w, DECISIONS).push({ ...topic(w, DECISIONS)[0]!, offset: 900n, headers: { "lockstep-id": "x" } }),
    ["foreign"],
    /No commit of this instance/,
  );
  planted(
    "a record of another instance is foreign",
    (w) => {
      const headers = {
        ...topic(w, DECISIONS)[0]!.headers,
        "lockstep-source": "d5b1c7e8-0000-4000-8000-000000000000/0/1/0",
      };
      topic(w, DECISIONS).push({ ...topic(w, DECISIONS)[0]!, offset: 900n, headers });
    },
    ["foreign"],
    /No commit of this instance/,
  );
  planted(
    "a record that is no decision is foreign",
    (w) => topic(w, DECISIONS).push({ ...topic(w, DECISIONS)[0]!, offset: 900n, headers: {} }),
    ["foreign"],
    /nothing that this app makes/,
  );
  planted(
    "a decision of a commit that Postgres does not have is foreign",
    (w) => {
      const headers = {
        "lockstep-id": "11111111-2222-5333-8444-555555555555",
        "lockstep-source": topic(w, DECISIONS)[0]!.headers["lockstep-source"]!.replace("/0/1/0", "/0/99/0"),
      };
      topic(w, DECISIONS).push({ ...topic(w, DECISIONS)[0]!, offset: 900n, headers });
    },
    ["foreign"],
    /commit 99/,
  );
});

describe("A-order: decisions of one key", () => {
  planted(
    "two swapped decisions of one key are out of order",
    (w) => {
      const [a, b] = [topic(w, DECISIONS)[3]!, topic(w, DECISIONS)[4]!];
      [a.offset, b.offset] = [b.offset, a.offset];
    },
    ["outOfOrder"],
    /BTC-USD/,
  );
  planted(
    "one key on two partitions is out of order",
    (w) => {
      topic(w, DECISIONS)[4]!.partition = 5;
    },
    ["outOfOrder"],
    /partitions 0 and 5/,
  );
  test("decisions of different keys may stand in any order", async () => {
    const world = tradingWorld();
    for (const record of topic(world, DECISIONS)) if (record.key === "ETH-USD") record.offset += 1000n;
    expect((await auditWorld(world)).findings).toEqual([]);
  });
});

describe("A-same: contents", () => {
  planted(
    "an altered field of a decision is told",
    (w) => {
      const record = topic(w, DECISIONS)[2]!;
      record.value = record.value!.replace('"confidence":0.83858579', '"confidence":0.83858578');
    },
    ["mismatch"],
    /value.confidence is 0.83858578, expected 0.83858579/,
  );
  planted(
    "a decision with the same fields in other bytes is told",
    (w) => {
      const record = topic(w, DECISIONS)[2]!;
      record.value = record.value!.replace('"confidence":', '"confidence": ');
    },
    ["mismatch"],
    /value is/,
  );
  planted("another key of a decision is told", (w) => (topic(w, DECISIONS)[2]!.key = "X"), ["mismatch"], /key is "X"/);
  planted(
    "another timestamp of a decision is told",
    (w) => (topic(w, DECISIONS)[2]!.timestampMs += 1),
    ["mismatch"],
    /timestampMs is 1699999804001/,
  );
  planted(
    "a wrong ordinal in the source is told",
    (w) => {
      const record = topic(w, DECISIONS)[2]!;
      record.headers = {
        ...record.headers,
        "lockstep-source": record.headers["lockstep-source"]!.replace(/\d+$/, "77"),
      };
    },
    ["mismatch"],
    /ordinal 77, expected shard 0, commit 1, ordinal 2/,
  );
});

describe("orders and outbox", () => {
  planted("a missing order is lost", (w) => without(w.orders, 2), ["lost", "mismatch"], /is missing/);
  planted(
    "an order that no decision explains is foreign",
    (w) =>
      w.orders.push({
        ...w.orders[0]!,
        audit_key: "ffffffff-0000-5000-8000-000000000000",
        id: "ffffffff-0000-5000-8000-000000000000",
        client_order_id: "lk-x",
      }),
    ["foreign", "mismatch"],
    /No input explains ffffffff/,
  );
  for (const [column, value] of Object.entries({
    qty: "3.80757581",
    price: "101.14875001",
    side: "SELL",
    symbol: "X",
    status: "FILLED",
    created_ms: "1.000",
    updated_ms: "1699999803000.001",
  })) {
    planted(
      `an altered ${column} of an order is told`,
      (w) => (w.orders[0]![column] = value),
      ["mismatch"],
      /expected/,
    );
  }
  planted("a missing event of the outbox is lost", (w) => without(w.outbox, 2), ["lost", "mismatch"], /is missing/);
  planted(
    "a second event of one order is doubled, and foreign",
    (w) =>
      w.outbox.push({
        ...w.outbox[0]!,
        audit_key: "ffffffff-0000-5000-8000-000000000000",
        event_id: "ffffffff-0000-5000-8000-000000000000",
      }),
    ["doubled", "foreign", "mismatch"],
    /has an effect here already/,
  );
  planted(
    "an event that stands twice is doubled",
    (w) => w.outbox.push({ ...w.outbox[0]! }),
    ["doubled", "mismatch"],
    /stands at app.outbox/,
  );
  planted(
    "an altered payload is told",
    (w) => (w.outbox[0]!["payload"] = w.outbox[0]!["payload"]!.replace('"NEW"', '"OLD"')),
    ["mismatch"],
    /payload.status is "OLD"/,
  );
  planted(
    "an altered time of an event is told",
    (w) => (w.outbox[0]!["occurred_ms"] = "5.000"),
    ["mismatch"],
    /occurredMs/,
  );
});

describe("late and bad signals", () => {
  planted(
    "a late signal that is not on the late topic is lost",
    (w) => without(topic(w, "trading.late"), 0),
    ["lost", "mismatch"], // and the manifest's count differs
    /is missing/,
  );
  planted(
    "a late signal's altered bytes are told",
    (w) => {
      const record = topic(w, "trading.late")[0]!;
      record.value = record.value!.replace("99", "98");
    },
    ["mismatch"],
    /value.price is 98, expected 99/,
  );
  planted(
    "a wrong lateness is told",
    (w) => {
      const record = topic(w, "trading.late")[0]!;
      record.headers = { ...record.headers, "__lockstep.late.by-ms": "1" };
    },
    ["mismatch"],
    /behindMs is "1", expected "120000"/,
  );
  planted(
    "a missing dead letter is lost",
    (w) => without(topic(w, "trading.signal.1m.dlq"), 0),
    ["lost", "mismatch"], // and the sums differ
    /is missing/,
  );
  planted(
    "a dead letter's altered bytes are told",
    (w) => (topic(w, "trading.signal.1m.dlq")[0]!.value = "{no json "),
    ["mismatch"],
    /value is/,
  );
  planted(
    "a dead letter that lost a header of its record is told",
    (w) => {
      const { trace: _trace, ...headers } = topic(w, "trading.signal.1m.dlq")[0]!.headers;
      topic(w, "trading.signal.1m.dlq")[0]!.headers = headers;
    },
    ["mismatch"],
    /headers.trace is/,
  );
  planted(
    "a dead letter with another cause is told",
    (w) => {
      const record = topic(w, "trading.signal.1m.dlq")[0]!;
      record.headers = { ...record.headers, "__streams.errors.exception": "MACHINE_THREW" };
    },
    ["mismatch"],
    /it says MACHINE_THREW, expected RECORD_UNDECODABLE/,
  );
  planted(
    "a dead letter of a good signal is foreign",
    (w) => {
      const record = topic(w, "trading.signal.1m.dlq")[0]!;
      const headers = {
        ...record.headers,
        "__streams.errors.offset": "0",
        "lockstep-source": record.headers["lockstep-source"]!.replace(/\d+$/, "70"),
      };
      topic(w, "trading.signal.1m.dlq").push({ ...record, offset: 900n, headers });
    },
    ["foreign", "mismatch"],
    /No input explains trading.signal.1m\/0\/0/,
  );
  planted(
    "a missing dead letter of a timer is lost",
    (w) => topic(w, "trading.signal.1m.dlq").splice(-1),
    ["lost", "mismatch"],
    /timer SOL-USD\/5m close/,
  );
});

describe("A-seq, A-tiling, A-run, A-time, A-positions: journal", () => {
  planted(
    "a missing commit is told, and its records are lost",
    (w) => {
      w.commits.splice(w.commits.indexOf(commitOf(w, 0, 4)), 1);
      w.shards[0]!.counters!["windowsClosed"] = 4;
      w.shards[0]!.counters!["timersFired"] = 4;
    },
    ["journal"],
    /Commits 4\.\.4 are not in the journal/,
  );
  planted(
    "a journal that ends too early is told",
    (w) => (w.shards[0]!.seq = 6),
    ["journal", "unfinished"],
    /journal ends at 5/,
  );
  planted(
    "an offset in two runs is doubled",
    (w) => {
      const [, , , count] = run(w, 0, 3, 1);
      run(w, 0, 3, 1).splice(1, 3, "9", "11", count + 1);
      commitOf(w, 0, 3).taken += 1;
    },
    ["doubled", "journal"],
    /begins below 10/,
  );
  planted(
    "an offset in no run is lost",
    (w) => {
      w.inputs.push({ ...oneMinute(w, 0), offset: 5n, key: null });
      w.inputs.sort((a, b) => Number(a.offset - b.offset));
      w.manifest = undefined;
      // As if the journal had jumped over it: the run is split in two.
      const crc = (offsets: number[]) => offsets.reduce((sum, offset) => crcWithRecord(sum, oneMinute(w, offset)), 0);
      const split = [
        [0, "3", "5", 2, crc([3, 4])],
        [0, "6", "7", 1, crc([6])],
      ];
      commitOf(w, 0, 1).body.entries.splice(2, 1, ...split);
    },
    ["journal", "lost", "mismatch"], // the sum of signals does not add up either
    /leaves out 1 records from offset 5/,
  );
  planted("a wrong checksum is told", (w) => (run(w, 0, 1, 0)[4] += 1), ["journal"], /has checksum/);
  planted(
    "a changed input is told by the checksum",
    (w) => {
      const index = w.inputs.indexOf(oneMinute(w, 9));
      w.inputs[index] = { ...w.inputs[index]!, value: Buffer.from("{no json!") };
    },
    ["journal", "mismatch"],
    /has checksum/,
  );
  planted(
    "a wrong count is told",
    (w) => {
      run(w, 0, 1, 0)[3] = 4;
      commitOf(w, 0, 1).taken += 1;
    },
    ["journal"],
    /says 4 records, the input holds 3/,
  );
  planted(
    "a row that counts otherwise than its runs is told",
    (w) => (commitOf(w, 0, 1).taken = 9),
    ["journal"],
    /says 9 taken/,
  );
  planted(
    "a commit's wrong position is told",
    (w) => (commitOf(w, 0, 1).positions["trading.signal.1m"] = "8"),
    ["journal"],
    /position of trading.signal.1m is 8/,
  );
  planted(
    "a shard's wrong position is told",
    (w) => (w.shards[0]!.positions!["trading.signal.1m"] = "10"),
    ["journal"],
    /shard's position/,
  );
  planted(
    "a shard's position beyond what was taken loses records",
    (w) => {
      w.inputs.push({ ...w.inputs[0]!, offset: 11n });
      w.shards[0]!.positions!["trading.signal.1m"] = "12";
      w.manifest = undefined;
    },
    ["journal", "lost", "mismatch"],
    /no commit up to 5/,
  );
  planted(
    "stream time that falls is told",
    (w) => (commitOf(w, 0, 2).streamTimeMs = START_MS),
    ["journal"],
    /Stream time fell/,
  );
  planted(
    "stream time that is not the fold's is told",
    (w) => (commitOf(w, 0, 1).streamTimeMs -= 1),
    ["journal"],
    /the fold of the input reaches/,
  );
  planted(
    "a token that comes back is told",
    (w) => (commitOf(w, 0, 5).token = TOKENS[0]),
    ["journal"],
    /commits again/,
  );
  planted("a new token in an old epoch is told", (w) => (commitOf(w, 0, 3).epoch = 1), ["journal"], /follows epoch/);
  planted(
    "a shard under an older token than its last commit is told",
    (w) => (w.shards[0]!.token = TOKENS[0]),
    ["journal"],
    /its last commit at 2/,
  );
  planted("another code in the shard row is told", (w) => (w.shards[0]!.code = "code-9"), ["journal"], /code-9/);
  planted(
    "text that is no journal is told",
    (w) => (commitOf(w, 0, 5).body.v = 2),
    ["journal", "mismatch"],
    /version is 2/,
  );
  planted(
    "a verdict on a record that was not taken is told",
    (w) => commitOf(w, 0, 5).body.verdicts.push(["r", 0, "0", "ROW_REFUSED", ""]),
    ["journal"],
    /is on a record that this commit did not take/,
  );
  planted(
    "an instance without shards is told",
    (w) => (w.shards = []),
    ["foreign", "journal", "mismatch", "unfinished"],
    /has no shards/,
  );
});

describe("what is under way", () => {
  planted(
    "input beyond the positions is unfinished",
    (w) => {
      w.inputs.push({ ...w.inputs[0]!, offset: 11n });
      w.manifest = undefined;
    },
    ["unfinished", "mismatch"],
    /1 records from offset 11 on are not taken yet/,
  );
  planted(
    "commits that Kafka may not have are unfinished",
    (w) => (w.shards[1]!.confirmed = 2),
    ["unfinished"],
    /Commits 3\.\.4/,
  );
});

describe("sums", () => {
  for (const [name, counter] of Object.entries({
    taken: 22,
    late: 2,
    quarantined: 9,
    duplicatesIgnored: 1,
    windowsClosed: 1,
    dropped: 1,
    timersFired: 0,
  })) {
    planted(
      `a wrong counter ${name} is told`,
      (w) => (w.shards[0]!.counters![name] = counter),
      ["mismatch"],
      new RegExp(`counter ${name} is ${counter}`),
    );
  }
  planted(
    "a snapshot that is not there is told",
    (w) => (w.shards[0]!.counters = null),
    ["journal"],
    /snapshot that is not there/,
  );
  for (const name of ["total", "distinct", "duplicates", "late", "bad"]) {
    planted(
      `a manifest with another ${name} is told`,
      (w) => (w.manifest!.sent[name] = 99),
      ["mismatch"],
      new RegExp(`sent ${name} = 99`),
    );
  }
  planted(
    "a manifest whose bad kinds do not add up is told",
    (w) => (w.manifest!.sent["badByKind"] = { x: 1 }),
    ["mismatch"],
    /bad kinds sum up to 1/,
  );
  planted(
    "a manifest without counts is told",
    (w) => (w.manifest = {} as never),
    ["mismatch"],
    /does not say what was sent/,
  );
});

test("findings are listed up to the limit, and counted beyond it", async () => {
  const world = tradingWorld();
  world.outputs.set(DECISIONS, []);
  const report = await auditWorld(world, { findingsMax: 3 });
  expect(report.findings).toHaveLength(3);
  expect(report.totals.lost).toBe(17);
  expect(report.figures["lost"]).toBe(17);
});

test("contents that differ are counted beyond those told field by field", async () => {
  const world = tradingWorld();
  for (const record of topic(world, DECISIONS)) record.timestampMs += 1;
  for (const row of world.orders) row["status"] = "FILLED";
  const report = await auditWorld(world, { findingsMax: 100 });
  expect(report.totals.mismatch).toBe(17 + 15);
});
