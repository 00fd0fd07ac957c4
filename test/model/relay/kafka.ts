/** Kafka as the relay meets it: one transactional id, one position, one topic. As in the model of the commit protocol; markers come at once. */
import {
  ABORTING,
  breaks,
  COMMITTING,
  DECIDED,
  DONE,
  kafka,
  LOG_LENGTH,
  next,
  ONGOING,
  Q_ABORT,
  Q_END,
  Q_INIT,
  Q_OFFSETS,
  Q_PRODUCE,
  REQUEST_LENGTH,
  REQUESTS,
  req,
  requestAt,
  world,
} from "./state.ts";

export function raiseEpoch(): void {
  next[kafka.epochIs] = next[kafka.epochIs + 1] = 0;
  next[kafka.batches] = 0;
  for (let m = 0; m < REQUESTS; m += 1) next[requestAt(m) + req.epochIs] = 0;
}

export const isCompleting = (status: number): boolean => status === COMMITTING || status === ABORTING;

/** @returns true: answered with a new epoch; false: try again later */
export function initProducerId(): boolean {
  const status = next[kafka.status]!;
  if (isCompleting(status)) return false;
  raiseEpoch();
  next[kafka.status] = status === ONGOING ? ABORTING : DONE;
  return status !== ONGOING;
}

/** A batch that was appended already is recognised by its sequence number. */
export function produce(rows: { first: number; last: number }, batch: number): void {
  if (batch <= next[kafka.batches]!) return;
  next[kafka.batches] = batch;
  for (let row = rows.first; row <= rows.last; row += 1) {
    let n = 0;
    while (n < LOG_LENGTH && next[kafka.log + n] !== 0) n += 1;
    if (n === LOG_LENGTH) breaks("BOUND", "the topic is longer than the model holds");
    else next[kafka.log + n] = row;
  }
}

export function sendPosition(position: number): void {
  next[kafka.pending] = position + 1;
}

/** The transaction is over: what it wrote becomes visible, or goes. */
export function complete(): void {
  const committed = next[kafka.status] === COMMITTING;
  let kept = 0;
  for (let n = 0; n < LOG_LENGTH; n += 1) {
    const entry = next[kafka.log + n]!;
    if (entry === 0 || ((entry & DECIDED) === 0 && !committed)) continue;
    next[kafka.log + kept++] = entry | DECIDED;
  }
  next.fill(0, kafka.log + kept, kafka.log + LOG_LENGTH);
  const pending = next[kafka.pending]!;
  if (committed && pending > 0) {
    if (pending < next[kafka.position]!) breaks("RI4", "the position falls");
    next[kafka.position] = pending;
  }
  next[kafka.pending] = 0;
  next[kafka.status] = DONE;
}

/** Sends a request and loses its answer. @returns false when the run has no such fault left */
export function sendBlindly(
  from: number,
  sent: { kind: number; rows?: { first: number; last: number }; batch?: number; position?: number },
): boolean {
  let m = 0;
  while (m < REQUESTS && next[requestAt(m) + req.kind] !== 0) m += 1;
  if (m === REQUESTS || next[world.unknowns] === 0) return false;
  next[world.unknowns]! -= 1;
  const at = requestAt(m);
  next[at + req.kind] = sent.kind;
  next[at + req.from] = from;
  next[at + req.firstRow] = sent.rows?.first ?? 0;
  next[at + req.lastRow] = sent.rows?.last ?? 0;
  next[at + req.batch] = sent.batch ?? 0;
  next[at + req.position] = sent.position ?? 0;
  next[at + req.epochIs] = sent.kind === Q_INIT ? 0 : next[kafka.epochIs + from]!;
  return true;
}

export function deliver(m: number): void {
  const at = requestAt(m);
  const kind = next[at + req.kind]!;
  if (kind === Q_INIT) initProducerId();
  else if (next[at + req.epochIs] === 1 && next[kafka.status] === ONGOING) {
    if (kind === Q_PRODUCE)
      produce({ first: next[at + req.firstRow]!, last: next[at + req.lastRow]! }, next[at + req.batch]!);
    if (kind === Q_OFFSETS) sendPosition(next[at + req.position]!);
    if (kind === Q_END) next[kafka.status] = COMMITTING;
    if (kind === Q_ABORT) next[kafka.status] = ABORTING;
  }
  next.fill(0, at, at + REQUEST_LENGTH);
}

/** A request that can never take effect any more is the same as none; those that can stand first. */
export function tidyRequests(): void {
  for (let m = 0; m < REQUESTS; m += 1) {
    const at = requestAt(m);
    if (next[at + req.kind] !== Q_INIT && next[at + req.epochIs] === 0) next.fill(0, at, at + REQUEST_LENGTH);
  }
  if (next[requestAt(0) + req.kind] !== 0 || next[requestAt(1) + req.kind] === 0) return;
  next.copyWithin(requestAt(0), requestAt(1), requestAt(1) + REQUEST_LENGTH);
  next.fill(0, requestAt(1), requestAt(1) + REQUEST_LENGTH);
}
