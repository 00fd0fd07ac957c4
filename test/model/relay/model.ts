/**
 * Explicit-state model of the relay: two relays, one slot, four database transactions of which one has two rows and one none of ours.
 *
 * Modelled
 *   Relays    the lock, the fence, the position, the look at server and slot, the position written again with leftovers aborted, the note,
 *             the stream, cuts of at most two rows (so that one lies inside a transaction), publishing request by request, telling the slot. A
 *             relay that is paused or cut off loses its lock and does not know; it may go on until it looks, or is fenced.
 *   Postgres  commits at any time; a stream begins at the later of the position and what the slot was told.
 *   Kafka     kafka.ts: one transactional id, requests that are lost or late, time-outs.
 *   Rules     where to begin, cuts and positions are the relay's own functions (log.ts).
 *
 * Not modelled: resync, pruning, dead letters, a slot or server that is not the one it was (all of these halt), time: a relay whose session
 * has ended learns it at the latest before it fences again.
 */
import type { Emit, Model } from "../engine/explore.ts";
import { complete, deliver, isCompleting, raiseEpoch, tidyRequests } from "./kafka.ts";
import { END, ROWS, rowsBefore, TRANSACTIONS_MAX } from "./log.ts";
import { leave, relaySteps } from "./relay.ts";
import {
  ABORTING,
  COMMITTING,
  current,
  DECIDED,
  HALTED,
  IDLE,
  kafka,
  LOG_LENGTH,
  layout,
  next,
  ONGOING,
  own,
  pg,
  REQUEST_NAMES,
  REQUESTS,
  type Rules,
  relayAt,
  req,
  requestAt,
  rules,
  setRules,
  start,
  takeFault,
  world,
} from "./state.ts";

/** One at a time: the model works on registers of its own. */
export function relayModel(of: Partial<Rules>): Model {
  setRules(of);
  return {
    layout,
    current,
    next,
    begin,
    expand,
    normalise: tidyRequests,
    takeFault,
    breach,
    isEnd,
    nameOf: (who) => `R${who + 1}`,
  };
}

/** All but the last transaction is in the log; where cuts lie does not depend on when it came. */
function begin(): void {
  next[pg.flushed] = TRANSACTIONS_MAX - 1;
  next[world.crashes] = rules.crashes;
  next[world.unknowns] = rules.unknowns;
  next[world.timeouts] = rules.timeouts;
  next[world.lockLosses] = rules.lockLosses;
}

function expand(emit: Emit): void {
  for (let i = 0; i < 2; i += 1) relaySteps(i, emit);
  if (current[pg.flushed]! < TRANSACTIONS_MAX) {
    start();
    next[pg.flushed]! += 1;
    emit("fair", "somebody commits database transaction", -1, next[pg.flushed]!);
  }
  if (isCompleting(current[kafka.status]!)) {
    start();
    complete();
    emit("fair", "Kafka completes the transaction");
  }
  for (let m = 0; m < REQUESTS; m += 1) {
    const kind = current[requestAt(m) + req.kind]!;
    if (kind === 0) continue;
    start();
    deliver(m);
    emit("fair", `sent a ${REQUEST_NAMES[kind]} that arrives now`, current[requestAt(m) + req.from]!);
  }
  faults(emit);
}

function faults(emit: Emit): void {
  for (let i = 0; i < 2; i += 1) {
    const pc = current[relayAt(i) + own.pc]!;
    if (current[world.crashes] === 0 || pc === IDLE || pc === HALTED) continue;
    start();
    next[world.crashes]! -= 1;
    leave(i);
    emit("fault", "crashes", i);
  }
  if (current[world.lockLosses]! > 0 && current[pg.lock]! > 0) {
    start();
    next[world.lockLosses]! -= 1;
    next[pg.lock] = 0;
    emit("fault", "does not know that Postgres has ended its session, and the lock is free", current[pg.lock]! - 1);
  }
  if (current[world.timeouts]! > 0 && current[kafka.status] === ONGOING) {
    start();
    next[world.timeouts]! -= 1;
    raiseEpoch();
    next[kafka.status] = ABORTING;
    emit("fault", "the transaction times out");
  }
}

/**
 *   RI1  once nothing is being committed, the rows a reader sees are those that the position says
 *   RI3  a reader sees the rows in the order of the log, each once
 *   S5   no healthy relay halts; RI2 and RI4 are checked by the steps
 */
function breach(): string {
  let seen = 0;
  for (let n = 0; n < LOG_LENGTH; n += 1) {
    const entry = next[kafka.log + n]!;
    if ((entry & DECIDED) === 0) break;
    const row = entry & ~DECIDED;
    if (row <= seen) return `RI3 row ${row} is seen twice, or out of order`;
    if (row !== seen + 1) return `RI3 row ${row} is seen, row ${seen + 1} is not`;
    seen = row;
  }
  if (next[kafka.status] === COMMITTING || rules.tolerate.includes("RI1")) return "";
  const position = next[kafka.position]!;
  const expected = position === 0 ? 0 : rowsBefore(position - 1);
  return seen === expected ? "" : `RI1 ${seen} rows are seen, by the position it should be ${expected}`;
}

function isEnd(state: Uint8Array): boolean {
  return state[kafka.position] === END + 1 && state[kafka.log + ROWS - 1] === (ROWS | DECIDED);
}
