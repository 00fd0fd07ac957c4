/** An owner in the model of recovery: acquire, restore, run, snapshot, drain. Each function emits the steps of one `pc`. */
import { decide, memoryOutlivesF1, reuseOf } from "../commit/runtime-rules.ts";
import type { Emit } from "../engine/explore.ts";
import { fold, ITEM_B, ITEM_NAMES, itemsToTake } from "./fold.ts";
import * as servers from "./servers.ts";
import {
  breaks,
  current,
  DOUBT,
  DRAIN,
  F1,
  F1_AGAIN,
  FENCE,
  FIRST_PIECE,
  FOUND_LOST,
  HALTED,
  HANDOVER,
  IDLE,
  kafka,
  LAST,
  NONE,
  next,
  own,
  ownerAt,
  PUBLISH,
  pg,
  Q_COMMIT,
  Q_CONFIRM,
  Q_F1,
  Q_FLIP,
  Q_RELEASE,
  R1,
  READ,
  REDO,
  REPLAY,
  RESTORE,
  RUN,
  rules,
  SECOND_PIECE,
  start,
  WRITTEN,
  world,
} from "./state.ts";

const REVOCABLE: readonly number[] = [HANDOVER, F1, F1_AGAIN, FENCE, R1, READ, REDO, RESTORE, REPLAY];

export function ownerSteps(i: number, emit: Emit): void {
  const pc = current[ownerAt(i) + own.pc]!;
  if (REVOCABLE.includes(pc) && current[world.assigned] !== i) {
    start();
    leave(i);
    emit("fair", "is revoked in acquire", i);
  }
  if (pc === IDLE || pc === HANDOVER || pc === DOUBT) waitingSteps(i, pc, emit);
  else if (pc === F1 || pc === F1_AGAIN) fenceSteps(i, pc === F1_AGAIN, emit);
  else if (pc === FENCE || pc === R1 || pc === READ) readSteps(i, pc, emit);
  else if (pc === REDO || pc === PUBLISH) publishSteps(i, emit);
  else if (pc === RESTORE || pc === REPLAY) restoreSteps(i, pc, emit);
  else if (pc === RUN) runSteps(i, emit);
  else if (pc === DRAIN) drainSteps(i, emit);
  if (pc === RUN || pc === PUBLISH || pc === DRAIN) pieceSteps(i, pc, emit);
}

// ------------------------------------------------------------------------------------------------------------- falling back

function dropWork(i: number): void {
  const o = ownerAt(i);
  next.fill(0, o + own.readSeq, o + own.snapshotPiece + 2);
  next[kafka.epochIs + i] = 0;
}

export function forgetMemory(o: number): void {
  next[o + own.memory] = NONE;
  next[o + own.memoryState] = 0;
  next[o + own.memoryPending] = 0;
}

export function leave(i: number): void {
  dropWork(i);
  next[pg.tokenIs + i] = 0;
  forgetMemory(ownerAt(i));
  next[ownerAt(i) + own.pc] = IDLE;
}

function acquireAgain(i: number): void {
  dropWork(i);
  next[ownerAt(i) + own.pc] = F1_AGAIN;
}

let found = "";

function doubt(i: number, why: string): void {
  found = why;
  dropWork(i);
  next[ownerAt(i) + own.pc] = DOUBT;
  if (rules.wrong.haltsAtOnce) halt(i, why);
}

function halt(i: number, why: string): void {
  next[ownerAt(i) + own.pc] = HALTED;
  breaks("S5", `a healthy shard halts: ${why}`);
}

/** LK001: lost. LK002 cannot be without a failover. */
function zeroRows(i: number): void {
  if (!servers.holds(i)) leave(i);
  else {
    breaks("S7", "0 rows under its own token");
    acquireAgain(i);
  }
}

// ----------------------------------------------------------------------------------------------------------------- acquire

function waitingSteps(i: number, pc: number, emit: Emit): void {
  const o = ownerAt(i);
  if (pc === IDLE && current[world.assigned] !== i) return;
  start();
  if (pc === DOUBT) {
    if (servers.holds(i)) halt(i, "its token stands, and what it read contradicts");
    else leave(i);
    emit("fair", "reads the row before it halts", i);
    return;
  }
  next[o + own.pc] = pc === IDLE ? HANDOVER : F1;
  const waited = current[pg.isOwned] === 1 ? "has waited long enough for the hand-over" : "finds the shard given up";
  emit("fair", pc === IDLE ? "is told by two heartbeats that the shard is its own" : waited, i);
}

function fenceSteps(i: number, again: boolean, emit: Emit): void {
  start();
  const isMine = servers.holds(i);
  if (again && !isMine) leave(i);
  else {
    if (!memoryOutlivesF1(isMine)) forgetMemory(ownerAt(i));
    servers.takeToken(i);
    next[ownerAt(i) + own.pc] = FENCE;
  }
  emit("fair", again ? "F1 again" : "F1", i);
  start();
  if (!servers.sendBlindly(i, { kind: Q_F1, seq: again ? 1 : 0 })) return;
  leave(i);
  emit("fault", "F1, outcome unknown", i);
}

function readSteps(i: number, pc: number, emit: Emit): void {
  const o = ownerAt(i);
  start();
  found = "";
  if (pc === FENCE) {
    servers.fence(i);
    next[o + own.readOffset] = next[kafka.offset]!;
    next[o + own.readLabel] = next[kafka.label]!;
    next[o + own.pc] = R1;
    emit("fair", "F2 and R2", i);
  } else if (pc === R1) {
    if (servers.holds(i)) {
      next[o + own.readSeq] = next[pg.seq]!;
      next[o + own.readConfirmed] = next[pg.confirmed]!;
      next[o + own.snapshotKnown] = next[pg.snapshotSeq]!;
      next[o + own.pc] = READ;
    } else leave(i);
    emit("fair", "R1", i);
  } else {
    reconcileNow(i);
    emit("fair", found === "" ? "reads redo and journal" : `reads redo and journal: ${found}`, i);
  }
  if (current[world.unknowns] === 0) return;
  start();
  next[world.unknowns]! -= 1;
  acquireAgain(i);
  emit("fault", "cannot read", i);
}

function reconcileNow(i: number): void {
  const o = ownerAt(i);
  const [seq, confirmed] = [next[o + own.readSeq]!, next[o + own.readConfirmed]!];
  const redo = next[pg.redo]!;
  if (redo !== (2 << seq) - (2 << confirmed)) {
    doubt(i, `redo is not exactly ${confirmed + 1}..${seq}`);
    return;
  }
  const journal = [1, 2, 3].map((b) => next[pg.label + b]!);
  const [offset, label] = [next[o + own.readOffset]!, next[o + own.readLabel]!];
  const offsets = [offset, offset] as const;
  const decision = decide({ seq, confirmed, redo, journal, offsets, labels: [label, label], tokenNotCompared: false });
  next[o + own.readOffset] = next[o + own.readLabel] = 0;
  if (decision.kind === "halt") {
    doubt(i, decision.why);
    return;
  }
  next[o + own.pc] = decision.kind === "clean" ? RESTORE : REDO;
  if (decision.kind === "clean") return;
  next[o + own.publishFrom] = decision.kind === "publish" ? decision.from : seq + 1;
  next[o + own.publishTo] = seq;
  next[o + own.publishLabel] = seq === 0 ? 0 : journal[seq - 1]!;
}

/** One Kafka transaction, as a whole: the model of the commit protocol has its steps. */
function publishSteps(i: number, emit: Emit): void {
  const o = ownerAt(i);
  const [from, to, label] = [
    current[o + own.publishFrom]!,
    current[o + own.publishTo]!,
    current[o + own.publishLabel]!,
  ];
  start();
  if (current[kafka.epochIs + i] === 0) {
    acquireAgain(i);
    emit("fair", "is fenced by Kafka", i);
    return;
  }
  servers.publish({ from, to, label });
  next[o + own.pc] = current[o + own.pc] === REDO ? RESTORE : RUN;
  next.fill(0, o + own.publishFrom, o + own.publishLabel + 1);
  emit("fair", "publishes", i, to);
  if (current[world.unknowns] === 0) return;
  for (const arrives of ["is done", "is on its way", "is lost"] as const) {
    start();
    next[world.unknowns]! -= 1;
    if (arrives === "is done") servers.publish({ from, to, label });
    if (arrives === "is on its way") {
      next[kafka.late] = to + 1;
      next[kafka.lateFrom] = from;
      next[kafka.lateLabel] = label;
    }
    acquireAgain(i);
    emit("fault", `publishes, outcome unknown, and it ${arrives}:`, i, to);
  }
}

// ----------------------------------------------------------------------------------------------------------------- restore

function restoreSteps(i: number, pc: number, emit: Emit): void {
  const o = ownerAt(i);
  start();
  found = "";
  let text = "replays commit";
  if (pc === RESTORE) text = restoreNow(i);
  else replayNow(i);
  if (next[o + own.pc] === REPLAY && next[o + own.loadedSeq] === next[o + own.readSeq]) begin(i);
  const what = pc === REPLAY ? current[o + own.loadedSeq]! + 1 : -1;
  emit("fair", found === "" ? text : `${text}: ${found}`, i, found === "" ? what : -1);
}

function restoreNow(i: number): string {
  const o = ownerAt(i);
  const seq = next[o + own.readSeq]!;
  const pending = next[o + own.memoryPending]!;
  const memory = { seq: next[o + own.memory]!, pending: pending !== 0 };
  const reuse = rules.wrong.pendingFoldKept && pending !== 0 ? "accept" : reuseOf(memory, seq);
  if (reuse !== "load") {
    next[o + own.loadedSeq] = seq;
    next[o + own.loadedState] = reuse === "accept" ? pending - 1 : next[o + own.memoryState]!;
    next[o + own.pc] = REPLAY;
    return "keeps its memory";
  }
  const s = next[pg.snapshotSeq]!;
  const state = s === 0 ? 0 : servers.loadSnapshot();
  if (state < 0) doubt(i, `snapshot ${s} is damaged: a piece is missing`);
  else if (s > seq) doubt(i, `snapshot ${s} is above the row, ${seq}`);
  else {
    next[o + own.loadedSeq] = s;
    next[o + own.loadedState] = state;
    next[o + own.pc] = REPLAY;
  }
  return `loads snapshot ${s}`;
}

function replayNow(i: number): void {
  const o = ownerAt(i);
  const b = next[o + own.loadedSeq]! + 1;
  const item = next[pg.item + b]!;
  if (item === 0) {
    doubt(i, `the journal row of commit ${b} is missing`);
    return;
  }
  const state = next[o + own.loadedState]!;
  // A mutant takes what its own queues would give it.
  const taken = rules.wrong.takenAnewInReplay ? (itemsToTake(state)[0] ?? item) : item;
  const folded = fold(state, taken, next[pg.verdict + b] === 1);
  if (folded.digest !== servers.digestOf(b)) {
    doubt(i, `replaying commit ${b} gives other effects than it had`);
    return;
  }
  next[o + own.loadedSeq] = b;
  next[o + own.loadedState] = folded.state;
}

function begin(i: number): void {
  const o = ownerAt(i);
  const seq = next[o + own.readSeq]!;
  const state = next[o + own.loadedState]!;
  if (state !== (seq === 0 ? 0 : next[pg.truth + seq]))
    breaks("S6", `memory is not the state of commit ${seq} after restore`);
  next[o + own.memory] = seq;
  next[o + own.memoryState] = state;
  next[o + own.memoryPending] = 0;
  next[o + own.loadedSeq] = next[o + own.loadedState] = next[o + own.readSeq] = next[o + own.readConfirmed] = 0;
  next[o + own.pc] = RUN;
}

// --------------------------------------------------------------------------------------------------------------------- run

function runSteps(i: number, emit: Emit): void {
  const o = ownerAt(i);
  const seq = current[o + own.memory]!;
  const stage = current[o + own.snapshotStage]!;
  if (stage === FOUND_LOST || current[pg.tokenIs + i] === 0) {
    start();
    leave(i);
    emit("fair", "finds that it has lost the shard", i);
    if (stage === FOUND_LOST) return;
  }
  if (seq < LAST) commitSteps(i, seq + 1, emit);
  if (current[pg.confirmed]! < seq) confirmSteps(i, seq, emit);
  if (stage === WRITTEN || (rules.wrong.flippedEarly && stage === SECOND_PIECE)) flipSteps(i, seq, emit);
  if (stage === 0 && current[o + own.snapshotKnown]! < seq) captureStep(i, emit);
  if (current[world.assigned] !== i) {
    start();
    next[o + own.pc] = DRAIN;
    emit("fair", "is revoked, and drains", i);
  }
}

function commitSteps(i: number, b: number, emit: Emit): void {
  const o = ownerAt(i);
  const on = current[o + own.memoryState]!;
  for (const item of itemsToTake(on)) {
    const { state } = fold(on, item, item === ITEM_B);
    const commit = { b, item, label: i + 1, on, state, confirmed: b - 1 };
    start();
    const accepted = servers.commit(i, commit);
    if (accepted) {
      next[o + own.memory] = b;
      next[o + own.memoryState] = state;
      next[o + own.publishFrom] = next[o + own.publishTo] = b;
      next[o + own.publishLabel] = i + 1;
      next[o + own.pc] = PUBLISH;
    } else zeroRows(i);
    emit("fair", `takes ${ITEM_NAMES[item]} and commits${accepted ? "" : ", 0 rows,"}`, i, b);
    start();
    if (!servers.sendBlindly(i, { kind: Q_COMMIT, seq: b, commit })) continue;
    acquireAgain(i);
    next[o + own.memoryPending] = state + 1;
    emit("fault", `takes ${ITEM_NAMES[item]} and commits, outcome unknown,`, i, b);
  }
}

function confirmSteps(i: number, seq: number, emit: Emit): void {
  const draining = current[ownerAt(i) + own.pc] === DRAIN;
  start();
  if (!servers.confirm(i, seq)) {
    if (draining) leave(i);
    else zeroRows(i);
  }
  emit("fair", "confirms alone", i, seq);
  start();
  if (!servers.sendBlindly(i, { kind: Q_CONFIRM, seq })) return;
  if (draining) leave(i);
  else acquireAgain(i);
  emit("fault", "confirms alone, outcome unknown", i, seq);
}

// --------------------------------------------------------------------------------------------------------------- snapshot

function captureStep(i: number, emit: Emit): void {
  const o = ownerAt(i);
  start();
  next[o + own.snapshotStage] = FIRST_PIECE;
  next[o + own.snapshotSeq] = next[o + own.memory]!;
  next[o + own.snapshotState] = next[o + own.memoryState]!;
  emit("fair", "captures its state", i, next[o + own.snapshotSeq]!);
}

/** Pieces are written beside the loop. One whose outcome is not known is given up with its snapshot, which is tried again later. */
function pieceSteps(i: number, pc: number, emit: Emit): void {
  const o = ownerAt(i);
  const stage = current[o + own.snapshotStage]!;
  if (stage !== FIRST_PIECE && stage !== SECOND_PIECE) return;
  start();
  if (servers.holds(i)) {
    const state = rules.wrong.piecesOfLiveState ? next[o + own.memoryState]! : next[o + own.snapshotState]!;
    next[o + own.snapshotPiece + stage - FIRST_PIECE] = state + 1;
    next[o + own.snapshotStage] = stage + 1;
  } else if (pc === DRAIN) leave(i);
  else dropSnapshot(o, FOUND_LOST);
  emit(
    "fair",
    stage === FIRST_PIECE ? "writes the first piece of snapshot" : "writes the second piece of snapshot",
    i,
    current[o + own.snapshotSeq]!,
  );
  if (current[world.unknowns] === 0) return;
  start();
  next[world.unknowns]! -= 1;
  if (pc === DRAIN) leave(i);
  else dropSnapshot(o, 0);
  emit("fault", "cannot write a piece of snapshot", i, current[o + own.snapshotSeq]!);
}

function dropSnapshot(o: number, stage: number): void {
  next.fill(0, o + own.snapshotStage, o + own.snapshotPiece + 2);
  next[o + own.snapshotStage] = stage;
}

function flipSteps(i: number, currentSeq: number, emit: Emit): void {
  const o = ownerAt(i);
  const draining = current[o + own.pc] === DRAIN;
  const seq = current[o + own.snapshotSeq]!;
  start();
  const pieces = servers.writtenPieces(i);
  if (servers.flip(i, { seq, pieces, currentSeq })) {
    next[o + own.snapshotKnown] = seq;
    dropSnapshot(o, 0);
  } else if (draining) leave(i);
  else zeroRows(i);
  emit("fair", "flips the pointer to snapshot", i, seq);
  start();
  if (!servers.sendBlindly(i, { kind: Q_FLIP, seq: currentSeq, snapshot: { seq, pieces } })) return;
  if (draining) leave(i);
  else acquireAgain(i);
  emit("fault", "flips the pointer, outcome unknown, to snapshot", i, seq);
}

// ------------------------------------------------------------------------------------------------------------------- drain

/** Snapshot at P, confirm P, owner = null. What fails half-way is left to the next owner. */
function drainSteps(i: number, emit: Emit): void {
  const o = ownerAt(i);
  const seq = current[o + own.memory]!;
  const stage = current[o + own.snapshotStage]!;
  if (stage === FIRST_PIECE || stage === SECOND_PIECE) return;
  if (stage === FOUND_LOST) {
    start();
    leave(i);
    emit("fair", "finds that it has lost the shard", i);
  } else if (stage === WRITTEN && current[o + own.snapshotSeq]! < seq) {
    start();
    dropSnapshot(o, 0);
    emit("fair", "passes over a snapshot older than P", i);
  } else if (stage === WRITTEN) flipSteps(i, seq, emit);
  else if (current[o + own.snapshotKnown]! < seq && !rules.wrong.releasedUnfinished) captureStep(i, emit);
  else if (current[pg.confirmed]! < seq) confirmSteps(i, seq, emit);
  else {
    start();
    servers.release(i, seq);
    leave(i);
    emit("fair", "gives the shard up", i);
    start();
    if (!servers.sendBlindly(i, { kind: Q_RELEASE, seq })) return;
    leave(i);
    emit("fault", "gives the shard up, outcome unknown", i);
  }
}
