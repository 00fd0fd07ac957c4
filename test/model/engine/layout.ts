/**
 * A state as a model works on it, one byte a field, and as it is kept, packed to the bits that its fields need.
 *
 * Millions of states are kept, so a state of 130 fields takes some 10 words instead of 33. A value beyond the maximum of its field would
 * overwrite its neighbour; `pack` throws instead.
 */
export class Layout {
  readonly #maxima: number[] = [];

  /** Reserves fields of values 0..max. @returns the index of the first */
  field(max: number, count = 1): number {
    const first = this.#maxima.length;
    for (let n = 0; n < count; n += 1) this.#maxima.push(max);
    return first;
  }

  /** Reserves fields of the same maxima as `length` fields from `from` on. @returns the index of the first */
  copyOf(from: number, length: number): number {
    const first = this.#maxima.length;
    this.#maxima.push(...this.#maxima.slice(from, from + length));
    return first;
  }

  /** Fields reserved so far. */
  get fields(): number {
    return this.#maxima.length;
  }

  /** A state with every field 0; some bytes longer, so that it can be read in words. */
  newState(): Uint8Array {
    return new Uint8Array((this.#maxima.length + 3) & ~3);
  }

  packing(): Packing {
    return new Packing(this.#maxima);
  }
}

export class Packing {
  /** Words of 32 bits that a packed state takes. */
  readonly words: number;
  readonly #maxima: Uint8Array;
  readonly #masks: Int32Array;
  readonly #word: Uint8Array;
  readonly #shift: Uint8Array;

  constructor(maxima: readonly number[]) {
    this.#maxima = Uint8Array.from(maxima);
    this.#masks = Int32Array.from(maxima, (max) => (1 << bitsOf(max)) - 1);
    this.#word = new Uint8Array(maxima.length);
    this.#shift = new Uint8Array(maxima.length);
    let word = 0;
    let used = 0;
    for (const [field, max] of maxima.entries()) {
      const bits = bitsOf(max);
      if (used + bits > 32) {
        word += 1;
        used = 0;
      }
      this.#word[field] = word;
      this.#shift[field] = used;
      used += bits;
    }
    this.words = word + 1;
  }

  /** @param fours the state again, four fields in each: most fields of most states are 0, and are passed over together */
  pack(state: Uint8Array, fours: Int32Array, packed: Int32Array): void {
    const { words } = this;
    const maxima = this.#maxima;
    const word = this.#word;
    const shift = this.#shift;
    for (let w = 0; w < words; w += 1) packed[w] = 0;
    for (let four = 0; four < fours.length; four += 1) {
      if (fours[four] === 0) continue;
      for (let field = four * 4; field < four * 4 + 4; field += 1) {
        const value = state[field]!;
        if (value === 0) continue;
        if (!(value <= maxima[field]!)) throw new Error(`field ${field} has ${value}, its maximum is ${maxima[field]}`);
        packed[word[field]!]! |= value << shift[field]!;
      }
    }
  }

  unpack(packed: Int32Array, at: number, state: Uint8Array): void {
    const masks = this.#masks;
    const word = this.#word;
    const shift = this.#shift;
    for (let field = 0; field < masks.length; field += 1)
      state[field] = (packed[at + word[field]!]! >>> shift[field]!) & masks[field]!;
  }
}

function bitsOf(max: number): number {
  return 32 - Math.clz32(max);
}
