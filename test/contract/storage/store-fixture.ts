/**
 * What the contract of ShardStore needs of whoever implements it: an instance of many shards, a table `app.orders` with `id` as
 * its key, and a look at what was written.
 */
import { randomUUID } from "node:crypto";

import type { RowEffect } from "../../../src/actors/effects.ts";
import type { CommitRequest, Ownership, ShardStore } from "../../../src/actors/ports.ts";

export interface StoreFixture {
  readonly store: ShardStore;
  /** A store with connections of its own, and fail-points. */
  storeWith(hook: (point: string) => void | Promise<void>): ShardStore;
  /** A shard that no other test uses, owned, with its start fixed. */
  freshShard(): Promise<Ownership>;
  nextShard(): number;
  /** Everything that a commit could have written of this shard, and the app's orders. */
  written(shard: number): Promise<{ seq: number; journal: number[]; redo: number[]; orders: number }>;
  /** Seqs of the snapshots that stand in the tables, and of those that have pieces. */
  kept(shard: number): Promise<{ snapshots: number[]; pieces: number[] }>;
  /** Makes the journal of a shard older. */
  ageJournal(shard: number, ms: number): Promise<void>;
  close(): Promise<void>;
}

export async function take(store: ShardStore, shard: number, owner = "host/1/1"): Promise<Ownership> {
  const token = randomUUID();
  const taken = await store.acquire({
    shard,
    owner,
    token,
    expectedToken: null,
    transactionalId: `trial-main-${shard}`,
  });
  return taken!.ownership;
}

/** A commit of one record of input `a`, with an order of its shard. */
export function commitOf(ownership: Ownership, seq: number, change: Partial<CommitRequest> = {}): CommitRequest {
  return {
    ownership,
    seq,
    positions: { a: BigInt(seq), b: 0n },
    streamTimeMs: 1_000 * seq,
    code: "code-1",
    journal: {
      entries: [{ kind: "run", topic: "a", first: BigInt(seq - 1), next: BigInt(seq), count: 1, crc: 4_294_967_295 }],
      verdicts: [],
    },
    taken: 1,
    digest: `digest-${seq}`,
    redo: Buffer.from([seq, 0, 255]),
    rows: [order(ownership.shard)],
    ids: new Set(),
    confirmed: 0,
    ...change,
  };
}

export function order(shard: number, change: Record<string, unknown> = {}): RowEffect {
  return { table: "app.orders", row: { id: randomUUID(), qty: "1.5", note: `shard ${shard}`, ...change }, origin: 0 };
}
