/**
 * The fold of one shard: records and ticks in, effects out. Pure: no I/O, no clock, no chance.
 *
 *   idle -- begin() --> open -- takeRecord(), takeTick(), finish(), in any order and number --> open
 *   open -- accept() --> idle     the batch is kept
 *   open -- discard() --> idle    the batch is taken back, whole
 *
 * A record, and each timer, is a unit: it takes effect whole or not at all. One that cannot is set aside with its cause, as
 * a dead letter of the same batch, and the next goes on.
 *
 * Invariants
 *   M1  Where a batch is cut changes nothing: neither states nor effects, nor their ids and bytes.
 *   M2  Stream time never falls, and no timer is passed by without having fired: a tick stops at the last one it fired.
 *   M3  discard() gives back exactly the state of begin().
 *   M4  Every record taken is counted once in `taken`, and is either stepped, dropped, late or quarantined.
 *   M5  An error that is not the unit's own fault (a bug of ours) is thrown, and nothing is set aside for it.
 *
 * Order of effects and time: docs/protocol.md, "One shard's life".
 */
import { assert, isLockstepError, LockstepError } from "../errors.ts";
import { type Batch, dependsOnSettings, effectsOf, emptyBatch, markOutput, openUnit, type Unit } from "./batch.ts";
import { withoutChance } from "./chance.ts";
import { deadLetter, lateRecord, originOf, type SetAside, timerDeadLetter, timerOrigin } from "./dead-letters.ts";
import { actorKey, type Delivery, type Emitter, isOf, type TimerVerdict } from "./delivery.ts";
import type { CommitEffects } from "./effects.ts";
import type { Judged, Rejection } from "./judge.ts";
import type { HostEffect, MachineEvent } from "./machine-host.ts";
import type { ModelOptions } from "./model-options.ts";
import type { SetAsideNote } from "./notes.ts";
import { EventMeta, outputBytes, outputsOf, type RouteContext } from "./routes.ts";
import { type ActorKind, ShardState } from "./shard-state.ts";
import type { SnapshotCapture } from "./snapshot-codec.ts";
import type { Timer } from "./timers.ts";

export type { TimerVerdict } from "./delivery.ts";
export type { ModelOptions } from "./model-options.ts";
export type { SnapshotCapture } from "./snapshot-codec.ts";

export class ShardModel {
  readonly #options: ModelOptions;
  readonly #state: ShardState;
  readonly #routes: RouteContext;
  /** Per input event, the actor types that take it, in order of definition. */
  readonly #takers: ReadonlyMap<string, readonly ActorKind[]>;
  /** Output of the open batch; null while idle. */
  #batch: Batch | null = null;
  /** The unit that is run now. */
  #stepping: Unit["origin"] | null = null;

  constructor(options: ModelOptions, state: ShardState = new ShardState(options)) {
    const { app, limits } = options;
    const kinds = [...state.kinds.values()];
    this.#options = options;
    this.#state = state;
    this.#takers = new Map(app.inputs.map(({ event }) => [event, kinds.filter(({ on }) => Object.hasOwn(on, event))]));
    this.#routes = {
      app,
      partitionsOf: (topic) => options.partitionsOf(topic),
      outputBytesMax: (topic) => limits.outputBytesMax(topic),
      effectBytesMax: (topic) => (limits.effectBytesMax ?? limits.outputBytesMax)(topic),
    };
  }

  /**
   * @param fromVersion version of the app that made the snapshot; an actor type's `migrate` brings an older one up to date
   * @throws {LockstepError} SNAPSHOT_BROKEN it cannot be read; CODE_CHANGED a newer version made it, or this one cannot take it over
   */
  static restore(options: ModelOptions, pieces: readonly Buffer[], fromVersion: number): ShardModel {
    return new ShardModel(options, ShardState.restore(options, pieces, fromVersion));
  }

  /** The greatest event time accepted, or reached by a tick; 0 before the first. */
  get streamTimeMs(): number {
    return this.#state.streamTimeMs;
  }

  /** When the next timer is due, in stream time. */
  get nextDueMs(): number | null {
    return this.nextDue?.dueMs ?? null;
  }

  /** The timer that fires next. */
  get nextDue(): Timer | null {
    return this.#state.timers.peekDue();
  }

  hasTimer(timer: Omit<Timer, "event">): boolean {
    return this.#state.timers.get(timer)?.dueMs === timer.dueMs;
  }

  get actorCount(): number {
    return this.#state.actorCount;
  }

  /** Actors that have state, by type. */
  get actorCounts(): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.#state.kinds.values()].map(({ type, actors }) => [type, actors.size]));
  }

  get timerCount(): number {
    return this.#state.timers.size;
  }

  /** Counters since the shard began, the open batch included. */
  get counters(): Readonly<Record<string, number>> {
    return this.#state.counters;
  }

  /**
   * The most records of one input, or timers, that could not be taken in a row, the last of them in the open batch; 0: it refused none.
   * What came before the batch is part of the state: a replay gives the same.
   */
  get refusedRun(): number {
    return this.#open().refusedRun;
  }

  /** Bytes that the open batch publishes so far, as Kafka counts them at most. */
  get outputBytes(): number {
    return this.#open().bytes;
  }

  /** Records that the open batch publishes so far. */
  get outputRecords(): number {
    return this.#open().publishes.length;
  }

  begin(): void {
    assert(this.#batch === null, "a batch was begun while another was open");
    this.#batch = emptyBatch(this.counters);
  }

  /**
   * Takes one record.
   * @param verdict       it is not stepped, and set aside with this cause
   * @param timerVerdicts of timers that it may fire on its way, when it is replayed
   */
  takeRecord(judged: Judged, verdict?: Rejection, timerVerdicts: readonly TimerVerdict[] = []): void {
    const batch = this.#open();
    const { record } = judged;
    this.#state.count("taken");
    if (this.#state.seenBefore(judged)) {
      this.#state.count("dropped");
      batch.notes.dropped.push(record.topic);
      return;
    }
    const unit = openUnit(batch, originOf(record), judged.timeMs);
    const given = verdict ?? judged.rejection;
    const cause = given ?? this.#attempt(unit, () => this.#process(judged, unit, timerVerdicts));
    this.#noteOutcome(record.topic, cause);
    if (!cause) return;
    const { topic, offset } = record;
    const ofSettings = !given && dependsOnSettings(cause);
    if (ofSettings) batch.verdicts.push({ kind: "record", topic, offset, ...cause });
    const note = { kind: "record", topic, code: cause.code, verdict: verdict !== undefined || ofSettings } as const;
    this.#setAside(deadLetter(this.#routes, record, cause), { unit, note });
  }

  /**
   * Moves stream time on, firing the timers that become due, at most `timersMax`.
   * @returns what is journaled: the stream time reached, which is the due time of the last timer fired where more are due,
   *   and the number of timers fired
   */
  takeTick(
    streamTimeMs: number,
    options: { readonly timersMax?: number; readonly verdicts?: readonly TimerVerdict[] } = {},
  ): { streamTimeMs: number; timers: number } {
    const { timersMax = this.#options.limits.timersPerCommit, verdicts = [] } = options;
    this.#open();
    const timers = this.#fireDue(streamTimeMs, { timersMax, verdicts });
    const due = this.nextDueMs;
    if (due === null || due > streamTimeMs) this.#state.moveStreamTime(streamTimeMs);
    return { streamTimeMs: this.streamTimeMs, timers };
  }

  /** The output of the batch so far. The batch stays open, and undoable. */
  finish(): CommitEffects {
    this.#state.undo.shorten();
    return effectsOf(this.#open(), this.counters);
  }

  discard(): void {
    this.#open();
    this.#state.undo.rollback(0);
    this.#batch = null;
  }

  accept(): void {
    this.#open();
    this.#state.undo.forget();
    this.#batch = null;
  }

  /** The state of this moment, by reference; what it holds is never changed in place. Not inside a batch. */
  capture(): SnapshotCapture {
    assert(this.#batch === null, "a snapshot was taken inside a batch");
    return this.#state.capture();
  }

  #open(): Batch {
    assert(this.#batch !== null, "no batch is open");
    return this.#batch;
  }

  // --------------------------------------------------------------------------------------------------------------- units

  /** Does all of a unit, or none of it. @returns why it must be set aside, or null */
  #attempt({ origin }: Unit, act: () => void): Rejection | null {
    const { watch } = this.#options;
    const outer = this.#stepping;
    this.#stepping = origin;
    watch?.begin(origin);
    const undone = this.#state.undo.mark();
    const takeBack = markOutput(this.#open());
    try {
      if (this.#options.strict) withoutChance(act);
      else act();
      return null;
    } catch (error) {
      if (!isLockstepError(error) || error.remedy !== "quarantine") throw error; // M5
      this.#state.undo.rollback(undone);
      takeBack();
      return { code: error.code, message: error.message };
    } finally {
      this.#stepping = outer; // a timer that a record has fired on its way
      if (outer) watch?.begin(outer);
      else watch?.end();
    }
  }

  #process({ record, event, timeMs }: Judged, unit: Unit, verdicts: readonly TimerVerdict[]): void {
    assert(event !== null, "a rejected record was stepped");
    const state = this.#state;
    const { notes } = this.#open();
    const { late } = this.#options.app;
    if (late && timeMs < state.streamTimeMs - late.allowedMs) {
      const byMs = state.streamTimeMs - timeMs;
      state.count("late");
      notes.late.push(record.topic);
      if (late.topic) this.#publish(lateRecord(this.#routes, record, { topic: late.topic, byMs }), unit);
      return;
    }
    // Timers that a tick left behind, at the very stream time it reached, fire now too.
    const untilMs = Math.max(timeMs, state.streamTimeMs);
    this.#fireDue(untilMs, { timersMax: Number.POSITIVE_INFINITY, verdicts });
    state.moveStreamTime(timeMs);
    const takers = this.#takers.get(event.type) ?? [];
    this.#deliver(
      takers.map((kind) => ({ kind, key: actorKey(kind, event), event })),
      unit,
    );
    notes.stepped += 1;
  }

  /** @returns how many it fired */
  #fireDue(untilMs: number, options: { timersMax: number; verdicts: readonly TimerVerdict[] }): number {
    let fired = 0;
    while (fired < options.timersMax) {
      const timer = this.#state.timers.peekDue();
      if (timer === null || timer.dueMs > untilMs) break;
      this.#fire(
        timer,
        options.verdicts.find((verdict) => isOf(verdict, timer)),
      );
      fired += 1;
    }
    return fired;
  }

  #fire(timer: Timer, verdict: TimerVerdict | undefined): void {
    const { actorType, key, timerId, dueMs, event } = timer;
    const { timers, kinds } = this.#state;
    timers.cancel(timer);
    this.#state.moveStreamTime(dueMs);
    this.#state.count("timersFired");
    const unit = openUnit(this.#open(), timerOrigin(timer), dueMs);
    const kind = kinds.get(actorType);
    assert(kind, `the timer "${timerId}" is of the actor type "${actorType}", which the app does not have`);
    assert(kind.actors.get(key), `the timer "${timerId}" outlived its actor "${actorType}" "${key}"`);
    const cause = verdict ?? this.#attempt(unit, () => this.#deliver([{ kind, key, event }], unit));
    this.#noteOutcome("", cause);
    if (!cause) return;
    const ofSettings = !verdict && dependsOnSettings(cause);
    if (ofSettings) this.#open().verdicts.push({ kind: "timer", actorType, key, timerId, dueMs, ...cause });
    const { app, shard } = this.#options;
    const { topic } = app.inputs[0]!;
    const note = { kind: "timer", topic, code: cause.code, verdict: verdict !== undefined || ofSettings } as const;
    this.#setAside(timerDeadLetter(this.#routes, timer, { shard, cause }), { unit, note });
  }

  #noteOutcome(topic: string, cause: Rejection | null): void {
    const batch = this.#open();
    batch.refusedRun = Math.max(batch.refusedRun, this.#state.noteOutcome(topic, { refused: cause !== null }));
  }

  /** Steps the actors one after the other; what they tell each other joins the end of the queue. */
  #deliver(queue: Delivery[], unit: Unit): void {
    // The queue grows while it is walked.
    for (const delivery of queue) this.#step(delivery, { unit, queue });
  }

  #step({ kind, key, event }: Delivery, { unit, queue }: Pick<Emitter, "unit" | "queue">): void {
    const { timers, streamTimeMs } = this.#state;
    const note = this.#open().notes.step(kind.type, key, unit.timeMs);
    const emitter = { actor: { type: kind.type, key }, unit, queue, note };
    const before = kind.actors.get(key);
    let snapshot = before;
    let done = false;
    if (!snapshot) {
      const started = kind.host.start({ key, type: kind.type });
      this.#apply(started.effects, emitter);
      ({ snapshot, done } = started);
    }
    if (!done) {
      const stepped = kind.host.step(snapshot, { ...event, streamTimeMs });
      this.#apply(stepped.effects, emitter);
      ({ snapshot, done } = stepped);
    }
    if (done) {
      kind.actors.delete(key);
      timers.cancelAllOf(kind.type, key);
    } else if (snapshot !== before) {
      kind.actors.set(key, snapshot);
    }
    note.done = true;
  }

  // ------------------------------------------------------------------------------------------------------------- effects

  /** Makes effects of one step part of state and batch, in the order raised. */
  #apply(effects: readonly HostEffect[], emitter: Emitter): void {
    if (effects.length === 0) return;
    const { timers, streamTimeMs } = this.#state;
    const { type: actorType, key } = emitter.actor;
    const earlier = new Map<string, EventMeta>();
    for (const effect of effects) {
      if (effect.kind === "emit") {
        this.#route(effect.event, emitter, earlier);
      } else if (effect.kind === "cancel") {
        timers.cancel({ actorType, key, timerId: effect.id });
      } else {
        // At least 1 ms: a timer that sets itself again would otherwise fire for ever, and twice at one due time.
        const dueMs = streamTimeMs + Math.max(1, Math.ceil(effect.delayMs));
        timers.schedule({ actorType, key, timerId: effect.id, dueMs, event: effect.event });
      }
    }
  }

  /** @param earlier the events that the same step emitted before, by type */
  #route(event: MachineEvent, { actor, unit, queue, note }: Emitter, earlier: Map<string, EventMeta>): void {
    const { origin, timeMs, ordinal } = unit;
    unit.ordinal += 1;
    note.emitted += 1;
    const meta = new EventMeta({
      app: this.#options.app.name,
      origin,
      ordinal,
      timeMs,
      actor,
      earlier,
      ids: this.#open().ids,
    });
    for (const output of outputsOf(this.#routes, event, meta)) {
      if (output.kind === "publish") this.#publish(output, unit);
      else if (output.kind === "row")
        this.#open().rows.push({ table: output.table, row: output.row, origin: unit.index });
      else if (output.kind === "count") this.#state.count(output.name);
      else queue.push(this.#tell(output, { event, unit }));
    }
    earlier.set(event.type, meta);
  }

  #tell(to: { actorType: string; key: string }, { event, unit }: { event: MachineEvent; unit: Unit }): Delivery {
    const { app, limits } = this.#options;
    const tellsMax = limits.tellsMax ?? app.tellsMax;
    unit.tells += 1;
    if (unit.tells > tellsMax) {
      throw new LockstepError(
        "TELLS_EXCEEDED",
        `More than ${tellsMax} events were told for one record or timer; the last was "${event.type}" to "${to.actorType}".`,
      );
    }
    const kind = this.#state.kinds.get(to.actorType);
    assert(kind, `"${event.type}" was told to the actor type "${to.actorType}", which the app does not have`);
    return { kind, key: to.key, event };
  }

  #setAside(letter: SetAside, { unit, note }: { unit: Unit; note: SetAsideNote }): void {
    this.#state.count("quarantined");
    this.#open().notes.setAside.push(note);
    this.#publish(letter, unit);
  }

  #publish({ id, record }: SetAside, unit: Unit): void {
    const batch = this.#open();
    batch.publishes.push({ ...record, id, origin: unit.index });
    batch.bytes += outputBytes(record);
  }
}
