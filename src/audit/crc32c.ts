/**
 * The checksum of a run, computed by the audit's own code: CRC32C (Castagnoli), from its definition.
 *
 * A run's checksum goes on over its records in order: key, value, each after its length (4 bytes big-endian, -1 for null),
 * then Kafka's timestamp (8 bytes big-endian).
 */
import type { SourceRecord } from "./sources.ts";

/** The polynomial 0x1EDC6F41, bits reversed. */
const POLYNOMIAL = 0x82f63b78;

const TABLE = new Uint32Array(256).map((_, byte) => {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit += 1) {
    const odd = (remainder & 1) === 1;
    remainder >>>= 1;
    if (odd) remainder ^= POLYNOMIAL;
  }
  return remainder;
});

/** @returns CRC32C, 0..2^32 - 1, of what `before` covers followed by `bytes` */
export function crcOf(bytes: Uint8Array, before = 0): number {
  let remainder = before ^ 0xffffffff;
  for (const byte of bytes) {
    // The index is one byte, so it is always in the table.
    remainder = TABLE[(remainder ^ byte) & 0xff]! ^ (remainder >>> 8);
  }
  return (remainder ^ 0xffffffff) >>> 0;
}

/** The checksum of a run, with one more record. Starts at 0. */
export function crcWithRecord(before: number, record: Pick<SourceRecord, "key" | "value" | "timestampMs">): number {
  const lengths = Buffer.alloc(8);
  lengths.writeInt32BE(record.key?.length ?? -1, 0);
  lengths.writeInt32BE(record.value?.length ?? -1, 4);
  const time = Buffer.alloc(8);
  time.writeBigInt64BE(record.timestampMs);
  let crc = crcOf(lengths.subarray(0, 4), before);
  if (record.key !== null) crc = crcOf(record.key, crc);
  crc = crcOf(lengths.subarray(4), crc);
  if (record.value !== null) crc = crcOf(record.value, crc);
  return crcOf(time, crc);
}
