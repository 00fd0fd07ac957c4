/**
 * Explicit-state model of a shard's commit protocol: two owners, three commits, Postgres, Kafka.
 *
 * Modelled
 *   Commits   1 moves input A, 2 is a tick, 3 moves input B. Each publishes one record and inserts one row.
 *   Owners    acquire in the steps of src/runtime/acquire.ts, each read and write a step of its own; run, publish redo, drain. A paused owner
 *             is one that takes no step for a while, so pauses are without bound and cost nothing. A crash drops all memory.
 *   Requests  each takes effect at once and is answered, or its outcome stays unknown to the sender and it takes effect at any later time
 *             or never. It outlives its sender. Requests that the runtime repeats in place are repeated.
 *   Kafka     kafka.ts. Postgres: one call is one transaction; a failover undoes the last one or two.
 *   Rules     reconcile, and the fate of memory, are the runtime's own functions (runtime-rules.ts).
 *
 * Not modelled here: restore is one step (the model of recovery has its steps, and hand-over), the relay (a model of its own), several
 * shards (they share nothing but the group), time, loss of what Kafka has acknowledged, what is inside a record or a machine.
 */
import type { Emit, Model } from "../engine/explore.ts";
import { acquireStep, acquireSteps, fenced, forgetMemory, lose, planAcquire, waitingSteps } from "./acquire.ts";
import { environmentSteps } from "./environment.ts";
import { breach, noteDivergence } from "./properties.ts";
import { tidyRequests } from "./requests.ts";
import { holdingSteps } from "./running.ts";
import {
  CHECK,
  current,
  DECIDED,
  DOUBT,
  DRAIN,
  F2_DOUBT,
  FRESH,
  HALTED,
  IDLE,
  kafka,
  LAST,
  layout,
  next,
  own,
  ownerAt,
  PUBLISH,
  pg,
  RUN,
  type Rules,
  rules,
  setRules,
  takeFault,
  world,
} from "./state.ts";

/** One at a time: the model works on registers of its own. */
export function commitModel(of: Partial<Rules>): Model {
  setRules(of);
  planAcquire();
  return { layout, current, next, begin, expand, normalise, takeFault, breach, isEnd, nameOf: (who) => `N${who + 1}` };
}

function begin(): void {
  for (let i = 0; i < 2; i += 1) forgetMemory(ownerAt(i));
  next[world.crashes] = rules.crashes;
  next[world.unknowns] = rules.unknowns;
  next[world.timeouts] = rules.timeouts;
  next[world.rebalances] = rules.rebalances;
  next[world.failovers] = rules.failovers;
  next[world.expiries] = rules.expiries;
}

function expand(emit: Emit): void {
  for (let i = 0; i < 2; i += 1) {
    const pc = current[ownerAt(i) + own.pc]!;
    if (pc === HALTED) continue;
    if (pc === IDLE || pc === DOUBT || pc === CHECK || pc >= F2_DOUBT) waitingSteps(i, emit);
    else if (pc >= FRESH) acquireSteps(i, emit);
    else holdingSteps(i, emit);
  }
  environmentSteps(emit);
}

function normalise(): void {
  if (rules.reduce) reduce();
  noteDivergence();
  tidyRequests();
}

/**
 * For larger bounds: an owner that can only find that it has lost finds it at once. Its token is not the row's and, without a failover,
 * never will be again; it has no transaction open, and is not about to call InitProducerId, so nobody sees the difference. For the order
 * R2, R1 alone, whose R1 looks at the token. The smaller runs do without.
 */
function reduce(): void {
  for (let i = 0; i < 2; i += 1) {
    const o = ownerAt(i);
    const before = next[o + own.pc]!;
    if (before === IDLE || before === HALTED) continue;
    const publishing = next[o + own.stage] !== 0;
    if (rules.ids === 1 && (before === RUN || before === PUBLISH) && publishing && next[kafka.epochIs + i * 2] === 0)
      fenced(i);
    if (next[pg.tokenIs + i] === 1) continue;
    const pc = next[o + own.pc]!;
    const acquiring = acquireStep(i, pc);
    const idle = next[o + own.stage] === 0 && next[o + own.stage + 1] === 0;
    if (pc === DOUBT || pc === CHECK || pc === DRAIN || pc >= F2_DOUBT || (pc === RUN && idle)) lose(i);
    else if (acquiring?.step.kind === "R1" || acquiring?.step.kind === "R2" || (acquiring?.n === 0 && acquiring.again))
      lose(i);
    else if (acquiring?.step.kind === "F1" || acquiring?.step.kind === "F2") forgetMemory(o);
  }
}

/** All is committed, and Kafka has it. After a failover or an expiry a halt is an end as well. */
function isEnd(state: Uint8Array): boolean {
  const unhealthy = rules.failovers > 0 || rules.expiries > 0;
  const halted = state[ownerAt(0) + own.pc] === HALTED || state[ownerAt(1) + own.pc] === HALTED;
  if (unhealthy && halted) return true;
  if (state[pg.seq] !== LAST || state[kafka.offset] !== state[kafka.offset + 1] || state[world.diverged] !== 0)
    return false;
  // Offsets that expire after the last commit are written again by nobody.
  const expired = rules.expiries > 0 && state[kafka.offset] === 0 && (state[kafka.log + LAST - 1]! & DECIDED) !== 0;
  return state[kafka.offset] === LAST + 1 || expired;
}
