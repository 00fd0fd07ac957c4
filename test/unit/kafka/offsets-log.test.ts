/** G1, G2 (src/kafka/offsets-log.ts) on records as the broker writes them; on a real one: test/contract/kafka/offsets-log.test.ts. */
import { describe, expect, test } from "vitest";

import { coordinatorPartition, OffsetsView } from "../../../src/kafka/offsets-log.ts";
import { decodeOffsetKey, decodeOffsetValue } from "../../../src/kafka/offsets-record.ts";
import type { WireRecord } from "../../../src/kafka/wire.ts";

const string = (text: string) => {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(2);
  length.writeInt16BE(bytes.length);
  return Buffer.concat([length, bytes]);
};
const int16 = (n: number) => Buffer.from(Uint8Array.of((n >> 8) & 0xff, n & 0xff));
const int32 = (n: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(n);
  return bytes;
};
const int64 = (n: bigint) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(n);
  return bytes;
};
const keyOf = (group: string, topic: string, partition: number, version = 1) =>
  Buffer.concat([int16(version), string(group), string(topic), int32(partition)]);
const offsetValue = (offset: bigint, metadata: string) =>
  Buffer.concat([int16(3), int64(offset), int32(-1), string(metadata), int64(0n)]);

/** A log of records, each in a batch of its own: producer "-" writes outside of transactions. */
function view(topics = ["a", "b"]) {
  const made = new OffsetsView({ groupId: "g", topics, partition: 1 });
  let at = 0;
  const take = (producerId: string, key: Buffer | null, value: Buffer | null, isControlRecord: boolean) => {
    const inTransaction = producerId !== "-";
    const batchContext = { firstOffset: String(at), lastOffsetDelta: 0, producerId, inTransaction };
    const record: WireRecord = {
      offset: String(at),
      timestamp: "0",
      key,
      value,
      headers: [],
      isControlRecord,
      batchContext,
    };
    made.take(record);
    at += 1;
  };
  return {
    offset: (producer: string, topic: string, offset: bigint, of: { group?: string; partition?: number } = {}) =>
      take(producer, keyOf(of.group ?? "g", topic, of.partition ?? 1), offsetValue(offset, `m${offset}`), false),
    deleted: (producer: string, topic: string) => take(producer, keyOf("g", topic, 1), null, false),
    ends: (producer: string, how: "commit" | "abort") =>
      take(producer, Buffer.concat([int16(0), int16(how === "commit" ? 1 : 0)]), Buffer.alloc(6), true),
    other: (key: Buffer | null) => take("-", key, Buffer.alloc(1), false),
    get stands() {
      return Object.values(made.committed()).map(({ offset }) => offset);
    },
  };
}

describe("what stands in the offsets log", () => {
  test("G1: an offset counts once its transaction is committed, all topics of it together", () => {
    const log = view();
    log.offset("7", "a", 1n);
    log.offset("7", "b", 2n);
    expect(log.stands).toEqual([null, null]);
    log.ends("7", "commit");
    expect(log.stands).toEqual([1n, 2n]);
    log.offset("7", "a", 3n);
    log.ends("7", "abort");
    log.ends("7", "commit");
    expect(log.stands).toEqual([1n, 2n]);
  });

  test("G1: written outside of a transaction it counts at once", () => {
    const log = view();
    log.offset("-", "a", 1n);
    expect(log.stands).toEqual([1n, null]);
  });

  test("G1: another producer's marker ends nothing of ours", () => {
    const log = view();
    log.offset("7", "a", 1n);
    log.ends("8", "commit");
    expect(log.stands).toEqual([null, null]);
  });

  test("G2: the last by its own place counts, not by its marker's", () => {
    const log = view(["a"]);
    log.offset("7", "a", 1n);
    log.offset("8", "a", 2n);
    log.ends("8", "commit");
    log.ends("7", "commit");
    expect(log.stands).toEqual([2n]);
  });

  test("a deleted offset is none, and what was pending for it goes too", () => {
    const log = view();
    log.offset("-", "a", 1n);
    log.offset("7", "a", 2n);
    log.offset("7", "b", 2n);
    log.deleted("-", "a");
    log.ends("7", "commit");
    expect(log.stands).toEqual([null, 2n]);
  });

  test("other groups, partitions, topics and kinds of records say nothing", () => {
    const log = view();
    log.offset("-", "a", 1n, { group: "g2" });
    log.offset("-", "a", 1n, { partition: 2 });
    log.offset("-", "c", 1n);
    log.other(null);
    log.other(Buffer.concat([int16(2), string("g")]));
    expect(log.stands).toEqual([null, null]);
  });
});

describe("layout", () => {
  test("a key, of both versions", () => {
    for (const version of [0, 1])
      expect(decodeOffsetKey(keyOf("gé", "t", 7, version))).toEqual({ group: "gé", topic: "t", partition: 7 });
  });

  const tail = int64(0n);
  test.each([
    [0, [int64(5n), string("m"), tail]],
    [1, [int64(5n), string("m"), tail, int64(-1n)]],
    [2, [int64(5n), string("m"), tail]],
    [3, [int64(5n), int32(2), string("m"), tail]],
    [4, [int64(5n), int32(2), Buffer.from([2]), Buffer.from("m"), tail, Buffer.from([0])]],
  ])("a value of version %i", (version, parts) => {
    expect(decodeOffsetValue(Buffer.concat([int16(version), ...parts]))).toEqual({ offset: 5n, metadata: "m" });
  });

  test("a compact string longer than 126 bytes", () => {
    const text = "x".repeat(300);
    const value = Buffer.concat([int16(4), int64(5n), int32(2), Buffer.from([0xad, 0x02]), Buffer.from(text), tail]);
    expect(decodeOffsetValue(value).metadata).toBe(text);
  });

  test("a version that is not known, and bytes that end early, are errors", () => {
    expect(() => decodeOffsetValue(Buffer.concat([int16(5), int64(5n)]))).toThrow(RangeError);
    expect(() => decodeOffsetValue(Buffer.concat([int16(3), int64(5n), int32(0), int16(9)]))).toThrow(RangeError);
  });

  test("the partition of a group is that of Java's hash of its name", () => {
    // "abc".hashCode() is 96354; that of "polygenelubricants" is the least integer, which has no positive.
    expect(coordinatorPartition("abc", 50)).toBe(96354 % 50);
    expect(coordinatorPartition("polygenelubricants", 50)).toBe(0);
    expect(coordinatorPartition("Aa", 4)).toBe(coordinatorPartition("BB", 4));
  });
});
