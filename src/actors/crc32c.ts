/**
 * CRC32C (Castagnoli), eight bytes at a time, and the checksum of a run of records.
 *
 * `crc32c("123456789")` is 0xE3069283. Checksums chain: crc32c(b, crc32c(a)) === crc32c(a + b).
 */
import type { InputRecord } from "./record.ts";

/** The polynomial 0x1EDC6F41 with its bits reversed. */
const POLYNOMIAL = 0x82f63b78;

const TABLES = makeTables();

/** @returns the checksum, 0..2^32 - 1, of what `previous` covers followed by `bytes` */
export function crc32c(bytes: Uint8Array, previous = 0): number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = TABLES;
  const { length } = bytes;
  let crc = ~previous;
  let i = 0;
  // Every index stands below the length, so `!` holds. The assertions cost nothing at run time.
  for (; i + 8 <= length; i += 8) {
    const low = crc ^ (bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24));
    crc =
      t7[low & 0xff]! ^
      t6[(low >>> 8) & 0xff]! ^
      t5[(low >>> 16) & 0xff]! ^
      t4[low >>> 24]! ^
      t3[bytes[i + 4]!]! ^
      t2[bytes[i + 5]!]! ^
      t1[bytes[i + 6]!]! ^
      t0[bytes[i + 7]!]!;
  }
  for (; i < length; i += 1) crc = (crc >>> 8) ^ t0[(crc ^ bytes[i]!) & 0xff]!;
  return ~crc >>> 0;
}

/** The checksum of a run: `extendChecksum` over its records from 0. */
export function runChecksum(records: readonly InputRecord[]): number {
  let crc = 0;
  for (const record of records) crc = extendChecksum(crc, record);
  return crc;
}

/**
 * The checksum with one more record: key and value, each after its length (4 bytes, -1 for null), then the timestamp (8 bytes),
 * all big-endian.
 */
export function extendChecksum(crc: number, record: InputRecord): number {
  const next = extendBytes(extendBytes(crc, record.key), record.value);
  SCRATCH.writeBigInt64BE(record.timestampMs);
  return crc32c(SCRATCH, next);
}

/** Written and read within one call each. */
const SCRATCH = Buffer.alloc(8);
const SCRATCH_LENGTH = SCRATCH.subarray(0, 4);

function extendBytes(crc: number, bytes: Buffer | null): number {
  SCRATCH.writeInt32BE(bytes === null ? -1 : bytes.length);
  const next = crc32c(SCRATCH_LENGTH, crc);
  return bytes === null ? next : crc32c(bytes, next);
}

type Tables = [Int32Array, Int32Array, Int32Array, Int32Array, Int32Array, Int32Array, Int32Array, Int32Array];

function makeTables(): Tables {
  const tables = Array.from({ length: 8 }, () => new Int32Array(256)) as Tables;
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    tables[0][byte] = crc;
  }
  for (let i = 1; i < 8; i += 1) {
    for (let byte = 0; byte < 256; byte += 1) {
      const previous = tables[i - 1]![byte]!;
      tables[i]![byte] = (previous >>> 8) ^ tables[0][previous & 0xff]!;
    }
  }
  return tables;
}
