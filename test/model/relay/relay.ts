/** One relay: lock, fence, position, stream, cut, publish, tell the slot (src/relay/relay.ts, session.ts). */
import type { Emit } from "../engine/explore.ts";
import * as broker from "./kafka.ts";
import { type Look, lookAt, START, startAt, wholeOf, withoutUnderWay } from "./log.ts";
import {
  ABORT_LEFTOVERS,
  ABORTING,
  breaks,
  COMMITTING,
  current,
  DOUBT,
  END_TXN,
  FENCE,
  FENCE_AGAIN,
  HALTED,
  IDLE,
  INSPECT,
  kafka,
  LEFTOVERS,
  NOTE,
  next,
  OFFSETS,
  ONGOING,
  OPEN,
  own,
  POSITION,
  PRODUCE,
  pg,
  Q_ABORT,
  Q_END,
  Q_INIT,
  Q_OFFSETS,
  Q_PRODUCE,
  RELAY_LENGTH,
  relayAt,
  rules,
  STREAM,
  start,
  TELL,
} from "./state.ts";

/** States in which it has the fence that it publishes with. */
const PUBLISHING: readonly number[] = [LEFTOVERS, ABORT_LEFTOVERS, PRODUCE, OFFSETS, END_TXN];

export function relaySteps(i: number, emit: Emit): void {
  const r = relayAt(i);
  const pc = current[r + own.pc]!;
  if (pc === HALTED) return;
  if (pc === IDLE) {
    if (current[pg.lock] !== 0) return;
    start();
    next[pg.lock] = i + 1;
    next[r + own.pc] = firstStep();
    emit("fair", "takes the lock", i);
    return;
  }
  if (current[pg.lock] !== i + 1) {
    start();
    leave(i);
    emit("fair", "learns that its lock is gone", i);
  }
  if (PUBLISHING.includes(pc) && current[kafka.epochIs + i] === 0) {
    start();
    giveWay(i);
    emit("fair", "is fenced by Kafka", i);
    return;
  }
  STEPS[pc]!(i, emit);
}

const firstStep = (): number => (rules.wrong.positionBeforeFence ? POSITION : FENCE);

/** Lost, or the process died: Postgres ends its sessions, and its lock goes with them. */
export function leave(i: number): void {
  endSession(i);
  if (next[pg.lock] === i + 1) next[pg.lock] = 0;
  next[relayAt(i) + own.pc] = IDLE;
}

function endSession(i: number): void {
  next.fill(0, relayAt(i), relayAt(i) + RELAY_LENGTH);
  next[kafka.epochIs + i] = 0;
  if (next[pg.stream] === i + 1) next[pg.stream] = 0;
}

/** Another relay has fenced it: it lets go of the lock, if it still has it. */
function giveWay(i: number): void {
  leave(i);
}

/** A failure that can pass: a new session, under the same lock. */
function sessionAgain(i: number): void {
  endSession(i);
  next[relayAt(i) + own.pc] = firstStep();
}

/** Before it halts it lets go of the lock; without an answer it has not halted but lost. */
function doubt(i: number, why: string): void {
  endSession(i);
  goTo(i, DOUBT);
  if (rules.wrong.haltsAtOnce) halt(i, why);
}

function halt(i: number, why: string): void {
  goTo(i, HALTED);
  breaks("S5", `a healthy relay halts: ${why}`);
}

function goTo(i: number, pc: number): void {
  next[relayAt(i) + own.pc] = pc;
}

const STEPS: Readonly<Record<number, (i: number, emit: Emit) => void>> = {
  [FENCE](i, emit) {
    start();
    if (rules.wrong.notFenced) {
      next[kafka.epochIs + i] = 1;
      goTo(i, POSITION);
      emit("fair", "goes on with the producer id as it is", i);
      return;
    }
    if (!broker.isCompleting(current[kafka.status]!)) {
      if (broker.initProducerId()) {
        next[kafka.epochIs + i] = 1;
        goTo(i, rules.wrong.positionBeforeFence ? INSPECT : POSITION);
        emit("fair", "fences its predecessor", i);
      } else {
        goTo(i, FENCE_AGAIN);
        emit("fair", "has what is open aborted", i);
      }
    }
    start();
    if (!broker.sendBlindly(i, { kind: Q_INIT })) return;
    sessionAgain(i);
    emit("fault", "fences, outcome unknown", i);
  },

  [FENCE_AGAIN](i, emit) {
    start();
    if (current[pg.lock] === i + 1) goTo(i, FENCE);
    else leave(i);
    emit("fair", "looks at its lock before it fences again", i);
  },

  [POSITION](i, emit) {
    start();
    next[relayAt(i) + own.read] = next[kafka.position]!;
    goTo(i, rules.wrong.positionBeforeFence ? FENCE : INSPECT);
    emit("fair", "reads its position", i);
  },

  [INSPECT](i, emit) {
    start();
    const r = relayAt(i);
    // The question goes through the session of the lock: without it there is no answer.
    if (current[pg.lock] !== i + 1) {
      leave(i);
      emit("fair", "asks the server, and its session is over", i);
      return;
    }
    const found = {
      committed: next[r + own.read]!,
      flushed: next[pg.flushed]!,
      confirmed: next[pg.confirmed]!,
      started: next[pg.started] === 1,
    };
    const decision = startAt(found);
    next[r + own.read] = 0;
    if (typeof decision === "string") {
      doubt(i, decision);
    } else {
      next[r + own.position] = decision.position;
      next[r + own.isFirst] = 1;
      goTo(i, LEFTOVERS);
    }
    emit("fair", "looks at server and slot, and decides where to begin", i);
  },

  [LEFTOVERS](i, emit) {
    if (broker.isCompleting(current[kafka.status]!)) return;
    start();
    next[kafka.status] = ONGOING;
    goTo(i, ABORT_LEFTOVERS);
    emit("fair", "begins, for leftovers", i);
  },

  [ABORT_LEFTOVERS](i, emit) {
    start();
    if (current[kafka.status] === ONGOING) {
      next[kafka.status] = ABORTING;
      goTo(i, OFFSETS);
    } else sessionAgain(i);
    emit("fair", "aborts leftovers", i);
    unknown(i, { kind: Q_ABORT }, { text: "aborts leftovers", repeats: false }, emit);
  },

  /** Begins, and writes the records: a request that is repeated until it is answered. */
  [PRODUCE](i, emit) {
    const r = relayAt(i);
    const { firstRow, lastRow } = lookOf(i);
    const rows = { first: firstRow, last: lastRow };
    const batch = current[r + own.batches]! + 1;
    if (broker.isCompleting(current[kafka.status]!)) return;
    start();
    next[kafka.status] = ONGOING;
    broker.produce(rows, batch);
    next[r + own.batches] = batch;
    goTo(i, OFFSETS);
    emit("fair", firstRow === lastRow ? "produces row" : `produces row ${firstRow} and row`, i, lastRow);
    unknown(i, { kind: Q_PRODUCE, rows, batch }, { text: "produces", repeats: true }, emit);
  },

  [OFFSETS](i, emit) {
    const position = positionToSend(i);
    if (broker.isCompleting(current[kafka.status]!)) return;
    start();
    if (!rules.wrong.positionWrittenApart || current[relayAt(i) + own.isFirst] === 1) {
      next[kafka.status] = ONGOING;
      broker.sendPosition(position);
    }
    goTo(i, END_TXN);
    emit("fair", "sends its position", i);
    const repeats = rules.wrong.offsetsRepeated === true;
    unknown(i, { kind: Q_OFFSETS, position }, { text: "sends its position", repeats }, emit);
  },

  [END_TXN](i, emit) {
    start();
    const status = current[kafka.status];
    if (status === ONGOING) {
      next[kafka.status] = COMMITTING;
      published(i);
    } else sessionAgain(i);
    emit("fair", "ends the transaction", i);
    unknown(i, { kind: Q_END }, { text: "ends the transaction", repeats: false }, emit);
  },

  [NOTE](i, emit) {
    start();
    if (current[pg.lock] === i + 1) {
      next[pg.started] = 1;
      goTo(i, OPEN);
    } else leave(i);
    emit("fair", "notes that it has started", i);
  },

  [OPEN](i, emit) {
    start();
    const r = relayAt(i);
    const stream = current[pg.stream]!;
    if (stream !== 0 && stream !== i + 1 && current[pg.lock] !== i + 1) {
      leave(i);
      emit("fair", "cannot end the session that streams, its own is over", i);
      return;
    }
    next[pg.stream] = i + 1;
    const whole = wholeOf(next[r + own.position]!);
    tell(whole); // the first status names the position
    next[r + own.skipped] = Math.max(whole, next[pg.confirmed]!);
    goTo(i, STREAM);
    emit("fair", "opens the stream at its position", i);
  },

  [STREAM](i, emit) {
    const r = relayAt(i);
    const look = lookOf(i);
    if (current[pg.stream] !== i + 1) {
      start();
      sessionAgain(i);
      emit("fair", "finds its stream ended", i);
    }
    // What had come before the stream ended is still there to be taken.
    if (!look.full && look.nextOf > 0 && look.nextOf <= current[pg.flushed]!) {
      start();
      next[r + own.taken]! += 1;
      const { contradiction, cutPosition } = lookOf(i, next);
      if (contradiction !== "") {
        doubt(i, contradiction);
      } else if (rules.wrong.toldBeforePublished) tell(wholeOf(cutPosition));
      emit("fair", "takes what the log has of transaction", i, look.nextOf);
    }
    const moved = look.cutPosition !== lookAt({ ...progress(i), taken: progress(i).cut }).cutPosition;
    if (!look.full && !(look.settled && (look.firstRow > 0 || moved))) return;
    start();
    goTo(i, look.firstRow > 0 ? PRODUCE : OFFSETS);
    emit("fair", "cuts", i);
  },

  [DOUBT](i, emit) {
    start();
    if (current[pg.lock] === i + 1) halt(i, "it has the lock, and what it found contradicts");
    else leave(i);
    emit("fair", "lets go of its lock before it halts", i);
  },

  [TELL](i, emit) {
    start();
    const r = relayAt(i);
    tell(wholeOf(lookAt({ ...progress(i), taken: progress(i).cut }).cutPosition));
    next[r + own.pc] = STREAM;
    emit("fair", "tells the slot", i);
  },
};

function progress(i: number, of: Uint8Array = current) {
  const r = relayAt(i);
  return {
    position: of[r + own.position]!,
    skipped: of[r + own.skipped]!,
    taken: of[r + own.taken]!,
    cut: of[r + own.cut]!,
  };
}

function lookOf(i: number, of: Uint8Array = current): Look {
  return lookAt(progress(i, of));
}

function positionToSend(i: number): number {
  const r = relayAt(i);
  const position = current[r + own.isFirst] === 1 ? current[r + own.position]! : lookOf(i).cutPosition;
  return rules.wrong.underWayLeftOut ? withoutUnderWay(position) : position;
}

/** EndTxn was answered. */
function published(i: number): void {
  const r = relayAt(i);
  if (next[r + own.isFirst] === 1) {
    next[r + own.isFirst] = 0;
    goTo(i, NOTE);
    return;
  }
  next[r + own.cut] = next[r + own.taken]!;
  goTo(i, TELL);
}

/** The slot's confirmed position; it never falls. RI2. */
function tell(whole: number): void {
  next[pg.confirmed] = Math.max(next[pg.confirmed]!, whole);
  let inKafka = next[kafka.position]!;
  if (next[kafka.status] === COMMITTING) inKafka = Math.max(inKafka, next[kafka.pending]!);
  const position = inKafka === 0 ? START : inKafka - 1;
  if (next[pg.confirmed]! > wholeOf(position)) breaks("RI2", "the slot is told more than Kafka has");
}

/** The answer is lost: the request may be repeated in place, if it is one that is; and its deadline may be over. */
function unknown(
  i: number,
  sent: Parameters<typeof broker.sendBlindly>[1],
  { text, repeats }: { text: string; repeats: boolean },
  emit: Emit,
): void {
  if (sent.kind === Q_PRODUCE && current[kafka.status] !== ONGOING) {
    // The transaction is begun by a request of its own, before.
    start();
    next[kafka.status] = ONGOING;
    if (!broker.sendBlindly(i, sent)) return;
  } else {
    start();
    if (!broker.sendBlindly(i, sent)) return;
  }
  if (repeats) emit("fault", `${text}, outcome unknown, to be repeated`, i);
  start();
  if (sent.kind === Q_PRODUCE || sent.kind === Q_OFFSETS) next[kafka.status] = ONGOING;
  if (!broker.sendBlindly(i, sent)) return;
  sessionAgain(i);
  emit("fault", `${text}, outcome unknown`, i);
}
