/**
 * The data records of one input partition, held compactly: a million records of 200 bytes take little more than 200 MB, all
 * of it outside the JavaScript heap.
 *
 * Invariants
 *   A-log  offsets ascend strictly; a record comes out with the bytes that went in.
 */
import type { InputHeaders, SourceRecord } from "./sources.ts";

const CHUNK_BYTES = 1 << 20;
/** An address is chunk * 2^31 + position: both fit a double. */
const CHUNK_FACTOR = 2 ** 31;
const FIXED_BYTES = 8 + 4;

export class PartitionLog {
  readonly topic: string;
  readonly partition: number;
  readonly #chunks: Buffer[] = [];
  #used = 0;
  #length = 0;
  #offsets = new BigInt64Array(1024);
  #addresses = new Float64Array(1024);

  constructor(topic: string, partition: number) {
    this.topic = topic;
    this.partition = partition;
  }

  get length(): number {
    return this.#length;
  }

  /** @throws {Error} the offset is not above the last one: the reader does not read in order */
  append(record: SourceRecord): void {
    const last = this.#length === 0 ? -1n : this.offsetAt(this.#length - 1);
    if (record.offset <= last) {
      throw new Error(`The reader of ${this.topic}/${this.partition} gave offset ${record.offset} after ${last}.`);
    }
    const bytes = pack(record);
    const chunk = this.#chunkFor(bytes.length);
    bytes.copy(chunk, this.#used);
    this.#grow();
    this.#offsets[this.#length] = record.offset;
    this.#addresses[this.#length] = (this.#chunks.length - 1) * CHUNK_FACTOR + this.#used;
    this.#length += 1;
    this.#used += bytes.length;
  }

  /** @param index 0..length - 1 */
  offsetAt(index: number): bigint {
    const offset = index < this.#length ? this.#offsets[index] : undefined;
    if (offset === undefined) throw new RangeError(`${this.topic}/${this.partition} has no record ${index}.`);
    return offset;
  }

  /** @returns index of the first record at or above `offset`; `length` when there is none */
  indexFrom(offset: bigint): number {
    let low = 0;
    let high = this.#length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.offsetAt(middle) < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** @param index 0..length - 1 */
  at(index: number): SourceRecord {
    const offset = this.offsetAt(index);
    const address = this.#addresses[index]!; // offsetAt has checked the index
    const chunk = this.#chunks[Math.floor(address / CHUNK_FACTOR)]!; // addresses name chunks that exist
    const unpacked = unpack(chunk, address % CHUNK_FACTOR);
    return { topic: this.topic, partition: this.partition, offset, ...unpacked };
  }

  #chunkFor(bytes: number): Buffer {
    const current = this.#chunks.at(-1);
    if (current !== undefined && this.#used + bytes <= current.length) return current;
    const chunk = Buffer.allocUnsafeSlow(Math.max(CHUNK_BYTES, bytes));
    this.#chunks.push(chunk);
    this.#used = 0;
    return chunk;
  }

  #grow(): void {
    if (this.#length < this.#offsets.length) return;
    const offsets = new BigInt64Array(this.#length * 2);
    offsets.set(this.#offsets);
    this.#offsets = offsets;
    const addresses = new Float64Array(this.#length * 2);
    addresses.set(this.#addresses);
    this.#addresses = addresses;
  }
}

/** Timestamp, key, value, count of headers, headers; each piece of bytes after its length, -1 for none. */
function pack({ timestampMs, key, value, headers }: SourceRecord): Buffer {
  const pieces: Array<Buffer | null> = [key, value];
  for (const [name, content] of headers) pieces.push(Buffer.from(name), content);
  const bytes = Buffer.allocUnsafe(FIXED_BYTES + pieces.reduce((sum, piece) => sum + 4 + (piece?.length ?? 0), 0));
  let at = bytes.writeBigInt64BE(timestampMs, 0);
  at = bytes.writeInt32BE(headers.length, at);
  for (const piece of pieces) {
    at = bytes.writeInt32BE(piece?.length ?? -1, at);
    if (piece !== null) at += piece.copy(bytes, at);
  }
  return bytes;
}

function unpack(chunk: Buffer, start: number): Pick<SourceRecord, "timestampMs" | "key" | "value" | "headers"> {
  const timestampMs = chunk.readBigInt64BE(start);
  const headerCount = chunk.readInt32BE(start + 8);
  let at = start + FIXED_BYTES;
  const piece = (): Buffer | null => {
    const length = chunk.readInt32BE(at);
    at += 4;
    if (length < 0) return null;
    at += length;
    return chunk.subarray(at - length, at);
  };
  const key = piece();
  const value = piece();
  const headers: Array<InputHeaders[number]> = [];
  for (let i = 0; i < headerCount; i += 1) headers.push([piece()?.toString("utf8") ?? "", piece()]);
  return { timestampMs, key, value, headers };
}
