/**
 * Redo: the records that a commit publishes, packed into bytes, so that they can be published again unchanged.
 *
 * Layout, version 1, all numbers big-endian:
 *   "LKR" 1                  magic and version, 4 bytes
 *   count                    u32, records
 *   per record:
 *     topic                  bytes
 *     partition              i32
 *     timestamp              i64, ms
 *     key, value             bytes each
 *     header count           u32, then name and value of each, bytes
 *   checksum                 u32, CRC32C of everything before
 * where bytes = i32 length, -1 for null, then as many bytes; topic and header names are UTF-8 and never null.
 */
import { LockstepError } from "../errors.ts";
import { crc32c } from "./crc32c.ts";
import type { Headers, OutputRecord } from "./record.ts";

const MAGIC = Buffer.from([0x4c, 0x4b, 0x52, 1]);
/** Lengths of topic, key and value, partition, timestamp, header count. */
const RECORD_FIXED_BYTES = 4 + 4 + 8 + 4 + 4 + 4;

export function encodeRedo(records: readonly OutputRecord[]): Buffer {
  let size = MAGIC.length + 4 + 4;
  for (const record of records) size += encodedBytes(record);
  const writer = new Writer(Buffer.allocUnsafe(size));
  writer.raw(MAGIC);
  writer.u32(records.length);
  for (const { topic, partition, timestampMs, key, value, headers } of records) {
    writer.text(topic);
    writer.i32(partition);
    writer.i64(timestampMs);
    writer.bytes(key);
    writer.bytes(value);
    writer.u32(headers.length);
    for (const [name, content] of headers) {
      writer.text(name);
      writer.bytes(content);
    }
  }
  return writer.finish();
}

/** Keys and values are views of `payload`. @throws {LockstepError} REDO_BROKEN the bytes are not what `encodeRedo` made */
export function decodeRedo(payload: Buffer): OutputRecord[] {
  if (payload.length < MAGIC.length + 8) throw broken(`it has ${payload.length} bytes`);
  if (!payload.subarray(0, 3).equals(MAGIC.subarray(0, 3))) throw broken("it does not begin with LKR");
  if (payload[3] !== MAGIC[3]) throw broken(`its version is ${payload[3]}, not ${MAGIC[3]}`);
  const end = payload.length - 4;
  if (crc32c(payload.subarray(0, end)) !== payload.readUInt32BE(end)) throw broken("its checksum differs");

  const reader = new Reader(payload.subarray(0, end), MAGIC.length);
  const records: OutputRecord[] = [];
  for (let left = reader.u32(); left > 0; left -= 1) {
    const topic = reader.text();
    const partition = reader.i32();
    const timestampMs = reader.i64();
    const key = reader.bytes();
    const value = reader.bytes();
    records.push({ topic, partition, key, value, headers: readHeaders(reader), timestampMs });
  }
  if (reader.left > 0) throw broken(`${reader.left} bytes follow the last record`);
  return records;
}

function readHeaders(reader: Reader): Headers {
  const headers: Array<readonly [string, Buffer | null]> = [];
  for (let left = reader.u32(); left > 0; left -= 1) headers.push([reader.text(), reader.bytes()]);
  return headers;
}

function encodedBytes({ topic, key, value, headers }: OutputRecord): number {
  let size = RECORD_FIXED_BYTES + Buffer.byteLength(topic) + (key?.length ?? 0) + (value?.length ?? 0);
  for (const [name, content] of headers) size += 8 + Buffer.byteLength(name) + (content?.length ?? 0);
  return size;
}

class Writer {
  readonly #buffer: Buffer;
  #at = 0;

  constructor(buffer: Buffer) {
    this.#buffer = buffer;
  }

  u32(value: number): void {
    this.#at = this.#buffer.writeUInt32BE(value, this.#at);
  }

  i32(value: number): void {
    this.#at = this.#buffer.writeInt32BE(value, this.#at);
  }

  i64(value: bigint): void {
    this.#at = this.#buffer.writeBigInt64BE(value, this.#at);
  }

  raw(bytes: Buffer): void {
    this.#at += bytes.copy(this.#buffer, this.#at);
  }

  bytes(bytes: Buffer | null): void {
    this.i32(bytes === null ? -1 : bytes.length);
    if (bytes !== null) this.raw(bytes);
  }

  text(text: string): void {
    const length = this.#buffer.write(text, this.#at + 4, "utf8");
    this.i32(length);
    this.#at += length;
  }

  finish(): Buffer {
    this.u32(crc32c(this.#buffer.subarray(0, this.#at)));
    return this.#buffer;
  }
}

class Reader {
  readonly #buffer: Buffer;
  #at: number;

  constructor(buffer: Buffer, at: number) {
    this.#buffer = buffer;
    this.#at = at;
  }

  get left(): number {
    return this.#buffer.length - this.#at;
  }

  u32(): number {
    return this.#buffer.readUInt32BE(this.#advance(4));
  }

  i32(): number {
    return this.#buffer.readInt32BE(this.#advance(4));
  }

  i64(): bigint {
    return this.#buffer.readBigInt64BE(this.#advance(8));
  }

  bytes(): Buffer | null {
    const length = this.i32();
    if (length === -1) return null;
    if (length < 0) throw broken(`a length is ${length}`);
    const start = this.#advance(length);
    return this.#buffer.subarray(start, start + length);
  }

  text(): string {
    const bytes = this.bytes();
    if (bytes === null) throw broken("a name is null");
    return bytes.toString("utf8");
  }

  /** Moves on by `count` bytes. @returns where they start */
  #advance(count: number): number {
    if (count > this.left) throw broken(`it ends ${count - this.left} bytes too early`);
    const start = this.#at;
    this.#at += count;
    return start;
  }
}

function broken(reason: string): LockstepError {
  return new LockstepError("REDO_BROKEN", `A redo row cannot be read: ${reason}.`);
}
