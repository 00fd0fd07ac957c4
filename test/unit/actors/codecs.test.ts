import { createHash } from "node:crypto";

import fc from "fast-check";
import { Partitioners } from "kafkajs";
import { describe, expect, it } from "vitest";

import { crc32c, extendChecksum, runChecksum } from "../../../src/actors/crc32c.ts";
import { deriveId, eventId, NAMESPACE, uuidV5 } from "../../../src/actors/ids.ts";
import type { Journal } from "../../../src/actors/journal.ts";
import { decodeJournal, encodeJournal } from "../../../src/actors/journal-codec.ts";
import { partitionFor } from "../../../src/actors/partition.ts";
import type { OutputRecord } from "../../../src/actors/record.ts";
import { decodeRedo, encodeRedo } from "../../../src/actors/redo-codec.ts";
import { record } from "./machines.ts";

const bytes = fc.uint8Array({ maxLength: 60 }).map((array) => Buffer.from(array));
const maybeBytes = fc.option(bytes);

describe("crc32c", () => {
  it("agrees with published values", () => {
    expect(crc32c(Buffer.from("123456789"))).toBe(0xe3069283);
    expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
    expect(crc32c(Buffer.alloc(32, 0xff))).toBe(0x62a8ab43);
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
    expect(crc32c(Buffer.alloc(0))).toBe(0);
  });

  it("agrees with a bit-by-bit computation, and chains", () => {
    fc.assert(
      fc.property(bytes, bytes, (a, b) => {
        const both = Buffer.concat([a, b]);
        expect(crc32c(both)).toBe(bitwise(both));
        expect(crc32c(b, crc32c(a))).toBe(crc32c(both));
      }),
    );
  });

  it("a run's checksum tells null from empty, and key from value", () => {
    const runs = [
      [record("t", 1, { key: null, value: Buffer.from("ab") })],
      [record("t", 1, { key: Buffer.alloc(0), value: Buffer.from("ab") })],
      [record("t", 1, { key: Buffer.from("a"), value: Buffer.from("b") })],
      [record("t", 1, { key: Buffer.from("ab"), value: Buffer.alloc(0) })],
      [record("t", 1, { key: Buffer.from("ab"), value: null })],
      [record("t", 1, { key: Buffer.from("ab"), value: null, timestampMs: -1n })],
    ];
    expect(new Set(runs.map(runChecksum)).size).toBe(runs.length);
    expect(runChecksum(runs.flat())).toBe(runs.flat().reduce(extendChecksum, 0));
  });
});

describe("ids", () => {
  it("are UUIDs of version 5", () => {
    // The example of RFC 9562, appendix A.4.
    expect(uuidV5("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "www.example.com")).toBe(
      "2ed6657d-e927-568b-95e1-2665a8aea6a2",
    );
  });

  it("follow the names that docs/trading.md gives", () => {
    const origin = { kind: "record", topic: "trading.signal.1m", partition: 3, offset: 12n } as const;
    expect(eventId("trading", origin, 1)).toBe(uuidV5(NAMESPACE, '["trading","trading.signal.1m",3,"12",1]'));
    const timer = {
      kind: "timer",
      actorType: "window",
      key: "BTC-USD/1m",
      timerId: "close-0",
      dueMs: 310_000,
    } as const;
    expect(eventId("trading", timer, 0)).toBe(
      uuidV5(NAMESPACE, '["trading","timer","window","BTC-USD/1m","close-0",310000,0]'),
    );
    const id = eventId("trading", origin, 2);
    expect(deriveId(id, "outbox")).toBe(uuidV5(id, "outbox"));
  });

  it("are the first 16 bytes of SHA-1 but for version and variant", () => {
    const name = "é";
    const hash = createHash("sha1")
      .update(Buffer.from(NAMESPACE.replaceAll("-", ""), "hex"))
      .update(name)
      .digest("hex");
    const hex = uuidV5(NAMESPACE, name).replaceAll("-", "");
    expect(hex.slice(0, 12)).toBe(hash.slice(0, 12));
    expect(hex[12]).toBe("5");
    expect("89ab").toContain(hex[16]);
  });
});

describe("partitionFor", () => {
  it("agrees with kafkajs on every key", () => {
    const partitioner = Partitioners.DefaultPartitioner();
    fc.assert(
      fc.property(bytes, fc.integer({ min: 1, max: 50 }), (key, count) => {
        const partitionMetadata = Array.from({ length: count }, (_, partitionId) => ({
          partitionId,
          leader: 1,
          partitionErrorCode: 0,
          replicas: [],
          isr: [],
          offlineReplicas: [],
        }));
        expect(partitionFor(key, count)).toBe(
          partitioner({ topic: "t", partitionMetadata, message: { key, value: null } }),
        );
      }),
    );
  });

  it("agrees with the Java client's own test values", () => {
    const cases: Array<[string, number]> = [
      ["21", -973932308],
      ["foobar", -790332482],
      ["a-little-bit-long-string", -985981536],
      ["a-little-bit-longer-string", -1486304829],
      ["lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971],
    ];
    for (const [key, hash] of cases)
      expect(partitionFor(Buffer.from(key), 0x7fffffff)).toBe((hash & 0x7fffffff) % 0x7fffffff);
  });
});

describe("the journal's text", () => {
  const offset = fc.bigInt({ min: 0n, max: 2n ** 62n });
  const run = fc
    .record({
      topic: fc.string(),
      first: offset,
      gap: fc.nat({ max: 5 }),
      count: fc.integer({ min: 1, max: 9 }),
      crc: fc.nat({ max: 0xffffffff }),
    })
    .map(({ topic, first, gap, count, crc }) => ({
      kind: "run" as const,
      topic,
      first,
      next: first + BigInt(count + gap),
      count,
      crc,
    }));
  const tick = fc.record({ kind: fc.constant("tick" as const), streamTimeMs: fc.nat(), timers: fc.nat() });
  const reason = { code: fc.string(), message: fc.string() };
  const verdict = fc.oneof(
    fc.record({ kind: fc.constant("record" as const), topic: fc.string(), offset, ...reason }),
    fc.record({
      kind: fc.constant("timer" as const),
      actorType: fc.string(),
      key: fc.string(),
      timerId: fc.string(),
      dueMs: fc.nat(),
      ...reason,
    }),
  );
  const journal: fc.Arbitrary<Journal> = fc.record({
    entries: fc.array(fc.oneof(run, tick)),
    verdicts: fc.array(verdict),
  });

  it("comes back as it was", () => {
    fc.assert(
      fc.property(journal, (one) => {
        expect(decodeJournal(encodeJournal(one))).toEqual(one);
      }),
    );
  });

  it("has the form that journal.ts shows", () => {
    const text = encodeJournal({
      entries: [
        { kind: "run", topic: "a", first: 5n, next: 8n, count: 3, crc: 2882400001 },
        { kind: "tick", streamTimeMs: 1700000000000, timers: 2 },
      ],
      verdicts: [{ kind: "record", topic: "b", offset: 6n, code: "ROW_REFUSED", message: "22003" }],
    });
    expect(text).toBe(
      '{"v":1,"topics":["a","b"],"entries":[[0,"5","8",3,2882400001],["t",1700000000000,2]],"verdicts":[["r",1,"6","ROW_REFUSED","22003"]]}',
    );
  });

  const whole = { v: 1, topics: ["a"], entries: [], verdicts: [] };
  const broken: Array<[string, unknown]> = [
    ["another version", { ...whole, v: 2 }],
    ["null", null],
    ["no entries", { v: 1, topics: [], verdicts: [] }],
    ["an unknown topic", { ...whole, entries: [[1, "0", "1", 1, 0]] }],
    ["an offset as number", { ...whole, entries: [[0, 0, "1", 1, 0]] }],
    ["an offset with a sign", { ...whole, entries: [[0, "-1", "1", 1, 0]] }],
    ["an empty run", { ...whole, entries: [[0, "0", "1", 0, 0]] }],
    ["a run of more records than offsets", { ...whole, entries: [[0, "0", "1", 2, 0]] }],
    ["a checksum too large", { ...whole, entries: [[0, "0", "1", 1, 2 ** 32]] }],
    ["a field too many", { ...whole, entries: [[0, "0", "1", 1, 0, 0]] }],
    ["a tick without its timers", { ...whole, entries: [["t", 5]] }],
    ["an unknown verdict", { ...whole, verdicts: [["x", 0, "1", "A", "b"]] }],
    ["a verdict without message", { ...whole, verdicts: [["r", 0, "1", "A"]] }],
  ];
  for (const [what, value] of broken) {
    it(`is refused with ${what}`, () => {
      expect(() => decodeJournal(JSON.stringify(value))).toThrow(expect.objectContaining({ code: "JOURNAL_BROKEN" }));
    });
  }

  it("is refused when cut off", () => {
    expect(() => decodeJournal('{"v":1')).toThrow(expect.objectContaining({ code: "JOURNAL_BROKEN" }));
  });
});

describe("redo", () => {
  const output: fc.Arbitrary<OutputRecord> = fc.record({
    topic: fc.string({ unit: "grapheme" }),
    partition: fc.nat({ max: 100_000 }),
    key: maybeBytes,
    value: maybeBytes,
    headers: fc.array(fc.tuple(fc.string({ unit: "grapheme" }), maybeBytes), { maxLength: 3 }),
    timestampMs: fc.bigInt({ min: -1n, max: 2n ** 60n }),
  });
  const outputs = fc.array(output, { maxLength: 5 });

  it("comes back as it was", () => {
    fc.assert(
      fc.property(outputs, (records) => {
        expect(decodeRedo(encodeRedo(records))).toEqual(records);
      }),
    );
  });

  it("is refused when any byte differs or is missing", () => {
    fc.assert(
      fc.property(outputs, fc.nat(), fc.integer({ min: 1, max: 255 }), (records, at, difference) => {
        const payload = encodeRedo(records);
        const changed = Buffer.from(payload);
        changed[at % changed.length]! ^= difference;
        for (const wrong of [
          changed,
          payload.subarray(0, at % payload.length),
          Buffer.concat([payload, Buffer.alloc(1)]),
        ]) {
          expect(() => decodeRedo(wrong)).toThrow(expect.objectContaining({ code: "REDO_BROKEN" }));
        }
      }),
    );
  });

  it("is refused when lengths contradict the checksummed bytes", () => {
    const payload = encodeRedo([{ topic: "t", partition: 0, key: null, value: null, headers: [], timestampMs: 0n }]);
    for (const [at, value] of [
      [4, 2],
      [4, 0],
      [8, 1_000],
      [8, -1],
      [8, -2],
    ] as const) {
      const wrong = Buffer.from(payload);
      wrong.writeInt32BE(value, at);
      wrong.writeUInt32BE(crc32c(wrong.subarray(0, -4)), wrong.length - 4);
      expect(() => decodeRedo(wrong)).toThrow(expect.objectContaining({ code: "REDO_BROKEN" }));
    }
  });
});

function bitwise(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}
