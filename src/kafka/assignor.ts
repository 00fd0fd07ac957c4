/**
 * Which member of the group owns which shard.
 *
 * Invariants
 *   A1  A shard has at most one owner, and none that is >= the recorded shard count is ever given out.
 *   A2  A member never gets a shard whose snapshot a newer version of the app has written. A shard nobody may take stays without owner.
 *   A3  Loads differ by no more than eligibility forces: within one where every member may take everything.
 *   A4  As many shards as A3 allows stay with their holder.
 *   A5  The same input gives the same assignment, whoever is the leader.
 */

export interface AssignableMember {
  readonly memberId: string;
  /** Shards it owns now. Two members may claim the same one after a lost heartbeat: the smaller member id keeps it. */
  readonly held: readonly number[];
  /** Version of its app. */
  readonly version: number;
}

export interface AssignmentRequest {
  readonly shardCount: number;
  readonly members: readonly AssignableMember[];
  /** Per shard, version of the app that wrote its snapshot; missing: no snapshot. */
  readonly snapshotVersions: ReadonlyMap<number, number>;
}

interface Load {
  readonly member: AssignableMember;
  readonly held: ReadonlySet<number>;
  readonly shards: Set<number>;
}

/** @returns every member, with its shards ascending */
export function assignShards({ shardCount, members, snapshotVersions }: AssignmentRequest): Map<string, number[]> {
  const loads: Load[] = [...members]
    .sort((a, b) => (a.memberId < b.memberId ? -1 : a.memberId > b.memberId ? 1 : 0))
    .map((member) => ({ member, held: new Set(member.held), shards: new Set() }));
  const mayTake = (load: Load, shard: number) =>
    load.member.version >= (snapshotVersions.get(shard) ?? Number.NEGATIVE_INFINITY);

  const orphans: number[] = [];
  for (let shard = 0; shard < shardCount; shard++) {
    const holder = loads.find((load) => load.held.has(shard) && mayTake(load, shard));
    if (holder === undefined) orphans.push(shard);
    else holder.shards.add(shard);
  }
  for (const shard of orphans) leastLoaded(loads.filter((load) => mayTake(load, shard)))?.shards.add(shard);

  while (improve(loads, mayTake));
  return new Map(loads.map((load) => [load.member.memberId, [...load.shards].sort((a, b) => a - b)]));
}

/**
 * Moves one shard's worth of load from a member to one that has at least two fewer, by way of others where eligibility
 * forces it. When no such path is left, no assignment is more even.
 * Source: semi-matching by cost-reducing paths (Harvey, Ladner, Lovász, Tamir 2003).
 * @returns whether a path was found
 */
function improve(loads: readonly Load[], mayTake: (load: Load, shard: number) => boolean): boolean {
  const heaviestFirst = [...loads].sort((a, b) => b.shards.size - a.shards.size);
  for (const start of heaviestFirst) {
    const cameFrom = new Map<Load, { from: Load; shard: number }>();
    const queue = [start];
    const reached: Load[] = [];
    for (let load = queue.shift(); load !== undefined; load = queue.shift()) {
      for (const target of loads) {
        if (target === start || cameFrom.has(target)) continue;
        const shard = cheapestToMove(load, target, mayTake);
        if (shard === null) continue;
        cameFrom.set(target, { from: load, shard });
        reached.push(target);
        queue.push(target);
      }
    }
    const end = leastLoaded(reached);
    if (end === undefined || start.shards.size - end.shards.size < 2) continue;
    for (let load = end; load !== start; ) {
      const { from, shard } = cameFrom.get(load)!;
      from.shards.delete(shard);
      load.shards.add(shard);
      load = from;
    }
    return true;
  }
  return false;
}

/** One that goes back to its holder first, then one that has no holder here, then the greatest. */
function cheapestToMove(from: Load, to: Load, mayTake: (load: Load, shard: number) => boolean): number | null {
  let best: number | null = null;
  let bestCost = Number.POSITIVE_INFINITY;
  for (const shard of from.shards) {
    if (!mayTake(to, shard)) continue;
    const cost = (from.held.has(shard) ? 2 : 0) - (to.held.has(shard) ? 1 : 0);
    if (cost < bestCost || (cost === bestCost && shard > best!)) {
      best = shard;
      bestCost = cost;
    }
  }
  return best;
}

function leastLoaded(loads: readonly Load[]): Load | undefined {
  return loads.reduce<Load | undefined>(
    (least, load) => (least === undefined || load.shards.size < least.shards.size ? load : least),
    undefined,
  );
}
