/** An owner that runs, publishes redo, or drains (src/runtime/run-loop.ts, commit.ts, shard.ts; src/kafka/transactional-writer.ts). */
import type { Emit } from "../engine/explore.ts";
import { acquireAgain, fenced, halt, idsOf, leave, lose } from "./acquire.ts";
import { endTxn, isCompleting, produce, sendOffsets } from "./kafka.ts";
import { commit, confirm, holds } from "./postgres.ts";
import { labelsToPublish, sendBlindly } from "./requests.ts";
import {
  ABORT_LEFTOVERS,
  ADD,
  breaks,
  COMMITTED,
  current,
  DRAIN,
  EARLY_CONFIRM,
  END,
  kafka,
  LAST,
  LEFTOVERS,
  next,
  OFFSETS,
  ONGOING,
  own,
  ownerAt,
  PREPARE_ABORT,
  PREPARE_COMMIT,
  PRODUCE,
  PUBLISH,
  pg,
  Q_ABORT,
  Q_ADD,
  Q_COMMIT,
  Q_CONFIRM,
  Q_END,
  Q_OFFSETS,
  Q_PRODUCE,
  RUN,
  rules,
  start,
  UNGUARDED,
  world,
} from "./state.ts";

export function holdingSteps(i: number, emit: Emit): void {
  const o = ownerAt(i);
  const pc = current[o + own.pc]!;
  if (pc === DRAIN) {
    drainSteps(i, emit);
    return;
  }
  const slots = idsOf(i).length;
  for (let slot = 0; slot < slots; slot += 1) if (current[o + own.stage + slot] !== 0) transactionStep(i, slot, emit);
  if (pc === PUBLISH) return;

  const free = current[o + own.stage] === 0 && current[o + own.stage + 1] === 0;
  const seq = current[o + own.memory]!;
  const slot = (seq + 1) % slots;
  if (seq < LAST && current[o + own.stage + slot] === 0)
    commitSteps(i, { b: seq + 1, slot, checked: pc === UNGUARDED }, emit);
  if (pc !== RUN || !free) return;
  if (current[pg.confirmed]! < seq) confirmSteps(i, seq, emit);
  if (current[world.assigned] !== i) {
    start();
    next[o + own.pc] = DRAIN;
    emit("fair", "is revoked, and drains", i);
  }
  start();
  if (rules.wrong.ownerNeverLooks || (next[pg.tokenIs + i] === 1 && next[pg.seq] === seq)) return;
  zeroRows(i, "its row stands at another commit");
  emit("fair", "looks at its row", i);
}

// ---------------------------------------------------------------------------------------------------------------- Postgres

/** Of what an owner commits now. */
function labelOf(i: number): number {
  return (rules.failovers > 0 ? i * 2 + current[world.failedOver]! : i) + 1;
}

function commitSteps(i: number, { b, slot, checked }: { b: number; slot: number; checked: boolean }, emit: Emit): void {
  const o = ownerAt(i);
  if (rules.wrong.clientChecksToken && !checked) {
    start();
    if (holds(i)) next[o + own.pc] = UNGUARDED;
    else lose(i);
    emit("fair", "asks whether its token stands", i);
    return;
  }
  const label = labelOf(i);
  const on = current[o + own.memoryLabel]!;
  let confirmed = b - 1;
  for (let other = 0; other < 2; other += 1)
    if (current[o + own.stage + other] !== 0)
      confirmed = Math.min(confirmed, current[o + own.firstCommit + other]! - 1);
  start();
  next[o + own.pc] = RUN;
  const accepted = commit(i, { b, label, on, confirmed, guarded: !rules.wrong.clientChecksToken });
  if (accepted) {
    next[o + own.memory] = b;
    next[o + own.memoryLabel] = label;
    next[o + own.toPublish + b] = label;
    next[o + own.stage + slot] = ADD;
    next[o + own.firstCommit + slot] = b;
    next[o + own.lastCommit + slot] = b;
  } else zeroRows(i, "0 rows under its own token");
  emit("fair", accepted ? "commits in Postgres" : "commits: 0 rows", i, b);
  start();
  if (!sendBlindly(i, { kind: Q_COMMIT, a: b, labels: [label, on], confirmed })) return;
  acquireAgain(i);
  next[o + own.memoryPending] = label;
  emit("fault", "commits in Postgres, outcome unknown", i, b);
}

function confirmSteps(i: number, seq: number, emit: Emit): void {
  start();
  if (!confirm(i, seq)) zeroRows(i, "0 rows under its own token");
  emit("fair", "confirms alone", i, seq);
  start();
  if (!sendBlindly(i, { kind: Q_CONFIRM, a: seq })) return;
  acquireAgain(i);
  emit("fault", "confirms alone, outcome unknown", i, seq);
}

/** LK001: lost. LK002: commits are gone, which only a failover can do. */
function zeroRows(i: number, why: string): void {
  if (!holds(i)) {
    lose(i);
    return;
  }
  if (rules.failovers === 0) breaks("S7", why);
  if (rules.failovers === 0 || rules.wrong.againWhenZeroRows) acquireAgain(i);
  else halt(i, why);
}

/** Revoked with nothing under way: confirm, then give the shard up. What fails half-way is left to the next owner. */
function drainSteps(i: number, emit: Emit): void {
  const seq = current[ownerAt(i) + own.memory]!;
  start();
  if (current[pg.confirmed]! < seq) {
    if (!confirm(i, seq)) leave(i);
    emit("fair", "confirms, draining", i, seq);
    start();
    if (!sendBlindly(i, { kind: Q_CONFIRM, a: seq })) return;
    leave(i);
    emit("fault", "confirms, draining, outcome unknown", i, seq);
    return;
  }
  if (holds(i) && seq > 0 && next[world.failedOver] === 0 && rules.expiries === 0) {
    const k = seqInKafka();
    if (k !== seq || next[pg.confirmed] !== seq)
      breaks("S9", `a drained shard is given up with k = ${k}, P = ${seq}, c = ${next[pg.confirmed]}`);
  }
  leave(i);
  emit("fair", "releases", i);
}

/** k, a transaction that is being committed included. */
function seqInKafka(): number {
  let k = next[kafka.offset]! - 1;
  for (let j = 0; j < 2; j += 1)
    if (next[kafka.status + j] === PREPARE_COMMIT) k = Math.max(k, next[kafka.pending + j]! - 1);
  return k;
}

// ------------------------------------------------------------------------------------------------------------------- Kafka

/** The transaction in a slot: [leftovers, abort them,] begin, produce, offsets, end. What is completing is waited for in place. */
function transactionStep(i: number, slot: number, emit: Emit): void {
  const o = ownerAt(i);
  const j = rules.wrong.idPerOwner ? i : slot;
  const stage = current[o + own.stage + slot]!;
  const from = current[o + own.firstCommit + slot]!;
  const to = current[o + own.lastCommit + slot]!;
  const status = current[kafka.status + j]!;
  const otherStage = current[o + own.stage + 1 - slot]!;
  /** A transaction of an earlier commit is under way on the other id, and not beyond this stage. */
  const isBehind = (at: number): boolean =>
    otherStage !== 0 && otherStage <= at && current[o + own.firstCommit + 1 - slot]! < from;

  if (current[kafka.epochIs + i * 2 + j] === 0) {
    start();
    fenced(i);
    emit("fair", "is fenced by Kafka", i, to);
    return;
  }
  switch (stage) {
    case LEFTOVERS:
    case ADD:
      if (!isCompleting(status)) {
        start();
        next[kafka.status + j] = ONGOING;
        next[o + own.stage + slot] = stage === ADD ? PRODUCE : ABORT_LEFTOVERS;
        emit("fair", stage === ADD ? "begins" : "begins, for leftovers", i, to);
      }
      unknown(i, { kind: Q_ADD, id: j }, { text: "begins", b: to, repeats: true }, emit);
      return;
    case ABORT_LEFTOVERS:
      start();
      if (status === ONGOING) {
        next[kafka.status + j] = PREPARE_ABORT;
        next[o + own.stage + slot] = ADD;
      } else acquireAgain(i);
      emit("fair", "aborts leftovers", i, to);
      unknown(i, { kind: Q_ABORT, id: j }, { text: "aborts leftovers", b: to, repeats: false }, emit);
      return;
    case PRODUCE:
      if (isBehind(PRODUCE) && !rules.wrong.produceOutOfOrder) return;
      start();
      if (status === ONGOING) {
        produce(j, { from, to }, (b) => next[o + own.toPublish + b]!);
        next[o + own.stage + slot] = OFFSETS;
      } else acquireAgain(i);
      emit("fair", status === ONGOING ? "produces" : "produces: refused", i, to);
      unknown(
        i,
        { kind: Q_PRODUCE, id: j, a: from, b: to, labels: labelsToPublish(i) },
        { text: "produces", b: to, repeats: true },
        emit,
      );
      return;
    case OFFSETS: {
      if (isBehind(OFFSETS) && !rules.wrong.offsetsOutOfOrder) return;
      const label = to === 0 ? 0 : to < from ? current[o + own.memoryLabel]! : current[o + own.toPublish + to]!;
      start();
      if (isCompleting(status)) acquireAgain(i);
      else {
        next[kafka.status + j] = ONGOING;
        sendOffsets(j, to, label);
        next[o + own.stage + slot] = rules.wrong.redoDeletedEarly && to > 0 ? EARLY_CONFIRM : END;
      }
      emit("fair", isCompleting(status) ? "sends offsets: refused" : "sends offsets", i, to);
      const repeats = rules.wrong.offsetsRepeated === true;
      unknown(i, { kind: Q_OFFSETS, id: j, a: to, labels: [label] }, { text: "sends offsets", b: to, repeats }, emit);
      return;
    }
    case EARLY_CONFIRM:
      start();
      if (confirm(i, to)) next[o + own.stage + slot] = END;
      else zeroRows(i, "0 rows under its own token");
      emit("fair", "confirms before EndTxn", i, to);
      return;
    default:
      if (isBehind(END) && !rules.wrong.endOutOfOrder) return;
      endSteps(i, { slot, j, from, to, status }, emit);
  }
}

function endSteps(
  i: number,
  { slot, j, from, to, status }: { slot: number; j: number; from: number; to: number; status: number },
  emit: Emit,
): void {
  const o = ownerAt(i);
  const repeats = rules.wrong.endTxnRepeated === true;
  if (!(repeats && isCompleting(status))) {
    start();
    const done = status === ONGOING || status === COMMITTED;
    if (done) {
      if (status === ONGOING) endTxn(j);
      next[o + own.stage + slot] = 0;
      next[o + own.firstCommit + slot] = 0;
      next[o + own.lastCommit + slot] = 0;
      for (let b = from; b <= to; b += 1) next[o + own.toPublish + b] = 0;
      if (next[o + own.pc] === PUBLISH) next[o + own.pc] = RUN;
    } else acquireAgain(i);
    emit("fair", done ? "ends the transaction" : "EndTxn: refused", i, to);
  }
  // Sent once, but for a mutant, which never gives up.
  start();
  if (!sendBlindly(i, { kind: Q_END, id: j })) return;
  if (!repeats) acquireAgain(i);
  emit("fault", "EndTxn, outcome unknown", i, to);
}

/** The answer is lost: the request may be repeated in place, if it is one that is; and its deadline may be over. */
function unknown(
  i: number,
  sent: Parameters<typeof sendBlindly>[1],
  { text, b, repeats }: { text: string; b: number; repeats: boolean },
  emit: Emit,
): void {
  if (repeats) {
    start();
    if (!sendBlindly(i, sent)) return;
    emit("fault", `${text}, outcome unknown, to be repeated`, i, b);
  }
  start();
  if (!sendBlindly(i, sent)) return;
  acquireAgain(i);
  emit("fault", `${text}, outcome unknown`, i, b);
}
