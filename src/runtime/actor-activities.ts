/**
 * What the actors of one shard did since the last report. The first actors that a worker meets are told apart, as many as its
 * budget has; what the others did is added up per actor type under OTHER_KEY, so that a report stays small.
 */
import type { FoldNotes, StepNote } from "../actors/notes.ts";
import type { ActorActivity } from "../telemetry/actor-series.ts";
import { OTHER_KEY } from "../telemetry/metrics-list.ts";

/** Actors that one worker tells apart, over all its shards. */
export interface ActorBudget {
  left: number;
}

type Activity = { -readonly [K in keyof ActorActivity]: ActorActivity[K] };

export class ActorActivities {
  readonly #shard: number;
  readonly #budget: ActorBudget;
  /** By actor type, then key. */
  readonly #byType = new Map<string, Map<string, Activity>>();
  /** Taken from the budget. */
  #told = 0;

  constructor(shard: number, budget: ActorBudget) {
    this.#shard = shard;
    this.#budget = budget;
  }

  add({ steps, threw }: Pick<FoldNotes, "steps" | "threw">): void {
    for (const note of steps) {
      const activity = this.#of(note);
      activity.stepped += 1;
      activity.emitted += note.emitted;
      if (note.timeMs > activity.lastMs) activity.lastMs = note.timeMs;
    }
    for (const note of threw) this.#of(note).threw += 1;
  }

  /** Those that did something since the last call. */
  take(): ActorActivity[] {
    const taken: ActorActivity[] = [];
    for (const byKey of this.#byType.values()) {
      for (const activity of byKey.values()) {
        if (activity.stepped === 0 && activity.threw === 0) continue;
        taken.push({ ...activity });
        Object.assign(activity, { stepped: 0, threw: 0, emitted: 0 });
      }
    }
    return taken;
  }

  /** The shard is gone: its actors' places are others'. */
  forget(): void {
    this.#byType.clear();
    this.#budget.left += this.#told;
    this.#told = 0;
  }

  #of({ actorType, key }: StepNote): Activity {
    let byKey = this.#byType.get(actorType);
    if (!byKey) {
      byKey = new Map();
      this.#byType.set(actorType, byKey);
    }
    const found = byKey.get(key);
    if (found) return found;
    if (this.#budget.left <= 0) return byKey.get(OTHER_KEY) ?? this.#open(byKey, actorType, OTHER_KEY);
    this.#budget.left -= 1;
    this.#told += 1;
    return this.#open(byKey, actorType, key);
  }

  #open(byKey: Map<string, Activity>, actorType: string, key: string): Activity {
    const activity = { shard: this.#shard, actorType, key, stepped: 0, threw: 0, emitted: 0, lastMs: -1 };
    byKey.set(key, activity);
    return activity;
  }
}
