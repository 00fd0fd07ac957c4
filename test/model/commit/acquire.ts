/**
 * An owner on its way: waiting for the shard, acquire step by step, and what it falls back to (src/runtime/acquire.ts, shard.ts).
 *
 * Hand-over time is not modelled: an owner may go on at once, or be late without bound.
 */
import type { Emit } from "../engine/explore.ts";
import { initProducerId, isCompleting } from "./kafka.ts";
import { forgetToken, takeToken } from "./postgres.ts";
import { sendBlindly } from "./requests.ts";
import { decide, memoryOutlivesF1, reuseOf } from "./runtime-rules.ts";
import {
  ADD,
  AGAIN,
  breaks,
  CHECK,
  current,
  DOUBT,
  F2_DOUBT,
  FRESH,
  HALTED,
  IDLE,
  kafka,
  LAST,
  LEFTOVERS,
  NONE,
  next,
  own,
  ownerAt,
  PUBLISH,
  pg,
  Q_F1,
  Q_INIT,
  RUN,
  rules,
  start,
  world,
} from "./state.ts";

/** One step of acquire; F2 once for each transactional id that this owner fences. */
type Step = { readonly kind: "F1" | "R2" | "R1" | "redo" } | { readonly kind: "F2"; readonly id: number };
let stepsOf: readonly (readonly Step[])[] = [];

/** Called when a run begins. */
export function planAcquire(): void {
  stepsOf = [0, 1].map((i) =>
    rules.order.flatMap((kind): Step[] => (kind === "F2" ? idsOf(i).map((id) => ({ kind, id })) : [{ kind }])),
  );
}

/** Transactional ids that owner i uses, and fences. */
export function idsOf(i: number): readonly number[] {
  if (rules.wrong.idPerOwner) return [i];
  return rules.ids === 1 || (rules.wrong.oneIdNotFenced && i === 1) ? [0] : [0, 1];
}

/** The step that an owner in acquire does next; null: it is not in acquire. */
export function acquireStep(
  i: number,
  pc: number,
): { readonly step: Step; readonly n: number; readonly again: boolean } | null {
  if (pc < FRESH || pc >= F2_DOUBT) return null;
  const again = pc >= AGAIN;
  const n = pc - (again ? AGAIN : FRESH);
  return { step: stepsOf[i]![n]!, n, again };
}

// ------------------------------------------------------------------------------------------------------------- falling back

/** @param keepProducer a mutant */
export function dropWork(i: number, keepProducer = false): void {
  const o = ownerAt(i);
  next.fill(0, o + own.stage, o + own.lastCommit + 2);
  next.fill(0, o + own.toPublish + 1, o + own.toPublish + 1 + LAST);
  forgetRead(o);
  if (keepProducer) return;
  next[kafka.epochIs + i * 2] = 0;
  next[kafka.epochIs + i * 2 + 1] = 0;
}

function forgetRead(o: number): void {
  next.fill(0, o + own.readSeq, o + own.readOffsetLabel + 2);
}

export function forgetMemory(o: number): void {
  next[o + own.memory] = NONE;
  next[o + own.memoryLabel] = 0;
  next[o + own.memoryPending] = 0;
}

/** Everything of this ownership is gone: lost, released, or the process died. Its token is thrown away for good. */
export function leave(i: number): void {
  dropWork(i);
  forgetToken(i);
  forgetMemory(ownerAt(i));
  next[ownerAt(i) + own.pc] = IDLE;
}

export function lose(i: number): void {
  leave(i);
  if (rules.wrong.noHeartbeat) next[ownerAt(i) + own.pc] = FRESH;
}

/** An outcome is not known: the producer goes, memory stays. */
export function acquireAgain(i: number): void {
  if (rules.wrong.producerReused) next[kafka.appended] = 0; // what it sends again gets new sequence numbers
  dropWork(i, rules.wrong.producerReused === true);
  next[ownerAt(i) + own.pc] = AGAIN;
}

/** Kafka has fenced it. F1 again has its condition; without one the row must be read first. */
export function fenced(i: number): void {
  acquireAgain(i);
  if (rules.wrong.f1Unconditional) next[ownerAt(i) + own.pc] = CHECK;
  if (!rules.wrong.producerReused) return;
  next[kafka.epochIs + i * 2] = 0;
  next[kafka.epochIs + i * 2 + 1] = 0;
}

/** What the step under construction found to contradict: told in its trace. */
let found = "";

/** Before it halts it reads its row again. */
export function doubt(i: number, why: string): void {
  found = why;
  if (rules.wrong.haltsAtOnce) {
    halt(i, why);
    return;
  }
  dropWork(i);
  next[ownerAt(i) + own.pc] = DOUBT;
}

export function halt(i: number, why: string): void {
  dropWork(i);
  next[ownerAt(i) + own.pc] = HALTED;
  if (rules.failovers === 0 && rules.expiries === 0) breaks("S5", `a healthy shard halts: ${why}`);
}

// ------------------------------------------------------------------------------------------------------------------- steps

export function waitingSteps(i: number, emit: Emit): void {
  const o = ownerAt(i);
  const pc = current[o + own.pc]!;
  if (pc === IDLE) {
    if (current[world.assigned] !== i) return;
    start();
    next[o + own.pc] = FRESH;
    emit("fair", "is told by two heartbeats that the shard is its own", i);
    return;
  }
  start();
  const isMine = next[pg.tokenIs + i] === 1;
  if (!isMine) lose(i);
  else if (pc === DOUBT) halt(i, "its token stands, and what it read contradicts");
  else if (pc === CHECK) acquireAgain(i);
  else next[o + own.pc] = pc - F2_DOUBT;
  emit("fair", pc === DOUBT ? "reads the row before it halts" : "reads its row", i);
}

export function acquireSteps(i: number, emit: Emit): void {
  const o = ownerAt(i);
  const { step, n, again } = acquireStep(i, current[o + own.pc]!)!;
  if (current[world.assigned] !== i) {
    start();
    leave(i);
    emit("fair", "is revoked in acquire", i);
  }
  if (step.kind === "F1") fenceInPostgres(i, n, again, emit);
  else if (step.kind === "F2") fenceInKafka(i, step.id, n, again, emit);
  else {
    start();
    found = "";
    if (step.kind === "R2") {
      for (let input = 0; input < 2; input += 1) {
        next[o + own.readOffset + input] = next[kafka.offset + input]!;
        next[o + own.readOffsetLabel + input] = next[kafka.offsetLabel + input]!;
      }
      advance(i, n, again);
    } else if (step.kind === "redo") {
      next[o + own.readRedo] = next[pg.redo]!;
      for (let b = 1; b <= LAST; b += 1) next[o + own.readJournal + b] = next[pg.journal + b]!;
      advance(i, n, again);
    } else if (rules.order[0] === "F1" && next[pg.tokenIs + i] === 0) lose(i);
    else {
      next[o + own.readSeq] = next[pg.seq]!;
      next[o + own.readConfirmed] = next[pg.confirmed]!;
      advance(i, n, again);
    }
    const text = step.kind === "redo" ? "reads redo and journal" : step.kind;
    emit("fair", found === "" ? text : `${text}: ${found}`, i);
    if (current[world.unknowns] === 0) return;
    start();
    next[world.unknowns]! -= 1;
    acquireAgain(i);
    emit("fault", `${step.kind} fails`, i);
  }
}

function fenceInPostgres(i: number, n: number, again: boolean, emit: Emit): void {
  const conditional = again && !rules.wrong.f1Unconditional;
  start();
  const isMine = next[pg.tokenIs + i] === 1;
  if (conditional && !isMine) lose(i);
  else {
    if (rules.order[0] === "F1" && !memoryOutlivesF1(isMine) && !rules.wrong.memoryBySeqAlone) forgetMemory(ownerAt(i));
    takeToken(i);
    advance(i, n, again);
  }
  emit("fair", again ? "F1 again" : "F1", i);
  start();
  if (!sendBlindly(i, { kind: Q_F1, a: conditional ? 1 : 0 })) return;
  if (!rules.wrong.f1Unconditional) lose(i);
  emit("fault", "F1, outcome unknown", i);
}

function fenceInKafka(i: number, j: number, n: number, again: boolean, emit: Emit): void {
  if (again && rules.wrong.producerReused && current[kafka.epochIs + i * 2 + j] === 1) {
    start();
    advance(i, n, again);
    emit("fair", "F2 left out, the producer is kept", i);
    return;
  }
  if (!isCompleting(current[kafka.status + j]!)) {
    start();
    if (initProducerId(j)) {
      next[kafka.epochIs + i * 2 + j] = 1;
      advance(i, n, again);
      emit("fair", "F2", i);
    } else {
      if (!rules.wrong.tokenNotReadBetweenF2) next[ownerAt(i) + own.pc]! += F2_DOUBT;
      emit("fair", "F2 aborts what is open", i);
    }
  }
  start();
  if (!sendBlindly(i, { kind: Q_INIT, id: j })) return;
  acquireAgain(i);
  emit("fault", "F2, outcome unknown", i);
}

function advance(i: number, n: number, again: boolean): void {
  // After F1 it makes no difference any more which acquire this is.
  if (n + 1 < stepsOf[i]!.length)
    next[ownerAt(i) + own.pc] = (again && rules.wrong.producerReused ? AGAIN : FRESH) + n + 1;
  else settleMemoryAndReconcile(i);
}

function settleMemoryAndReconcile(i: number): void {
  const o = ownerAt(i);
  const seq = next[o + own.readSeq]!;
  const confirmed = next[o + own.readConfirmed]!;
  const redo = next[o + own.readRedo]!;
  const journal = [1, 2, 3].map((b) => next[o + own.readJournal + b]!);
  const offsets = [next[o + own.readOffset]!, next[o + own.readOffset + 1]!] as const;
  const labels = [next[o + own.readOffsetLabel]!, next[o + own.readOffsetLabel + 1]!] as const;
  forgetRead(o);

  const expected = (2 << seq) - (2 << confirmed);
  if (redo !== expected) {
    doubt(i, `redo is not exactly ${confirmed + 1}..${seq}`);
    return;
  }
  const tokenNotCompared = rules.wrong.tokenNotCompared === true;
  const read = { seq, confirmed, redo, journal, offsets, labels, tokenNotCompared };
  const decision = rules.wrong.positionsOnly ? decideByPositions(seq, offsets) : decide(read);
  settleMemory(o, seq, seq === 0 ? 0 : journal[seq - 1]!);
  if (decision.kind === "halt") doubt(i, decision.why);
  else if (decision.kind === "clean" || (decision.kind === "first" && rules.wrong.noSeqZero)) next[o + own.pc] = RUN;
  else if (decision.kind === "publish") {
    for (let b = decision.from; b <= decision.to; b += 1) next[o + own.toPublish + b] = journal[b - 1]!;
    publish(o, decision);
  } else publish(o, { from: seq + 1, to: seq }); // offsets alone
}

function settleMemory(o: number, seq: number, label: number): void {
  const pending = next[o + own.memoryPending]!;
  const found = reuseOf({ seq: next[o + own.memory]!, pending: pending !== 0 }, seq);
  if (found === "load" || found === "accept") {
    next[o + own.memory] = seq;
    next[o + own.memoryLabel] = found === "accept" ? pending : label;
  }
  next[o + own.memoryPending] = 0;
}

function publish(o: number, commits: { from: number; to: number }): void {
  next[o + own.pc] = PUBLISH;
  next[o + own.stage] = commits.from <= commits.to ? LEFTOVERS : ADD;
  next[o + own.firstCommit] = commits.from;
  next[o + own.lastCommit] = commits.to;
}

/** A mutant: k is taken from the offsets alone, which several commits share. */
function decideByPositions(seq: number, offsets: readonly [number, number]): ReturnType<typeof decide> {
  const a = offsets[0] > 1 ? 1 : 0;
  const b = offsets[1] > LAST ? 1 : 0;
  let k = seq;
  while (k > 0 && ((k >= 1 ? 1 : 0) !== a || (k >= LAST ? 1 : 0) !== b)) k -= 1;
  if (offsets[0] === 0 && seq === 0) return { kind: "first" };
  return k === seq ? { kind: "clean" } : { kind: "publish", from: k + 1, to: seq };
}
