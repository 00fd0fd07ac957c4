import fc from "fast-check";
import { describe, expect, it } from "vitest";

import {
  addIdentity,
  hasIdentity,
  type Identities,
  NO_IDENTITIES,
} from "../../../../src/machines/trading/identities.ts";

function setOf(members: Iterable<string>): Identities {
  let set = NO_IDENTITIES;
  for (const member of members) set = addIdentity(set, member);
  return set;
}

describe("identities", () => {
  it("has what was added and nothing else, also after JSON", () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.string(), { maxLength: 300 }), fc.string(), (members, other) => {
        const set = JSON.parse(JSON.stringify(setOf(members))) as Identities;
        expect(members.every((member) => hasIdentity(set, member))).toBe(true);
        expect(hasIdentity(set, other)).toBe(members.includes(other));
      }),
    );
  });

  it("T1: the set before an addition stays as it was", () => {
    let set = NO_IDENTITIES;
    const earlier: Array<[Identities, string]> = [];
    for (let i = 0; i < 500; i += 1) {
      earlier.push([set, JSON.stringify(set)]);
      set = addIdentity(set, `i:${i}`);
    }
    for (const [before, text] of earlier) expect(JSON.stringify(before)).toBe(text);
  });

  it("T2: a set that went through JSON grows into the same shape", () => {
    const whole = setOf(Array.from({ length: 400 }, (_, i) => `i:${i}`));
    let restored = NO_IDENTITIES;
    for (let i = 0; i < 400; i += 1) restored = addIdentity(JSON.parse(JSON.stringify(restored)), `i:${i}`);
    expect(JSON.stringify(restored)).toBe(JSON.stringify(whole));
  });

  it("shares all but a small part with the set before: 5,000 signals do not copy 5,000 identities each", () => {
    const before = setOf(Array.from({ length: 5_000 }, (_, i) => `i:${i}`));
    const after = addIdentity(before, "i:another");
    const nodes = new Set<unknown>();
    const collect = (node: Identities): void => {
      nodes.add(node);
      for (const child of node) if (typeof child === "object") collect(child);
    };
    collect(before);
    let copied = 0;
    const count = (node: Identities): void => {
      if (nodes.has(node)) return;
      copied += node.length;
      for (const child of node) if (typeof child === "object") count(child);
    };
    count(after);
    expect(copied).toBeLessThanOrEqual(16 * 5);
  });
});
