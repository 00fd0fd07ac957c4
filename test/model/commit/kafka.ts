/**
 * Kafka in the model: transactions of version 1, the group's offsets and the output topic.
 *
 * EndTxn does not change the producer epoch. InitProducerId aborts what is open, and is answered only when nothing is being completed. The
 * markers of records and of offsets are written one by one after EndTxn was answered. A time-out aborts, and raises the epoch. Produce and
 * TxnOffsetCommit need an open transaction of the current epoch (brokers verify it since KIP-890). EndTxn on a transaction that is
 * committed already is answered with success. Of pending offsets those later in the log stay.
 */
import {
  ABORTED,
  breaks,
  COMMITTED,
  DECIDED,
  EMPTY,
  idOfEntry,
  kafka,
  LAST,
  LOG_LENGTH,
  logEntry,
  next,
  ONGOING,
  PREPARE_ABORT,
  PREPARE_COMMIT,
  REQUESTS,
  req,
  requestAt,
  rules,
} from "./state.ts";

/** Every producer of id j so far is fenced. */
export function raiseEpoch(j: number): void {
  next[kafka.epochIs + j] = 0;
  next[kafka.epochIs + 2 + j] = 0;
  next[kafka.appended + j] = 0;
  for (let m = 0; m < REQUESTS; m += 1) if (next[requestAt(m) + req.id] === j) next[requestAt(m) + req.epochIs] = 0;
}

export function isCompleting(status: number): boolean {
  return status === PREPARE_COMMIT || status === PREPARE_ABORT;
}

/** InitProducerId. @returns true: answered with a new epoch; false: try again later */
export function initProducerId(j: number): boolean {
  const status = next[kafka.status + j]!;
  if (isCompleting(status)) return false;
  raiseEpoch(j);
  next[kafka.status + j] = status === ONGOING ? PREPARE_ABORT : EMPTY;
  return status !== ONGOING;
}

/** A batch that was appended under this epoch already is recognised by its sequence number. */
export function produce(j: number, commits: { from: number; to: number }, labelOf: (b: number) => number): void {
  for (let b = commits.from; b <= commits.to; b += 1) {
    if (rules.silentLast && b === LAST) continue;
    if (b <= next[kafka.appended + j]!) continue;
    let n = 0;
    while (n < LOG_LENGTH && next[kafka.log + n] !== 0) n += 1;
    if (n === LOG_LENGTH) {
      breaks("BOUND", "the output topic is longer than the model holds");
      return;
    }
    next[kafka.log + n] = logEntry(j, b, labelOf(b));
    next[kafka.appended + j] = b;
  }
}

export function sendOffsets(j: number, seq: number, label: number): void {
  next[kafka.pending + j] = seq + 1;
  next[kafka.pendingLabel + j] = label;
  if (rules.ids === 1) return;
  next[kafka.pendingOrder + j] = 2;
  if (next[kafka.pendingOrder + 1 - j] === 2) next[kafka.pendingOrder + 1 - j] = 1;
  next[kafka.latest] = 0;
}

export function endTxn(j: number): void {
  next[kafka.status + j] = PREPARE_COMMIT;
  settle(j);
}

export function hasOpenRecords(j: number): boolean {
  for (let n = 0; n < LOG_LENGTH; n += 1) if (isOpen(next[kafka.log + n]!, j)) return true;
  return false;
}

function isOpen(entry: number, j: number): boolean {
  return entry !== 0 && (entry & DECIDED) === 0 && idOfEntry(entry) === j;
}

function settle(j: number): void {
  if (next[kafka.status + j] === PREPARE_COMMIT && !hasOpenRecords(j) && next[kafka.pending + j] === 0)
    next[kafka.status + j] = COMMITTED;
}

export function writeRecordMarkers(j: number): void {
  for (let n = 0; n < LOG_LENGTH; n += 1) if (isOpen(next[kafka.log + n]!, j)) next[kafka.log + n]! |= DECIDED;
  settle(j);
}

export function writeOffsetMarkers(j: number): void {
  const value = next[kafka.pending + j]!;
  const label = next[kafka.pendingLabel + j]!;
  const isLater = next[kafka.pendingOrder + j] === 2;
  next[kafka.pending + j] = 0;
  next[kafka.pendingLabel + j] = 0;
  next[kafka.pendingOrder + j] = 0;
  if (rules.ids === 1 || isLater || next[kafka.latest] === 0) {
    for (let input = 0; input < 2; input += 1) {
      if (rules.wrong.touchedInputsOnly && value > 1 && value - 1 !== (input === 0 ? 1 : 3)) continue;
      next[kafka.offset + input] = value;
      next[kafka.offsetLabel + input] = label;
    }
    if (isLater) next[kafka.latest] = 1;
  }
  settle(j);
}

export function completeAbort(j: number): void {
  let kept = 0;
  for (let n = 0; n < LOG_LENGTH; n += 1) {
    const entry = next[kafka.log + n]!;
    if (entry !== 0 && !isOpen(entry, j)) next[kafka.log + kept++] = entry;
  }
  next.fill(0, kafka.log + kept, kafka.log + LOG_LENGTH);
  next[kafka.pending + j] = 0;
  next[kafka.pendingLabel + j] = 0;
  next[kafka.pendingOrder + j] = 0;
  next[kafka.status + j] = ABORTED;
}
