/** Requests whose outcome their sender does not know: they take effect at any later time, or never, and outlive their sender. */

import { endTxn, initProducerId, isCompleting, produce, sendOffsets } from "./kafka.ts";
import { commit, confirm, copyToken, forgetToken, takeToken } from "./postgres.ts";
import {
  kafka,
  next,
  ONGOING,
  own,
  ownerAt,
  PREPARE_ABORT,
  pg,
  Q_ABORT,
  Q_ADD,
  Q_COMMIT,
  Q_CONFIRM,
  Q_END,
  Q_F1,
  Q_INIT,
  Q_OFFSETS,
  Q_PRODUCE,
  REQUEST_LENGTH,
  REQUESTS,
  req,
  requestAt,
  rules,
  world,
} from "./state.ts";

const NO_ID = 3;

export interface Sent {
  readonly kind: number;
  /** Transactional id, when it goes to Kafka. */
  readonly id?: number;
  readonly a?: number;
  readonly b?: number;
  /** Labels of commits 1..3; of a commit: the first is its own, the second the one it was made on. */
  readonly labels?: readonly number[];
  readonly confirmed?: number;
}

/** Sends a request and loses its answer. @returns false when the run has no such fault left */
export function sendBlindly(from: number, sent: Sent): boolean {
  if (next[world.unknowns] === 0) return false;
  let m = 0;
  while (m < REQUESTS && next[requestAt(m) + req.kind] !== 0) m += 1;
  if (m === REQUESTS) return false;
  next[world.unknowns]! -= 1;
  const at = requestAt(m);
  next[at + req.kind] = sent.kind;
  next[at + req.from] = from;
  next[at + req.id] = sent.id ?? NO_ID;
  next[at + req.a] = sent.a ?? 0;
  next[at + req.b] = sent.b ?? 0;
  for (let n = 1; n <= 3; n += 1) next[at + req.labelA + n] = sent.labels?.[n - 1] ?? 0;
  next[at + req.confirmed] = sent.confirmed ?? 0;
  next[at + req.epochIs] =
    sent.id !== undefined && sent.kind !== Q_INIT ? next[kafka.epochIs + from * 2 + sent.id]! : 0;
  copyToken(2 + m, from);
  return true;
}

export function labelsToPublish(i: number): number[] {
  return [1, 2, 3].map((b) => next[ownerAt(i) + own.toPublish + b]!);
}

/** Request m arrives. */
export function deliver(m: number): void {
  const at = requestAt(m);
  const kind = next[at + req.kind]!;
  const id = next[at + req.id]!;
  const a = next[at + req.a]!;
  const b = next[at + req.b]!;
  const label = (n: number): number => next[at + req.labelA + n]!;
  const sender = 2 + m;
  if (kind === Q_F1) {
    if (a === 0 || next[pg.tokenIs + sender] === 1) takeToken(null);
  } else if (kind === Q_COMMIT) {
    const guarded = !rules.wrong.clientChecksToken;
    commit(sender, { b: a, label: label(1), on: label(2), confirmed: next[at + req.confirmed]!, guarded });
  } else if (kind === Q_CONFIRM) confirm(sender, a);
  else if (kind === Q_INIT) initProducerId(id);
  else if (next[at + req.epochIs] === 1) {
    const status = next[kafka.status + id]!;
    if (kind === Q_ADD && !isCompleting(status)) next[kafka.status + id] = ONGOING;
    if (status === ONGOING) {
      if (kind === Q_PRODUCE) produce(id, { from: a, to: b }, label);
      if (kind === Q_OFFSETS) sendOffsets(id, a, label(1));
      if (kind === Q_END) endTxn(id);
      if (kind === Q_ABORT) next[kafka.status + id] = PREPARE_ABORT;
    }
  }
  drop(m);
}

function drop(m: number): void {
  next.fill(0, requestAt(m), requestAt(m) + REQUEST_LENGTH);
  forgetToken(2 + m);
}

/** A request that can never take effect any more is the same as none; those that can stand first. */
export function tidyRequests(): void {
  for (let m = 0; m < REQUESTS; m += 1) {
    const at = requestAt(m);
    const kind = next[at + req.kind]!;
    if (kind === 0) forgetToken(2 + m);
    else if (kind > Q_INIT ? next[at + req.epochIs] === 0 : isDeadInPostgres(m, kind)) drop(m);
  }
  if (next[requestAt(0) + req.kind] !== 0 || next[requestAt(1) + req.kind] === 0) return;
  next.copyWithin(requestAt(0), requestAt(1), requestAt(1) + REQUEST_LENGTH);
  copyToken(2, 3);
  drop(1);
}

function isDeadInPostgres(m: number, kind: number): boolean {
  if (next[world.failovers]! > 0 || rules.wrong.clientChecksToken || rules.wrong.epochWithoutToken) return false;
  if (next[pg.tokenIs + 2 + m] === 1) return false;
  return kind === Q_COMMIT || kind === Q_CONFIRM || (kind === Q_F1 && next[requestAt(m) + req.a] === 1);
}
