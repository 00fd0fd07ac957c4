/**
 * Parts of the audit by themselves: checksum, journal text, compact log, report table.
 */
import { describe, expect, test } from "vitest";

import { crcOf, crcWithRecord } from "../../../src/audit/crc32c.ts";
import { readJournalBody } from "../../../src/audit/journal-format.ts";
import { PartitionLog } from "../../../src/audit/partition-log.ts";
import type { SourceRecord } from "../../../src/audit/sources.ts";
import { reportJson, reportTable } from "../../../src/audit/table.ts";
import { tradingWorld } from "./trading-world.ts";
import { auditWorld } from "./world.ts";

describe("checksum", () => {
  test("CRC32C gives the check value of its definition, and goes on over pieces", () => {
    expect(crcOf(Buffer.from("123456789"))).toBe(0xe3069283);
    expect(crcOf(Buffer.from("6789"), crcOf(Buffer.from("12345")))).toBe(0xe3069283);
    expect(crcOf(Buffer.alloc(32))).toBe(0x8a9136aa); // RFC 3720, B.4
  });

  test("of a run it covers key, value and timestamp, each length as 4 bytes, -1 for none", () => {
    const first = { key: Buffer.from("k"), value: Buffer.from("ab"), timestampMs: 258n };
    const second = { key: null, value: Buffer.alloc(0), timestampMs: -1n };
    const bytes = Buffer.from(
      `00000001 6b 00000002 6162 0000000000000102 ffffffff 00000000 ${"f".repeat(16)}`.replaceAll(" ", ""),
      "hex",
    );
    expect(crcWithRecord(crcWithRecord(0, first), second)).toBe(crcOf(bytes));
  });
});

describe("journal text", () => {
  test("is read as documented", () => {
    const text = `{"v":1,"topics":["a","b"],
      "entries":[[1,"5","8",3,2882400001],["t",1700000000000,2]],
      "verdicts":[["r",0,"6","ROW_REFUSED","22003 numeric field overflow"],["i","window","BTC-USD/5m","close",1700000000000,"X","y"]]}`;
    expect(readJournalBody(text)).toEqual({
      entries: [
        { kind: "run", topic: "b", first: 5n, next: 8n, count: 3, crc: 2882400001 },
        { kind: "tick", streamTimeMs: 1700000000000, timers: 2 },
      ],
      verdicts: [
        { kind: "record", topic: "a", offset: 6n, code: "ROW_REFUSED", message: "22003 numeric field overflow" },
        {
          ...{ kind: "timer", actorType: "window", key: "BTC-USD/5m", timerId: "close" },
          ...{ dueMs: 1700000000000, code: "X", message: "y" },
        },
      ],
    });
  });

  test.each([
    ["null", /version/],
    ['{"v":2}', /version/],
    ['{"v":1,"topics":[1],"entries":[]}', /not text/],
    ['{"v":1,"topics":[],"entries":[[0,"1","2",1,1]]}', /no topic 0/],
    ['{"v":1,"topics":["a"],"entries":[[0,1,"2",1,1]]}', /not an offset/],
    ['{"v":1,"topics":["a"],"entries":[[0,"1","2",0.5,1]]}', /not a whole number/],
    ['{"v":1,"topics":["a"],"entries":["t"]}', /not a list/],
    ['{"v":1,"topics":["a"],"entries":[],"verdicts":[["q"]]}', /begins with "q"/],
  ])("%s is refused", (text, message) => {
    expect(() => readJournalBody(text)).toThrow(message);
  });
});

describe("A-log: the compact log", () => {
  const record = (offset: number, more: Partial<SourceRecord> = {}): SourceRecord => ({
    ...{ topic: "a", partition: 1, offset: BigInt(offset), timestampMs: -1n, key: null, value: null, headers: [] },
    ...more,
  });

  test("gives back what went in, across chunks and beyond its first size", () => {
    const log = new PartitionLog("a", 1);
    const records = Array.from({ length: 3000 }, (_, i) =>
      record(i * 3, {
        ...{ key: i % 2 === 0 ? null : Buffer.from(`k${i}`), timestampMs: BigInt(i), value: Buffer.alloc(i, i % 256) },
        headers: [
          ["h", Buffer.from([i % 256, 255])],
          ["n", null],
          ["h", Buffer.alloc(0)],
        ],
      }),
    );
    for (const one of records) log.append(one);
    expect(log.length).toBe(3000);
    for (const [i, { value, ...rest }] of records.entries()) {
      const { value: found, ...foundRest } = log.at(i);
      expect(foundRest).toEqual(rest);
      expect(found?.equals(value as Buffer)).toBe(true); // toEqual would go through it byte by byte
    }
  });

  test("takes a record larger than a chunk", () => {
    const log = new PartitionLog("a", 1);
    const large = record(1, { value: Buffer.alloc(3 << 20, 7) });
    for (const one of [record(0), large, record(2)]) log.append(one);
    expect(log.at(1).value?.equals(large.value as Buffer)).toBe(true);
    expect(log.at(2)).toEqual(record(2));
  });

  test("finds the first record at or above an offset", () => {
    const log = new PartitionLog("a", 1);
    for (const offset of [2, 3, 7]) log.append(record(offset));
    expect([0n, 2n, 3n, 4n, 7n, 8n].map((offset) => log.indexFrom(offset))).toEqual([0, 0, 1, 2, 2, 3]);
    expect(() => log.at(3)).toThrow(RangeError);
  });

  test("refuses a reader that does not ascend", () => {
    const log = new PartitionLog("a", 1);
    log.append(record(5));
    expect(() => log.append(record(5))).toThrow(/gave offset 5 after 5/);
  });
});

describe("report", () => {
  test("of a correct run shows figures and one sentence", async () => {
    const text = reportTable(await auditWorld(tradingWorld()));
    expect(text).toMatch(/duplicates ignored\s+│\s+2 │/);
    expect(text).toContain("trading: no finding.");
    expect(text).not.toContain("\u001b");
  });

  test("of a spoiled run shows kinds and findings, and is the same as JSON", async () => {
    const world = tradingWorld();
    world.orders.pop();
    const report = await auditWorld(world);
    const text = reportTable(report);
    expect(text).toContain("trading: 2 findings.");
    expect(text).toMatch(/lost\s+│\s+1 │\s+1 │/);
    expect(text).toContain("app.orders");
    expect(JSON.parse(reportJson(report))).toEqual(report);
  });
});
