/**
 * The states found so far: packed, each once, numbered in the order in which they were found.
 *
 * A hash table with open addressing over chunks of words. Numbers never change, so parents and edges are plain integers.
 */
import type { Packing } from "./layout.ts";

const CHUNK_BITS = 15;
const CHUNK = 1 << CHUNK_BITS;

export class StateStore {
  readonly #packing: Packing;
  readonly #source: Uint8Array;
  readonly #fours: Int32Array;
  readonly #scratch: Int32Array;
  readonly #chunks: Int32Array[] = [];
  #table = new Int32Array(1 << 16).fill(-1);
  #hashes = new Int32Array(1 << 15);
  #count = 0;

  /** @param source where the state to be added stands */
  constructor(packing: Packing, source: Uint8Array) {
    this.#packing = packing;
    this.#source = source;
    this.#fours = new Int32Array(source.buffer);
    this.#scratch = new Int32Array(packing.words);
  }

  get count(): number {
    return this.#count;
  }

  /** @returns the number of the state; it is new when that was `count` before */
  add(): number {
    this.#packing.pack(this.#source, this.#fours, this.#scratch);
    const hash = this.#hash();
    const found = this.#find(hash);
    if (found >= 0) return found;
    if (this.#count === this.#hashes.length) this.#grow();
    const number = this.#count;
    if ((number & (CHUNK - 1)) === 0) this.#chunks.push(new Int32Array(CHUNK * this.#packing.words));
    this.#chunks[number >> CHUNK_BITS]!.set(this.#scratch, (number & (CHUNK - 1)) * this.#packing.words);
    this.#hashes[number] = hash;
    this.#enter(number, hash);
    this.#count += 1;
    return number;
  }

  /** @returns the number of the state, -1 when it was not found yet */
  find(): number {
    this.#packing.pack(this.#source, this.#fours, this.#scratch);
    return this.#find(this.#hash());
  }

  load(number: number, state: Uint8Array): void {
    this.#packing.unpack(this.#chunks[number >> CHUNK_BITS]!, (number & (CHUNK - 1)) * this.#packing.words, state);
  }

  #hash(): number {
    const scratch = this.#scratch;
    let hash = 0x811c9dc5;
    for (let w = 0; w < scratch.length; w += 1) {
      hash = Math.imul(hash ^ scratch[w]!, 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    hash = Math.imul(hash, 0x85ebca6b);
    return hash ^ (hash >>> 13);
  }

  #find(hash: number): number {
    const scratch = this.#scratch;
    const table = this.#table;
    const hashes = this.#hashes;
    const mask = table.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const number = table[slot]!;
      if (number < 0) return -1;
      if (hashes[number] !== hash) continue;
      const chunk = this.#chunks[number >> CHUNK_BITS]!;
      const at = (number & (CHUNK - 1)) * scratch.length;
      let w = 0;
      while (w < scratch.length && chunk[at + w] === scratch[w]) w += 1;
      if (w === scratch.length) return number;
    }
  }

  #enter(number: number, hash: number): void {
    const mask = this.#table.length - 1;
    let slot = hash & mask;
    while (this.#table[slot]! >= 0) slot = (slot + 1) & mask;
    this.#table[slot] = number;
  }

  /** At most half of the table is in use. */
  #grow(): void {
    const hashes = new Int32Array(this.#hashes.length * 2);
    hashes.set(this.#hashes);
    this.#hashes = hashes;
    this.#table = new Int32Array(hashes.length * 2).fill(-1);
    for (let number = 0; number < this.#count; number += 1) this.#enter(number, hashes[number]!);
  }
}

/** An array of integers that grows. */
export class Ints {
  #values = new Int32Array(1 << 16);
  length = 0;

  push(value: number): void {
    if (this.length === this.#values.length) {
      const values = new Int32Array(this.length * 2);
      values.set(this.#values);
      this.#values = values;
    }
    this.#values[this.length] = value;
    this.length += 1;
  }

  get values(): Int32Array {
    return this.#values;
  }
}
