/** Which member owns which shard. A: src/kafka/assignor.ts. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { type AssignableMember, assignShards } from "../../../src/kafka/assignor.ts";

const member = (memberId: string, held: number[] = [], version = 1): AssignableMember => ({ memberId, held, version });

function check(shardCount: number, members: AssignableMember[], versions: [number, number][] = []) {
  return Object.fromEntries(assignShards({ shardCount, members, snapshotVersions: new Map(versions) }));
}

describe("cases", () => {
  test("one member owns all", () => {
    expect(check(3, [member("a")])).toEqual({ a: [0, 1, 2] });
  });
  test("no member, no owner", () => {
    expect(check(3, [])).toEqual({});
  });
  test("A1: a shard beyond the recorded count is not given out, though a member holds it", () => {
    expect(check(2, [member("a", [0, 1, 2, 7]), member("b")])).toEqual({ a: [0], b: [1] });
  });
  test("A4: a second member takes half, the first keeps the other half", () => {
    expect(check(4, [member("a", [0, 1, 2, 3]), member("b")])).toEqual({ a: [0, 1], b: [2, 3] });
  });
  test("A4: when a member leaves, the others keep theirs", () => {
    expect(check(6, [member("a", [1, 4]), member("b", [0, 5])])).toEqual({ a: [1, 2, 4], b: [0, 3, 5] });
  });
  test("A1: of two that claim a shard, one keeps it", () => {
    expect(check(2, [member("b", [0, 1]), member("a", [0])])).toEqual({ a: [0], b: [1] });
  });
  test("A2: a shard with a newer snapshot goes to newer code, or stays alone", () => {
    expect(check(2, [member("a", [0, 1], 1), member("b", [], 2)], [[0, 2]])).toEqual({ a: [1], b: [0] });
    expect(check(2, [member("a", [0, 1], 1)], [[0, 2]])).toEqual({ a: [1] });
  });
  test("A3: a shard is passed on by way of a third member where versions force it", () => {
    // c may take only shard 4, which b holds; b in turn can take one of a's.
    const members = [member("a", [0, 1, 2], 3), member("b", [3, 4], 2), member("c", [], 1)];
    const versions: [number, number][] = [
      [0, 3],
      [1, 3],
      [2, 2],
      [3, 2],
      [4, 1],
    ];
    expect(check(5, members, versions)).toEqual({ a: [0, 1], b: [2, 3], c: [4] });
  });
});

const memberCount = fc.integer({ min: 1, max: 6 });
const scene = fc
  .record({
    shardCount: fc.integer({ min: 0, max: 24 }),
    count: memberCount,
    seedOwners: fc.array(fc.nat(9), { maxLength: 24 }),
  })
  .chain(({ shardCount, count, seedOwners }) =>
    fc.record({
      shardCount: fc.constant(shardCount),
      members: fc.tuple(
        ...Array.from({ length: count }, (_, m) =>
          fc.integer({ min: 1, max: 3 }).map((version) =>
            member(
              `m${m}`,
              seedOwners.flatMap((owner, shard) => (owner === m ? [shard] : [])),
              version,
            ),
          ),
        ),
      ),
      versions: fc.array(fc.tuple(fc.nat(23), fc.integer({ min: 1, max: 4 })), { maxLength: 12 }),
    }),
  );

describe("properties", () => {
  test("A1, A2, A5: at most one owner, only eligible ones, no eligible shard left, and the order of members is nothing", () => {
    fc.assert(
      fc.property(scene, ({ shardCount, members, versions }) => {
        const snapshotVersions = new Map(versions);
        const assigned = assignShards({ shardCount, members, snapshotVersions });
        expect([...assigned.keys()].sort()).toEqual(members.map(({ memberId }) => memberId).sort());
        const all = [...assigned.values()].flat();
        expect(new Set(all).size).toBe(all.length);
        const version = new Map(members.map((each) => [each.memberId, each.version]));
        for (const [memberId, shards] of assigned) {
          for (const shard of shards) {
            expect(shard).toBeLessThan(shardCount);
            expect(version.get(memberId)).toBeGreaterThanOrEqual(snapshotVersions.get(shard) ?? 0);
          }
        }
        for (let shard = 0; shard < shardCount; shard++) {
          const needed = snapshotVersions.get(shard) ?? 0;
          expect(all.includes(shard)).toBe(members.some((each) => each.version >= needed));
        }
        expect(assignShards({ shardCount, members: [...members].reverse(), snapshotVersions })).toEqual(assigned);
      }),
    );
  });

  test("A3, A4: without versions loads differ by one at most, and no balanced assignment moves fewer shards", () => {
    fc.assert(
      fc.property(scene, ({ shardCount, members }) => {
        const assigned = assignShards({ shardCount, members, snapshotVersions: new Map() });
        const sizes = [...assigned.values()].map((shards) => shards.length);
        expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);

        const held = members.map((each) => each.held.filter((shard) => shard < shardCount));
        const kept = members.reduce(
          (sum, { memberId }, m) => sum + assigned.get(memberId)!.filter((shard) => held[m]!.includes(shard)).length,
          0,
        );
        // Each member can keep up to the low quota, and as many members as there are high quotas one more.
        const low = Math.floor(shardCount / members.length);
        const high = shardCount % members.length;
        const above = held.filter((shards) => shards.length > low).length;
        const most = held.reduce((sum, shards) => sum + Math.min(shards.length, low), 0) + Math.min(above, high);
        expect(kept).toBe(most);
      }),
    );
  });

  test("A4: assigning again what was assigned moves nothing", () => {
    fc.assert(
      fc.property(scene, ({ shardCount, members, versions }) => {
        const snapshotVersions = new Map(versions);
        const first = assignShards({ shardCount, members, snapshotVersions });
        const again = members.map((each) => ({ ...each, held: first.get(each.memberId)! }));
        expect(assignShards({ shardCount, members: again, snapshotVersions })).toEqual(first);
      }),
    );
  });
});
