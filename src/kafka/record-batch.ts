/**
 * Records as one batch of Kafka's format (magic 2, uncompressed), written in one pass into memory of exactly the size.
 *
 * kafkajs encodes a record, and each of its headers, into a zeroed buffer of 512 bytes of its own, all of which wait until they are copied
 * into the next larger one, five times over: a batch of 2,000 records took 6,000 allocations and some 12 MB to make 1 MB. It also
 * brings headers of one name together, and cannot encode one without a value.
 *
 * Invariants
 *   RB1  The bytes are those that kafkajs would have made, wherever it can encode the records at all.
 *   RB2  Headers stay as they are: in order, also those of one name, and those without a value.
 *
 * Layout, big-endian: https://kafka.apache.org/documentation/#recordbatch
 */
import { crc32c } from "../actors/crc32c.ts";
import type { OutputRecord } from "../actors/record.ts";
import { assert } from "../errors.ts";

export type BatchRecord = Pick<OutputRecord, "key" | "value" | "headers" | "timestampMs">;

/** Who writes the batch, and which of its records into the partition comes first. */
export interface BatchOrigin {
  readonly producerId: string;
  readonly producerEpoch: number;
  readonly firstSequence: number;
  readonly isTransactional: boolean;
}

/** Everything before the records: the last field is their number. */
const HEADER_BYTES = 61;
/** `length` counts what follows it, `crc` covers what follows that. */
const AFTER_LENGTH = 12;
const CRC_AT = 17;
const AFTER_CRC = 21;
const MAGIC = 2;
const TRANSACTIONAL = 0x10;

/** @param records 1 or more, of one partition, in order */
export function encodeBatch(records: readonly BatchRecord[], origin: BatchOrigin): Buffer {
  assert(records.length > 0, "a batch without records");
  let [firstMs, lastMs] = [records[0]!.timestampMs, records[0]!.timestampMs];
  for (const { timestampMs } of records) {
    if (timestampMs < firstMs) firstMs = timestampMs;
    if (timestampMs > lastMs) lastMs = timestampMs;
  }
  const sizes = records.map((record, index) => bodyBytes(record, { index, sinceMs: record.timestampMs - firstMs }));
  const size = sizes.reduce((sum, body) => sum + sizeOfVarint(2 * body) + body, HEADER_BYTES);
  const bytes = Buffer.allocUnsafeSlow(size);
  bytes.writeBigInt64BE(0n, 0); // the broker gives the offset
  bytes.writeInt32BE(size - AFTER_LENGTH, 8);
  bytes.writeInt32BE(0, 12); // leader epoch: the broker's too
  bytes.writeInt8(MAGIC, 16);
  bytes.writeInt16BE(origin.isTransactional ? TRANSACTIONAL : 0, AFTER_CRC);
  bytes.writeInt32BE(records.length - 1, 23);
  bytes.writeBigInt64BE(firstMs, 27);
  bytes.writeBigInt64BE(lastMs, 35);
  bytes.writeBigInt64BE(BigInt(origin.producerId), 43);
  bytes.writeInt16BE(origin.producerEpoch, 51);
  bytes.writeInt32BE(origin.firstSequence, 53);
  bytes.writeInt32BE(records.length, 57);
  let at = HEADER_BYTES;
  for (const [index, record] of records.entries()) {
    at = writeVarint(bytes, 2 * sizes[index]!, at);
    bytes[at++] = 0; // attributes
    at = writeTimestamp(bytes, record.timestampMs - firstMs, at);
    at = writeVarint(bytes, 2 * index, at);
    at = writeBytes(bytes, record.key, at);
    at = writeBytes(bytes, record.value, at);
    at = writeVarint(bytes, 2 * record.headers.length, at);
    for (const [name, value] of record.headers) {
      const nameBytes = Buffer.byteLength(name);
      at = writeVarint(bytes, 2 * nameBytes, at);
      at += bytes.write(name, at, nameBytes, "utf8");
      at = writeBytes(bytes, value, at);
    }
  }
  assert(at === size, `a batch of ${size} bytes was written with ${at}`);
  bytes.writeUInt32BE(crc32c(bytes.subarray(AFTER_CRC)), CRC_AT);
  return bytes;
}

function bodyBytes({ key, value, headers }: BatchRecord, of: { index: number; sinceMs: bigint }): number {
  let bytes = 1 + sizeOfTimestamp(of.sinceMs) + sizeOfVarint(2 * of.index) + sizeOfBytes(key) + sizeOfBytes(value);
  bytes += sizeOfVarint(2 * headers.length);
  for (const [name, content] of headers) {
    const nameBytes = Buffer.byteLength(name);
    bytes += sizeOfVarint(2 * nameBytes) + nameBytes + sizeOfBytes(content);
  }
  return bytes;
}

function sizeOfBytes(bytes: Buffer | null): number {
  return bytes === null ? 1 : sizeOfVarint(2 * bytes.length) + bytes.length;
}

function writeBytes(into: Buffer, bytes: Buffer | null, at: number): number {
  if (bytes === null) return writeVarint(into, 1, at); // -1
  const start = writeVarint(into, 2 * bytes.length, at);
  into.set(bytes, start);
  return start + bytes.length;
}

/** Of a number up to this twice as much is exact. */
const EXACT_MAX = 2n ** 52n;

function sizeOfTimestamp(sinceMs: bigint): number {
  if (sinceMs <= EXACT_MAX) return sizeOfVarint(2 * Number(sinceMs));
  let size = 1;
  for (let rest = BigInt.asUintN(64, 2n * sinceMs); rest >= 0x80n; rest >>= 7n) size += 1;
  return size;
}

/** A producer that stamps nanoseconds, in one batch with one that stamps milliseconds, is beyond what a number holds. */
function writeTimestamp(into: Buffer, sinceMs: bigint, start: number): number {
  if (sinceMs <= EXACT_MAX) return writeVarint(into, 2 * Number(sinceMs), start);
  let at = start;
  let rest = BigInt.asUintN(64, 2n * sinceMs);
  for (; rest >= 0x80n; rest >>= 7n) into[at++] = Number(rest & 0x7fn) | 0x80;
  into[at++] = Number(rest);
  return at;
}

/** @param zigzag 2n for n >= 0, -2n - 1 below; may be beyond 32 bits */
function sizeOfVarint(zigzag: number): number {
  let size = 1;
  for (let rest = zigzag; rest >= 0x80; rest = Math.floor(rest / 0x80)) size += 1;
  return size;
}

function writeVarint(into: Buffer, zigzag: number, start: number): number {
  let at = start;
  let rest = zigzag;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) into[at++] = (rest % 0x80) | 0x80;
  into[at++] = rest;
  return at;
}
