/**
 * Headers of fetched records, decoded in one pass and kept as they came.
 *
 * kafkajs 2.2.4 folds them into an object, and copies it for every header (src/protocol/recordBatch/record/v0/decoder.js):
 * a record of 117 kB with 16,000 headers held the thread for 45 s, and its time grows with the square. It also moves names
 * that look like numbers to the front, and brings those of one name together. The fold is a call of `reduce` on the list
 * that `Decoder.readVarIntArray` returns, which nothing else in kafkajs calls; so the list returned here is its own fold.
 */
import { createRequire } from "node:module";

import type { Headers } from "../actors/record.ts";

interface WireDecoder {
  readVarInt(): number;
}

/** A fetched header, as `WireRecord.headers` lists them once `installHeaderDecoder` was called. */
export interface WireHeader {
  readonly key: string;
  readonly value: Buffer | null;
}

type ReadHeader = (decoder: WireDecoder) => WireHeader;

/** Makes every `Kafka` object of this process decode headers so. Idempotent. */
export function installHeaderDecoder(): void {
  const Decoder = createRequire(import.meta.url)("kafkajs/src/protocol/decoder") as {
    prototype: { readVarIntArray(read: ReadHeader): WireHeader[] };
  };
  Decoder.prototype.readVarIntArray = readHeaders;
}

export function toHeaders(list: readonly WireHeader[]): Headers {
  return Array.from(list, ({ key, value }) => [key, value] as const);
}

class HeaderList extends Array<WireHeader> {
  // What comes out of it is the record's `headers`; the arguments are kafkajs' own fold.
  override reduce(): never {
    return this as never;
  }
}

function readHeaders(this: WireDecoder, read: ReadHeader): HeaderList {
  const list = new HeaderList();
  // -1 where there is no list at all.
  for (let left = this.readVarInt(); left > 0; left -= 1) list.push(read(this));
  return list;
}
