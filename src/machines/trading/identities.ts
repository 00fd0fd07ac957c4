/**
 * A set of strings that survives JSON and is never copied whole: a hash trie of plain arrays.
 *
 * A leaf is an array of strings, a branch an array of 16 nodes. An added string copies the leaf it lands in and the branches
 * above it: about 16 pointers a level, so that a window of 5,000 signals costs little more per signal than one of 50.
 *
 * Invariants
 *   T1  A node is never changed; whoever holds an older root still has the older set.
 *   T2  The shape depends on the strings and the order in which they came, on nothing else.
 */
export type Identities = readonly string[] | readonly Identities[];

export const NO_IDENTITIES: Identities = Object.freeze([]);

/** Children of a branch: 4 bits of the hash a level. */
const FANOUT = 16;
/** A fuller leaf is split, except below the last level. */
const LEAF_MAX = 16;
/** 32 bits of hash, 4 a level. */
const DEPTH_MAX = 8;

export function hasIdentity(set: Identities, identity: string): boolean {
  const hash = hashOf(identity);
  let node = set;
  for (let depth = 0; isBranch(node); depth += 1) node = node[nibble(hash, depth)]!;
  return node.includes(identity);
}

/** @param identity one that the set does not have yet */
export function addIdentity(set: Identities, identity: string): Identities {
  return add(set, identity, hashOf(identity), 0);
}

function add(node: Identities, identity: string, hash: number, depth: number): Identities {
  if (isBranch(node)) {
    const slot = nibble(hash, depth);
    return node.with(slot, add(node[slot]!, identity, hash, depth + 1));
  }
  if (node.length < LEAF_MAX || depth === DEPTH_MAX) return [...node, identity];
  const leaves: string[][] = Array.from({ length: FANOUT }, () => []);
  for (const member of node) leaves[nibble(hashOf(member), depth)]!.push(member);
  return add(leaves, identity, hash, depth);
}

/** An empty leaf has no first element, and a branch's first one is an array. */
function isBranch(node: Identities): node is readonly Identities[] {
  return typeof node[0] === "object";
}

function nibble(hash: number, depth: number): number {
  return (hash >>> (depth * 4)) & (FANOUT - 1);
}

/** FNV-1a over UTF-16 units, then one round of mixing so that the low bits, used first, depend on all of them. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x45d9f3b);
  return hash ^ (hash >>> 15);
}
