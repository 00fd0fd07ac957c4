/**
 * Explicit-state model of recovery: hand-over, replay from a snapshot, the snapshot's pieces and pointer, pruning of the journal, release.
 *
 * Modelled
 *   Items     a record of each of two inputs and a tick; which record comes first is chance, as the runtime's own queues have it, and the
 *             journal's to remember. Postgres refuses a row of one record: it takes effect as a verdict. States and digests are those of
 *             the runtime's own ShardModel (fold.ts).
 *   Owners    two: hand-over, F1, fence, R1, redo and journal, reconcile, load, replay row by row, run, snapshots in two pieces beside the
 *             loop, drain. Crash, pause, rebalance, late and lost requests as in the model of the commit protocol.
 *   Kafka     a transaction is one step; its outcome may be unknown, and it may come late until it is fenced.
 *
 * Not modelled: the steps of a Kafka transaction and time-outs (the model of the commit protocol has them), failover, other code or a trimmed
 * input between S and P (both halt; test/fault has them), for how long journal rows are kept (whatever may go goes at once).
 */
import type { Emit, Model } from "../engine/explore.ts";
import { forgetMemory, leave, ownerSteps } from "./owner.ts";
import { arriveLate, breach, deliver, isEnd, tidyRequests } from "./servers.ts";
import {
  current,
  DOUBT,
  DRAIN,
  F1,
  F1_AGAIN,
  FENCE,
  HALTED,
  HANDOVER,
  IDLE,
  kafka,
  layout,
  next,
  own,
  ownerAt,
  PUBLISH,
  pg,
  REQUEST_NAMES,
  REQUESTS,
  RUN,
  type Rules,
  req,
  requestAt,
  rules,
  setRules,
  start,
  takeFault,
  world,
} from "./state.ts";

/** One at a time: the model works on registers of its own. */
export function recoveryModel(of: Partial<Rules>): Model {
  setRules(of);
  return { layout, current, next, begin, expand, normalise, takeFault, breach, isEnd, nameOf: (who) => `N${who + 1}` };
}

function begin(): void {
  for (let i = 0; i < 2; i += 1) forgetMemory(ownerAt(i));
  next[world.crashes] = rules.crashes;
  next[world.unknowns] = rules.unknowns;
  next[world.rebalances] = rules.rebalances;
}

function expand(emit: Emit): void {
  for (let i = 0; i < 2; i += 1) ownerSteps(i, emit);
  if (current[kafka.late]! > 0) {
    start();
    arriveLate();
    emit("fair", "a late EndTxn arrives, of commit", -1, current[kafka.late]! - 1);
  }
  for (let m = 0; m < REQUESTS; m += 1) {
    const kind = current[requestAt(m) + req.kind]!;
    if (kind === 0) continue;
    start();
    deliver(m);
    emit("fair", `sent a ${REQUEST_NAMES[kind]} that arrives now`, current[requestAt(m) + req.from]!);
  }
  for (let i = 0; i < 2; i += 1) {
    const pc = current[ownerAt(i) + own.pc]!;
    if (current[world.crashes] === 0 || pc === IDLE || pc === HALTED) continue;
    start();
    next[world.crashes]! -= 1;
    leave(i);
    emit("fault", "crashes", i);
  }
  if (current[world.rebalances] === 0) return;
  start();
  next[world.rebalances]! -= 1;
  next[world.assigned] = 1 - next[world.assigned]!;
  emit("fault", "is assigned the shard", next[world.assigned]!);
}

function normalise(): void {
  if (rules.reduce) reduce();
  tidyRequests();
}

/**
 * For larger bounds: an owner whose token is not the row's, and never will be again, finds it out at once, unless it is about to fence or to
 * publish, which others can see. Restore and replay are left as they are: what a replaced owner reads there is a point of this model.
 */
function reduce(): void {
  for (let i = 0; i < 2; i += 1) {
    const pc = next[ownerAt(i) + own.pc]!;
    if (pc === IDLE || pc === HALTED || pc === HANDOVER || next[pg.tokenIs + i] === 1) continue;
    if (pc === PUBLISH && next[kafka.epochIs + i] === 1) continue;
    if (pc === F1_AGAIN || pc === DOUBT || pc === RUN || pc === DRAIN || pc === PUBLISH) leave(i);
    else if (pc === F1 || pc === FENCE) forgetMemory(ownerAt(i));
  }
}
