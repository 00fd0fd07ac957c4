/**
 * Series per actor, in the main thread. Actors are many, so only the first `max` that the process meets have series of their own;
 * all others of a type are counted together under OTHER_KEY.
 *
 * Invariants
 *   AS1  At most `max` actors are shown, of shards that some worker here holds; the place of one whose shards went is free again.
 *   AS2  A total is never shown lower than before: that of an actor whose shard went is kept for its return, up to `max` of them.
 */
import { OTHER_KEY } from "./metrics-list.ts";
import type { Sample } from "./totals.ts";

/** What actors of one shard did since the report before. Numbers of one actor come in one entry. */
export interface ActorActivity {
  readonly shard: number;
  readonly actorType: string;
  readonly key: string;
  readonly stepped: number;
  readonly threw: number;
  readonly emitted: number;
  /** Greatest event time, ms. */
  readonly lastMs: number;
}

interface ActorTotal {
  readonly actorType: string;
  readonly key: string;
  readonly shards: Set<number>;
  stepped: number;
  threw: number;
  emitted: number;
  lastMs: number;
}

export class ActorSeries {
  readonly #max: number;
  readonly #shown = new Map<string, ActorTotal>();
  readonly #others = new Map<string, ActorTotal>();
  /** Of actors whose shards went, the latest to go last. */
  readonly #kept = new Map<string, ActorTotal>();

  constructor(max: number) {
    this.#max = max;
  }

  accept(activities: readonly ActorActivity[]): void {
    for (const activity of activities) add(this.#totalOf(activity), activity);
  }

  /** Shards that some worker here holds now: those of all others are gone. */
  holding(shards: ReadonlySet<number>): void {
    for (const [id, total] of this.#shown) {
      if ([...total.shards].some((shard) => shards.has(shard))) continue;
      this.#shown.delete(id);
      total.shards.clear();
      this.#kept.set(id, total);
      if (this.#kept.size > this.#max) this.#kept.delete(this.#kept.keys().next().value!);
    }
  }

  samples(of: "events" | "emitted" | "lastMs"): Sample[] {
    return [...this.#shown.values(), ...this.#others.values()].flatMap((total) => {
      const labels = { actor_type: total.actorType, key: total.key };
      if (of === "emitted") return total.emitted > 0 ? [sample(labels, total.emitted)] : [];
      if (of === "lastMs") return total.lastMs >= 0 ? [sample(labels, total.lastMs / 1000)] : [];
      return (["stepped", "threw"] as const)
        .filter((result) => total[result] > 0)
        .map((result) => sample({ ...labels, result }, total[result]));
    });
  }

  #totalOf({ actorType, key, shard }: ActorActivity): ActorTotal {
    const id = `${actorType}\0${key}`;
    let total = this.#shown.get(id);
    if (!total && key !== OTHER_KEY && this.#shown.size < this.#max) {
      total = this.#kept.get(id) ?? emptyTotal(actorType, key);
      this.#kept.delete(id);
      this.#shown.set(id, total);
    }
    if (total) {
      total.shards.add(shard);
      return total;
    }
    const other = this.#others.get(actorType) ?? emptyTotal(actorType, OTHER_KEY);
    this.#others.set(actorType, other);
    return other;
  }
}

function emptyTotal(actorType: string, key: string): ActorTotal {
  return { actorType, key, shards: new Set(), stepped: 0, threw: 0, emitted: 0, lastMs: -1 };
}

function add(total: ActorTotal, { stepped, threw, emitted, lastMs }: ActorActivity): void {
  total.stepped += stepped;
  total.threw += threw;
  total.emitted += emitted;
  total.lastMs = Math.max(total.lastMs, lastMs);
}

function sample(labels: Record<string, string>, value: number): Sample {
  return { suffix: "", labels, value };
}
