/**
 * How an owner goes on after a step has taken a worker, or a process, with it: the suspect is taken alone, so that what stands before it
 * is committed, and what stands behind it is not its victim; and after ATTEMPTS_MAX it is not run again.
 *
 *   counted by main (watchdog.ts)             -> a suspect: it is taken alone, its attempt counted before it is stepped
 *   the process died UNCLEAN_MAX times in a row at the same seq -> in doubt: nobody knows where, so everything is taken alone and
 *                                                counted before it is stepped, for as many records as one batch may have
 *   ATTEMPTS_MAX attempts                     -> a verdict: journaled, set aside in the same commit, never stepped again
 *
 * Invariants
 *   V1  A step is counted only while it runs: an attempt that is survived is taken back before its commit begins, and as long as it
 *       could not be taken back it is not counted again, nor by this process' next ownership of the shard. What remains: a process
 *       that ends, or loses the shard, while it waits for Postgres to take it back leaves one count.
 *   V2  A verdict is passed by the owner, in a commit under its token. What is counted elsewhere is a reason to look, no verdict.
 *   V3  What is taken alone gives the same effects (M1): a timer that a record would fire is fired before it, by a tick of its own.
 *   V4  Nothing below the positions is suspect, nor a timer that is gone when stream time has reached it, but in a replay: there
 *       ATTEMPTS_MAX halt the shard, since it is committed already.
 */

import type { Verdict } from "../actors/journal.ts";
import type { Rejection } from "../actors/judge.ts";
import type { Ownership, Suspect, SuspectStore } from "../actors/ports.ts";
import type { ShardModel } from "../actors/shard-model.ts";
import { type StepTarget, targetOf, targetText, verdictOf } from "../actors/step-target.ts";
import { hasCode, LockstepError } from "../errors.ts";
import { commitItems, type Item, type Standing } from "./commit.ts";
import type { ShardContext } from "./shard-context.ts";

export const ATTEMPTS_MAX = 3;
/** Three: a rolling loss of machines kills two owners in a row, and taking everything alone is some fifty times slower. */
const UNCLEAN_MAX = 3;

/** What an owner knows when it takes a shard. */
export interface Suspicion {
  readonly suspects: readonly Suspect[];
  /** The last UNCLEAN_MAX owners have ended without a release, and nothing was committed in between. */
  readonly inDoubt: boolean;
}

const NO_SUSPICION: Suspicion = { suspects: [], inDoubt: false };

/**
 * Reads what was counted for this shard, and drops what no longer matters.
 * @param options.takenOver the shard was assigned, and its last owner had not released it
 * @throws {LockstepError} REPLAY_STUCK; STORE_UNAVAILABLE, SHARD_LOST as ports.ts
 */
export async function readSuspicion(
  context: ShardContext,
  ownership: Ownership,
  options: { seq: number; takenOver: boolean },
): Promise<Suspicion> {
  const { watch, shard } = context;
  if (!watch) return NO_SUSPICION;
  const unclean = options.takenOver ? await watch.suspects.countUncleanEnd(shard, options.seq) : 0;
  const suspects = await watch.suspects.read(shard);
  const stuck = suspects.find(({ replay, attempts }) => replay && attempts >= ATTEMPTS_MAX);
  if (stuck) {
    throw new LockstepError(
      "REPLAY_STUCK",
      `Shard ${shard}: the replay has not come past ${stuck.target} in ${stuck.attempts} attempts (${stuck.code}), although it was committed once. Nothing was changed.`,
      { details: { shard, step: stuck.target, code: stuck.code, attempts: stuck.attempts } },
    );
  }
  if (unclean >= UNCLEAN_MAX) context.log.inDoubt({ seq: options.seq, ends: unclean, ownership: ownership.epoch });
  return { suspects, inDoubt: unclean >= UNCLEAN_MAX };
}

/** Of one ownership. */
export class Care {
  readonly #context: ShardContext;
  readonly #suspects: Map<string, Suspect>;
  /** Records that are still taken alone because nobody knows which one it was. */
  #doubted: number;
  /** The attempt that stands, or may stand, in Postgres and was not taken back. */
  #counted: string | null;

  /** @param options.counted what `counted` said of this shard's ownership before this one, in this thread */
  constructor(context: ShardContext, { suspects, inDoubt }: Suspicion, options: { counted: string | null }) {
    this.#context = context;
    this.#counted = options.counted;
    this.#suspects = new Map(suspects.filter(({ replay }) => !replay).map((each) => [each.target, each]));
    this.#doubted = inDoubt ? context.settings.batchRecordsMax : 0;
  }

  /** The step that was counted and not taken back. Who can ask has survived it, for it ran in this thread. */
  get counted(): string | null {
    return this.#counted;
  }

  get #store(): SuspectStore {
    return this.#context.watch!.suspects; // there is nothing to care about without it
  }

  /** Nothing of a replay that came through is suspect (V4), nor is what lies below the positions, or can be no timer any more. */
  async restored(standing: Standing, replayed: readonly Suspect[]): Promise<void> {
    if (this.#counted !== null) {
      const target = this.#counted;
      await this.#survived(standing); // V1
      this.#suspects.delete(target);
    }
    if (replayed.some(({ replay }) => replay)) await this.#store.forgetReplay(this.#context.shard);
    for (const target of this.#suspects.keys()) {
      if (!this.#isAhead(standing, targetOf(target))) await this.#forget(target);
    }
  }

  /** Why a record is not to be judged, let alone stepped; null for all others. */
  condemned(target: StepTarget): Rejection | null {
    if (this.#suspects.size === 0) return null;
    const suspect = this.#suspects.get(targetText(target));
    return suspect && suspect.attempts >= ATTEMPTS_MAX ? reasonOf(suspect, this.#context) : null;
  }

  /**
   * Commits the items, in order; what is suspect alone. That can take long, so it ends early when the shard is to be drained: what is
   * left was not taken.
   * @throws {LockstepError} as `commitItems`
   */
  async commit(standing: Standing, items: readonly Item[], signal: AbortSignal): Promise<void> {
    let left = items;
    while (left.length > 0 && !signal.aborted) {
      if (!this.#isNeeded) return commitItems(this.#context, standing, left);
      const piece = this.#first(left, standing.model);
      await this.#begin(standing, piece.target);
      await commitItems(this.#context, standing, piece.items, {
        verdicts: this.#verdicts(),
        survived: () => this.#survived(standing),
      });
      if (piece.target) await this.#committed(piece.target);
      left = left.slice(piece.taken);
      if (left.length > 0) await this.#dropGone(standing);
    }
  }

  get #isNeeded(): boolean {
    return this.#doubted > 0 || this.#suspects.size > 0;
  }

  /** The items that are committed next, how many of `left` that takes, and what is stepped alone. */
  #first(
    left: readonly Item[],
    model: ShardModel,
  ): { items: readonly Item[]; taken: number; target: StepTarget | null } {
    const item = left[0]!; // there is one: the caller asks only then
    const timers = this.#doubted > 0 || [...this.#suspects.keys()].some((target) => targetOf(target).kind === "timer");
    if (timers) {
      const due = model.nextDue;
      const untilMs = item.kind === "tick" ? item.streamTimeMs : Math.max(item.judged.timeMs, model.streamTimeMs);
      const fires = item.kind === "tick" || item.judged.event !== null;
      if (fires && due !== null && due.dueMs <= untilMs) {
        const tick: Item = { kind: "tick", streamTimeMs: due.dueMs, timersMax: 1 };
        return { items: [tick], taken: 0, target: { ...due, kind: "timer" } }; // V3
      }
    }
    if (item.kind === "tick") return { items: [item], taken: 1, target: null };
    const alone = left.findIndex((each) => each.kind === "tick" || this.#isSuspect(each.judged.record));
    if (this.#doubted === 0 && !timers && alone !== 0) {
      const taken = alone < 0 ? left.length : alone;
      return { items: left.slice(0, taken), taken, target: null };
    }
    const { topic, offset } = item.judged.record;
    return { items: [item], taken: 1, target: { kind: "record", topic, offset } };
  }

  #isSuspect({ topic, offset }: { topic: string; offset: bigint }): boolean {
    return this.#suspects.has(targetText({ kind: "record", topic, offset }));
  }

  async #begin({ ownership, seq }: Standing, target: StepTarget | null): Promise<void> {
    if (target === null) return;
    const text = targetText(target);
    const suspect = this.#suspects.get(text);
    if (suspect ? suspect.attempts >= ATTEMPTS_MAX : this.#doubted === 0) return;
    if (this.#counted !== text) await this.#count({ ownership, seq }, text); // V1
    this.#context.watch!.steps.counted(true);
  }

  async #count({ ownership, seq }: Pick<Standing, "ownership" | "seq">, target: string): Promise<void> {
    this.#counted = target;
    try {
      await this.#store.begin(ownership, { seq, target });
    } catch (error) {
      if (hasCode(error, "STORE_UNAVAILABLE")) this.#counted = null; // else it may stand
      throw error;
    }
  }

  async #survived({ ownership, seq }: Standing): Promise<void> {
    if (this.#counted === null) return;
    this.#context.watch!.steps.counted(false);
    await this.#store.survived(ownership, { seq, target: this.#counted }); // V1
    this.#counted = null;
  }

  async #committed(target: StepTarget): Promise<void> {
    if (target.kind === "record" && this.#doubted > 0) this.#doubted -= 1;
    const text = targetText(target);
    if (this.#suspects.has(text)) await this.#forget(text);
  }

  #verdicts(): Verdict[] {
    return [...this.#suspects.values()]
      .filter(({ attempts }) => attempts >= ATTEMPTS_MAX)
      .map((suspect) => verdictOf(targetOf(suspect.target), reasonOf(suspect, this.#context)));
  }

  async #dropGone(standing: Standing): Promise<void> {
    for (const text of this.#suspects.keys()) {
      const target = targetOf(text);
      if (target.kind === "timer" && !this.#isAhead(standing, target)) await this.#forget(text);
    }
  }

  #isAhead({ positions, model }: Standing, target: StepTarget): boolean {
    // One that is not there may be armed by a record that is taken again, in the batch in which it was due.
    if (target.kind === "timer") return model.hasTimer(target) || model.streamTimeMs < target.dueMs;
    const position = positions[target.topic];
    return position !== undefined && target.offset >= position;
  }

  async #forget(target: string): Promise<void> {
    this.#suspects.delete(target);
    await this.#store.forget(this.#context.shard, target);
  }
}

/** The text is journaled, so it need not be the same in a replay; it should say what a person can do. */
function reasonOf({ code, attempts }: Suspect, { settings }: ShardContext): Rejection {
  const why: Record<string, string> = {
    STEP_TIMEOUT: `ran for longer than ${settings.stepMsMax} ms`,
    STEP_OUT_OF_MEMORY: "ran out of memory",
    STEP_CRASHED: "ended the worker or the process that ran it",
  };
  return { code, message: `The step ${why[code] ?? "did not come to its end"}, in ${attempts} attempts.` };
}
