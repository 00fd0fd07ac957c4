/**
 * Chance from a seed: the same seed gives the same run. Every source of chance of a simulation is a fork of one seed, by name,
 * so that what one part draws does not move what the others draw.
 */
export interface Random {
  /** 0 <= x < 1. */
  next(): number;
  /** min <= x <= max, whole. */
  between(min: number, max: number): number;
  chance(probability: number): boolean;
  /** @throws when the list is empty */
  pick<T>(from: readonly T[]): T;
  /** A UUID, version 4 in form. */
  uuid(): string;
  /** A source of its own. */
  fork(name: string): Random;
}

export function createRandom(seed: number | string): Random {
  const next = sfc32(String(seed));
  const between = (min: number, max: number) => min + Math.floor(next() * (max - min + 1));
  return {
    next,
    between,
    chance: (probability) => next() < probability,
    pick(from) {
      if (from.length === 0) throw new Error("nothing to pick from");
      return from[between(0, from.length - 1)]!;
    },
    uuid() {
      const hex = Array.from({ length: 4 }, () =>
        Math.floor(next() * 2 ** 32)
          .toString(16)
          .padStart(8, "0"),
      ).join("");
      const variant = ((Number.parseInt(hex.charAt(16), 16) & 0b0011) | 0b1000).toString(16);
      return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20)}`;
    },
    fork: (name) => createRandom(`${seed}/${name}`),
  };
}

/** Chris Doty-Humphrey's small fast counting generator, seeded by an FNV-1a hash of the text. */
function sfc32(seed: string): () => number {
  const word = (salt: number) => fnv1a(`${salt}:${seed}`);
  let [a, b, c, counter] = [word(1), word(2), word(3), 1];
  const next = () => {
    const sum = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return (sum >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 12; i += 1) next(); // until the seed has reached every bit
  return next;
}

/** 32 bits of a text. */
export function fnv1a(text: string, start = 0x811c9dc5): number {
  let hash = start;
  for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash | 0;
}
