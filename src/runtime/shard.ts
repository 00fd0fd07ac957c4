/**
 * One shard in the hands of one worker, from assignment to release.
 *
 *   idle -> acquiring -> restoring -> running -> draining -> released
 *             ^  ^          |            |
 *             |  +-- again -+------------+     outcome unknown, or fenced while the token is ours
 *             +----- lost --+------------+     after two heartbeats or joins answered since
 *                    halted <-- any of them    until it is revoked
 *
 * Only `#enter` changes the state, and it asserts the transition.
 *
 * Invariants
 *   H1  After `revoke()` resolves nothing of this shard is written any more.
 *   H2  A lost shard drops its queues, actors and producer, and is acquired again only after the coordinator has answered
 *       twice since (a heartbeat under way when it was lost proves nothing), with back-off.
 *   H3  After a drain k = P = c = S.
 */
import { judge, judgedBefore } from "../actors/judge.ts";
import type { FetchSink } from "../actors/ports.ts";
import { InputQueues } from "../actors/take.ts";
import { aborted } from "../clock.ts";
import { assert, hasCode, isLockstepError, LockstepError } from "../errors.ts";
import { type Acquired, type AcquireMode, acquire } from "./acquire.ts";
import { Care, readSuspicion } from "./care.ts";
import type { Standing } from "./commit.ts";
import { type Memory, passOn, restore } from "./restore.ts";
import { createWake, type RunLoop, runLoop, type Wake } from "./run-loop.ts";
import { inputTopics, type ShardContext } from "./shard-context.ts";
import { Snapshotter } from "./snapshotter.ts";
import { decideAcquired, decideLeaving } from "./undecided.ts";

const BACKOFF_MS_MIN = 50;
const BACKOFF_MS_MAX = 5_000;
/** Who has run for so long starts from the shortest back-off again. */
const STEADY_MS = 10_000;

export type ShardState = "idle" | "acquiring" | "restoring" | "running" | "draining" | "lost" | "halted" | "released";

const TRANSITIONS: Readonly<Record<ShardState, readonly ShardState[]>> = {
  idle: ["acquiring", "released"],
  acquiring: ["acquiring", "restoring", "lost", "halted", "released"],
  restoring: ["running", "acquiring", "lost", "halted", "released"],
  running: ["draining", "acquiring", "lost", "halted", "released"],
  draining: ["released", "halted"],
  lost: ["acquiring", "released"],
  halted: ["released"],
  released: [],
};

export interface ShardOptions {
  readonly context: ShardContext;
  /** Heartbeats and joins that the coordinator has answered so far. */
  readonly answered: () => number;
}

export class Shard {
  readonly #context: ShardContext;
  readonly #answered: () => number;
  readonly #abort = new AbortController();
  readonly #wake: Wake;
  readonly #life: Promise<boolean>;
  #state: ShardState = "idle";
  #memory: Memory | null = null;
  #broken: LockstepError | null = null;
  #runningSinceMs: number | null = null;
  /** An F1 of ours stands in the row, and was neither released nor replaced. */
  #owing = false;
  /** The step that the ownership before this one counted and did not take back: care.ts. */
  #counted: string | null = null;
  #why = "";

  constructor({ context, answered }: ShardOptions) {
    this.#context = context;
    this.#answered = answered;
    this.#wake = createWake(context.clock);
    this.#life = this.#live().catch(async (error: unknown) => {
      this.#state = "halted";
      context.meter.entered("halted");
      context.log.halted(asLockstep(error));
      await aborted(this.#abort.signal);
      this.#enter("released");
      return false;
    });
  }

  get state(): ShardState {
    return this.#state;
  }

  /**
   * Drains, leaves a snapshot and gives the shard up. Never rejects.
   * @returns true when nothing of ours was left to be taken over: drained, never held, or another owner's
   */
  async revoke(why: string): Promise<boolean> {
    this.#why ||= why;
    this.#abort.abort();
    this.#wake.ring();
    return this.#life;
  }

  async #live(): Promise<boolean> {
    let mode: AcquireMode = { kind: "assigned" };
    let backoffMs = BACKOFF_MS_MIN;
    let why = "assigned";
    while (!this.#abort.signal.aborted) {
      let acquired: Acquired | null = null;
      try {
        this.#enter("acquiring");
        this.#context.log.acquiring(why);
        const assigned = mode.kind === "assigned";
        acquired = await acquire(this.#context, mode, {
          signal: this.#abort.signal,
          onToken: (token, replaced) => {
            mode = { kind: "again", token };
            this.#owing = true;
            this.#memory = passOn(this.#memory, { replaced, token });
          },
        });
        if (acquired) {
          if (await this.#hold(acquired, assigned && isOfAnotherProcess(acquired.before.owner, this.#context.owner)))
            this.#owing = false;
          break;
        }
        if (this.#abort.signal.aborted) break;
        await this.#lose(null, backoffMs);
        mode = { kind: "assigned" };
        why = "assigned still, after it was lost";
      } catch (error) {
        await this.#close(acquired); // before any wait: a lost or halted shard holds no producer
        if (this.#abort.signal.aborted && acquired === null) break;
        if (this.#ranMs() > STEADY_MS) backoffMs = BACKOFF_MS_MIN;
        this.#runningSinceMs = null;
        const next = await this.#afterError(error, mode, backoffMs);
        if (next === null) break;
        mode = next;
        why = isLockstepError(error) ? error.code : String(error);
      } finally {
        await this.#close(acquired);
      }
      backoffMs = Math.min(backoffMs * 2, BACKOFF_MS_MAX);
    }
    await decideLeaving(this.#context);
    if (this.#state !== "released") this.#enter("released");
    return !this.#owing;
  }

  /** Idempotent. */
  async #close(acquired: Acquired | null): Promise<void> {
    await acquired?.writer.close().catch((error: unknown) => this.#context.log.notClosed(error));
  }

  /** What an error means for the shard. @returns how to acquire next, or null when the life ends */
  async #afterError(error: unknown, mode: AcquireMode, backoffMs: number): Promise<AcquireMode | null> {
    const { log, clock } = this.#context;
    const failure = asLockstep(error);
    switch (failure.remedy) {
      case "surrender":
        await this.#lose(failure, backoffMs);
        return { kind: "assigned" };
      case "restore":
        if (failure.details["fenced"] === true) log.fenced(failure);
        else log.restoring(failure);
        // At once the first time; with back-off when it comes again and again.
        if (backoffMs > BACKOFF_MS_MIN) await clock.sleep(backoffMs, this.#abort.signal);
        return mode;
      case "retry":
        log.retrying(failure, backoffMs);
        await clock.sleep(backoffMs, this.#abort.signal);
        return mode;
      default: {
        const isOurs = mode.kind === "again" ? await this.#stillOurs(mode.token) : true;
        if (isOurs === false) {
          await this.#lose(failure, backoffMs);
          return { kind: "assigned" };
        }
        if (isOurs === null) {
          log.notDrained(failure);
          return null;
        }
        this.#memory = null;
        this.#enter("halted");
        log.halted(failure);
        await aborted(this.#abort.signal);
        return null;
      }
    }
  }

  /**
   * Before any halt, also of a shard that is being revoked: what looks wrong to an owner that was replaced meanwhile is not wrong.
   * @returns null when the shard is revoked and Postgres does not say whose it is
   */
  async #stillOurs(token: string): Promise<boolean | null> {
    let retryMs = BACKOFF_MS_MIN;
    do {
      try {
        return (await this.#context.store.readShard(this.#context.shard)).token === token;
      } catch (error) {
        if (!isLockstepError(error) || error.remedy !== "retry") throw error;
        this.#context.log.retrying(error, retryMs);
        await this.#context.clock.sleep(retryMs, this.#abort.signal);
        retryMs = Math.min(retryMs * 2, BACKOFF_MS_MAX);
      }
    } while (!this.#abort.signal.aborted);
    return null;
  }

  /** How long the shard has been running, ms; 0 when it is not. */
  #ranMs(): number {
    return this.#runningSinceMs === null ? 0 : this.#context.clock.monotonicMs() - this.#runningSinceMs;
  }

  async #lose(error: LockstepError | null, backoffMs: number): Promise<void> {
    this.#memory = null;
    this.#counted = null;
    this.#owing = false;
    this.#enter("lost");
    this.#context.log.lost(error);
    const answered = this.#answered();
    await this.#context.clock.sleep(backoffMs, this.#abort.signal);
    while (!this.#abort.signal.aborted && this.#answered() < answered + 2)
      await this.#context.clock.sleep(50, this.#abort.signal); // H2
  }

  /**
   * Restore, run, drain. Every end but a release is an error.
   * @param takenOver the shard was assigned, and its owner before, of another process, had not released it
   * @returns whether all was drained
   */
  async #hold(acquired: Acquired, takenOver: boolean): Promise<boolean> {
    const context = this.#context;
    const { log, meter, fetcher, shard, clock } = context;
    const startMs = clock.monotonicMs();
    this.#enter("restoring");
    meter.acquired(acquired.ownership.epoch, acquired.row);
    this.#runningSinceMs = null;
    const { row, ownership, writer } = acquired;
    await decideAcquired(context);
    const suspicion = await readSuspicion(context, ownership, { seq: row.seq, takenOver });
    const restored = await restore(context, acquired, this.#memory, this.#abort.signal);
    this.#memory = null;
    const standing: Standing | null = restored && {
      ownership,
      writer,
      model: restored.model,
      seq: row.seq,
      confirmed: row.seq, // reconcile left Kafka with all of it
      confirmedStored: row.confirmed,
      positions: row.positions,
      pending: false,
    };
    if (!restored || !standing) {
      await context.store.release(ownership, row.seq);
      return true;
    }
    const care = new Care(context, suspicion, { counted: this.#counted });
    await care.restored(standing, suspicion.suspects);
    this.#counted = null;
    await context.hook("acquire.done");
    const queues = new InputQueues({
      topics: inputTopics(context),
      inputWaitMsMax: context.settings.inputWaitMsMax,
      recordsHigh: context.settings.queueRecordsHigh,
      bytesHigh: () => context.queueBudget.share,
    });
    const closeQueues = context.queueBudget.open(inputTopics(context).length);
    const snapshotter = new Snapshotter(context, {
      seq: row.snapshotSeq,
      rowSeq: row.seq,
      wasReplayed: !restored.reused && restored.snapshotSeq < row.seq,
    });
    this.#broken = null;
    fetcher.open(shard, standing.positions, this.#sink(queues, care));
    this.#enter("running");
    meter.running({ standing, queues, snapshotter });
    log.running({
      epoch: ownership.epoch,
      seq: row.seq,
      replayed: restored.replayed,
      reused: restored.reused,
      ms: Math.round(clock.monotonicMs() - startMs),
    });
    this.#runningSinceMs = clock.monotonicMs();
    const loop: RunLoop = {
      queues,
      wake: this.#wake,
      signal: this.#abort.signal,
      snapshotter,
      care,
      broken: () => this.#broken,
    };
    try {
      await runLoop(context, standing, loop);
    } catch (error) {
      // The memory outlives an outcome that is not known: acquire tells whether it is still the row's.
      if (isLockstepError(error) && error.remedy === "restore") {
        this.#memory = { model: standing.model, token: ownership.token, seq: standing.seq, pending: standing.pending };
      }
      throw error;
    } finally {
      this.#counted = care.counted;
      fetcher.close(shard);
      queues.clear();
      closeQueues();
      await snapshotter.settle();
    }
    return this.#drain(standing, snapshotter);
  }

  async #drain(standing: Standing, snapshotter: Snapshotter): Promise<boolean> {
    const { log, store, hook } = this.#context;
    this.#enter("draining");
    log.draining(this.#why);
    try {
      await hook("release.start");
      await snapshotter.finish(standing);
      if (standing.confirmedStored < standing.confirmed)
        await store.confirm(standing.ownership, standing.seq, standing.confirmed);
      assert(
        snapshotter.seq === standing.seq && standing.confirmed === standing.seq,
        `after a drain k = P = c = S, but S = ${snapshotter.seq}, c = ${standing.confirmed}, P = ${standing.seq}`,
        "DRAIN_INCOMPLETE",
      );
      await hook("release.drained");
      await store.release(standing.ownership, standing.seq);
      await hook("release.done");
      log.released({ seq: standing.seq, drained: true });
      return true;
    } catch (error) {
      // Not drained is safe: the next owner waits handoverMs, replays the journal and publishes what is missing.
      if (hasCode(error, "SHARD_LOST")) log.lost(error as LockstepError);
      else log.notDrained(asLockstep(error));
      log.released({ seq: standing.seq, drained: false });
      return hasCode(error, "SHARD_LOST");
    }
  }

  #sink(queues: InputQueues, care: Care): FetchSink {
    const { app, meter, shard, fetcher, watch } = this.#context;
    const definitions = new Map(app.inputs.map((definition) => [definition.topic, definition]));
    return {
      onFetched: ({ topic, records, ...answer }) => {
        const definition = definitions.get(topic)!;
        const { lastStableOffset: high, logStartOffset: low, answeredAtMs: atMs } = answer;
        meter.fetched(topic, { high, low, atMs });
        try {
          queues.enqueue(
            topic,
            records.map((record) => {
              const verdict = care.condemned({ ...record, kind: "record" });
              return verdict ? judgedBefore(definition, record, verdict) : judge(app, definition, record, watch?.steps);
            }),
            answer,
          );
          if (queues.pausable(topic)) fetcher.pause(shard, topic);
        } catch (error) {
          this.#broken = asLockstep(error); // a batch that was not queued whole must not be passed over
        }
        this.#wake.ring();
      },
      onOutOfRange: (topic, position) => {
        const message = `Shard ${shard}: offset ${position} of ${topic}, the next to take, is outside the log.`;
        const details = { shard, topic, position: String(position) };
        this.#broken = new LockstepError("INPUT_OUT_OF_RANGE", message, { details });
        this.#wake.ring();
      },
      onUnreadable: (topic, cause) => {
        const message = `Shard ${shard}: ${topic} cannot be read: ${cause.message}`;
        this.#broken = new LockstepError("INPUT_UNREADABLE", message, { details: { shard, topic }, cause });
        this.#wake.ring();
      },
    };
  }

  #enter(next: ShardState): void {
    assert(
      TRANSITIONS[this.#state].includes(next),
      `shard ${this.#context.shard} cannot go from ${this.#state} to ${next}`,
    );
    this.#state = next;
    this.#context.meter.entered(next);
  }
}

function asLockstep(error: unknown): LockstepError {
  if (isLockstepError(error)) return error;
  return new LockstepError(
    "INVARIANT_BROKEN",
    `An error that nobody expected: ${error instanceof Error ? error.message : String(error)}`,
    { cause: error },
  );
}

/** Owners are `host/pid/worker`: one of this very process has not died, whatever became of its shard. */
function isOfAnotherProcess(before: string | null, own: string): boolean {
  const processOf = (owner: string) => owner.slice(0, owner.lastIndexOf("/"));
  return before !== null && processOf(before) !== processOf(own);
}
