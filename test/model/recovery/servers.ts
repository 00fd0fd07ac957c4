/** Postgres, Kafka and late requests in the model of recovery. */
import { fold, ITEM_B, TORN } from "./fold.ts";
import {
  breaks,
  kafka,
  LAST,
  next,
  own,
  ownerAt,
  pg,
  Q_COMMIT,
  Q_CONFIRM,
  Q_F1,
  Q_FLIP,
  REQUEST_LENGTH,
  REQUESTS,
  req,
  requestAt,
  rules,
  world,
} from "./state.ts";

/** 0, 1: the owners; 2, 3: the senders of requests 0 and 1. */
type Holder = number;

// ---------------------------------------------------------------------------------------------------------------- Postgres

export const holds = (holder: Holder): boolean => next[pg.tokenIs + holder] === 1;

/** @param holder null: whoever sent this F1 has thrown its token away */
export function takeToken(holder: Holder | null): void {
  next.fill(0, pg.tokenIs, pg.tokenIs + 2 + REQUESTS);
  next[pg.isOwned] = 1;
  if (holder !== null) next[pg.tokenIs + holder] = 1;
}

export interface Commit {
  readonly b: number;
  readonly item: number;
  readonly label: number;
  /** State that it was folded on, and after it. */
  readonly on: number;
  readonly state: number;
  readonly confirmed: number;
}

/** @returns false: 0 rows */
export function commit(holder: Holder, { b, item, label, on, state, confirmed }: Commit): boolean {
  if (!holds(holder) || next[pg.seq] !== b - 1) return false;
  if (on !== (b === 1 ? 0 : next[pg.truth + b - 1]))
    breaks("S6", `commit ${b} is accepted on memory that is not the row's`);
  next[pg.seq] = b;
  next[pg.item + b] = item;
  next[pg.verdict + b] = item === ITEM_B && !rules.wrong.verdictsNotJournaled ? 1 : 0;
  next[pg.label + b] = label;
  next[pg.truth + b] = state;
  next[pg.redo]! |= 1 << b;
  setConfirmed(confirmed);
  return true;
}

/** What the journal row of commit b says that its effects were. */
export function digestOf(b: number): string {
  const item = next[pg.item + b]!;
  return fold(b === 1 ? 0 : next[pg.truth + b - 1]!, item, item === ITEM_B).digest;
}

export function confirm(holder: Holder, seq: number): boolean {
  if (!holds(holder) || next[pg.seq] !== seq) return false;
  setConfirmed(seq);
  return true;
}

function setConfirmed(confirmed: number): void {
  next[pg.confirmed] = Math.max(next[pg.confirmed]!, confirmed);
  for (let b = 1; b <= next[pg.confirmed]!; b += 1) next[pg.redo]! &= ~(1 << b);
}

export function release(holder: Holder, seq: number): boolean {
  if (!holds(holder) || next[pg.seq] !== seq) return false;
  const [k, c, s] = [next[kafka.offset]! - 1, next[pg.confirmed]!, next[pg.snapshotSeq]!];
  if (seq > 0 && !(k === seq && c === seq && s === seq))
    breaks("S9", `a drained shard is given up with k = ${k}, P = ${seq}, c = ${c}, S = ${s}`);
  next[pg.isOwned] = 0;
  return true;
}

/** Manifest, pointer and pruning, in one transaction. @returns false: 0 rows */
export function flip(
  holder: Holder,
  of: { seq: number; pieces: readonly [number, number]; currentSeq: number },
): boolean {
  const { seq, pieces } = of;
  if (!rules.wrong.flipUnguarded && (!holds(holder) || next[pg.seq] !== of.currentSeq)) return false;
  if (seq < next[pg.snapshotSeq]!) breaks("S10", `the pointer falls from snapshot ${next[pg.snapshotSeq]} to ${seq}`);
  next[pg.snapshotSeq + 1] = next[pg.snapshotSeq]!;
  next.copyWithin(pg.snapshotPiece + 2, pg.snapshotPiece, pg.snapshotPiece + 2);
  next[pg.snapshotSeq] = seq;
  next[pg.snapshotPiece] = pieces[0];
  next[pg.snapshotPiece + 1] = pieces[1];
  const older = next[pg.snapshotSeq + 1]!;
  const covered = older === 0 ? seq : Math.min(seq, older);
  // The time for which rows are kept is not modelled: whatever may go goes at once.
  for (let b = 1; b <= covered; b += 1) {
    if (b >= next[pg.confirmed]! && !rules.wrong.prunedAboveConfirmed) break;
    next[pg.item + b] = next[pg.verdict + b] = next[pg.label + b] = 0;
  }
  return true;
}

/** The published snapshot. @returns its state, -1: a piece is missing */
export function loadSnapshot(): number {
  const [first, second] = [next[pg.snapshotPiece]!, next[pg.snapshotPiece + 1]!];
  if (first === 0 || second === 0) return -1;
  return first === second ? first - 1 : TORN;
}

// ------------------------------------------------------------------------------------------------------------------- Kafka

/** A transaction takes effect: the records of commits from..to, and the offsets of `to`. */
export function publish(commits: { from: number; to: number; label: number }): void {
  const { from, to, label } = commits;
  const k = Math.max(0, next[kafka.offset]! - 1);
  if (from <= to && from !== k + 1)
    breaks("S1", `records of commits ${from}..${to} are published after those up to ${k}`);
  if (to > next[pg.seq]!) breaks("S1", `records of commit ${to} are published, P = ${next[pg.seq]}`);
  next[kafka.offset] = to + 1;
  next[kafka.label] = label;
}

/** F2: what a predecessor had open is over, and no late EndTxn of it counts. */
export function fence(i: number): void {
  next.fill(0, kafka.late, kafka.lateFrom + 1);
  next[kafka.epochIs + i] = 1;
  next[kafka.epochIs + 1 - i] = 0;
}

export function arriveLate(): void {
  publish({ from: next[kafka.lateFrom]!, to: next[kafka.late]! - 1, label: next[kafka.lateLabel]! });
  next.fill(0, kafka.late, kafka.lateFrom + 1);
}

// ---------------------------------------------------------------------------------------------------------------- requests

export interface Sent {
  readonly kind: number;
  readonly seq: number;
  readonly commit?: Commit;
  readonly snapshot?: { readonly seq: number; readonly pieces: readonly [number, number] };
}

/** Sends a request to Postgres and loses its answer. @returns false when the run has no such fault left */
export function sendBlindly(from: number, sent: Sent): boolean {
  let m = 0;
  while (m < REQUESTS && next[requestAt(m) + req.kind] !== 0) m += 1;
  if (m === REQUESTS || next[world.unknowns] === 0) return false;
  next[world.unknowns]! -= 1;
  const at = requestAt(m);
  next[at + req.kind] = sent.kind;
  next[at + req.from] = from;
  next[at + req.seq] = sent.seq;
  next[at + req.item] = sent.commit?.item ?? 0;
  next[at + req.state] = sent.commit?.state ?? 0;
  next[at + req.on] = sent.commit?.on ?? 0;
  next[at + req.confirmed] = sent.commit?.confirmed ?? 0;
  next[at + req.snapshotSeq] = sent.snapshot?.seq ?? 0;
  next[at + req.snapshotPiece] = sent.snapshot?.pieces[0] ?? 0;
  next[at + req.snapshotPiece + 1] = sent.snapshot?.pieces[1] ?? 0;
  next[pg.tokenIs + 2 + m] = next[pg.tokenIs + from]!;
  return true;
}

export function deliver(m: number): void {
  const at = requestAt(m);
  const kind = next[at + req.kind]!;
  const seq = next[at + req.seq]!;
  const sender = 2 + m;
  if (kind === Q_F1) {
    if (seq === 0 || holds(sender)) takeToken(null);
  } else if (kind === Q_COMMIT) {
    commit(sender, {
      b: seq,
      item: next[at + req.item]!,
      label: next[at + req.from]! + 1,
      on: next[at + req.on]!,
      state: next[at + req.state]!,
      confirmed: next[at + req.confirmed]!,
    });
  } else if (kind === Q_CONFIRM) confirm(sender, seq);
  else if (kind === Q_FLIP) {
    const pieces = [next[at + req.snapshotPiece]!, next[at + req.snapshotPiece + 1]!] as const;
    flip(sender, { seq: next[at + req.snapshotSeq]!, pieces, currentSeq: seq });
  } else release(sender, seq);
  drop(m);
}

function drop(m: number): void {
  next.fill(0, requestAt(m), requestAt(m) + REQUEST_LENGTH);
  next[pg.tokenIs + 2 + m] = 0;
}

/** A request that can never take effect any more is the same as none; those that can stand first. */
export function tidyRequests(): void {
  for (let m = 0; m < REQUESTS; m += 1) {
    const kind = next[requestAt(m) + req.kind]!;
    const unconditional = kind === Q_F1 && next[requestAt(m) + req.seq] === 0;
    if (kind === 0 || (!holds(2 + m) && !unconditional && !(kind === Q_FLIP && rules.wrong.flipUnguarded))) drop(m);
  }
  if (next[requestAt(0) + req.kind] !== 0 || next[requestAt(1) + req.kind] === 0) return;
  next.copyWithin(requestAt(0), requestAt(1), requestAt(1) + REQUEST_LENGTH);
  next[pg.tokenIs + 2] = next[pg.tokenIs + 3]!;
  drop(1);
}

// -------------------------------------------------------------------------------------------------------------- properties

/**
 *   S2  k <= P, c <= k (S1 is checked as transactions take effect)
 *   S4  redo k+1..P is there
 *   S10 the pointer names a snapshot that is whole, and is the state of its commit; it never falls
 *   S11 the journal is there from min(c, k) on, and beyond the older of the two snapshots that are kept
 */
export function breach(): string {
  const [P, c, k] = [next[pg.seq]!, next[pg.confirmed]!, next[kafka.offset]! - 1];
  if (k > P || c > Math.max(0, k)) return `S2 k = ${k}, P = ${P}, c = ${c}`;
  for (let b = Math.max(0, k) + 1; b <= P; b += 1)
    if ((next[pg.redo]! & (1 << b)) === 0) return `S4 redo of commit ${b} is gone`;
  const s = next[pg.snapshotSeq]!;
  if (s > 0 && !rules.tolerate.includes("S10")) {
    const state = loadSnapshot();
    if (state < 0) return `S10 the pointer names snapshot ${s}, and a piece of it is missing`;
    if (state !== next[pg.truth + s]) return `S10 snapshot ${s} is not the state of commit ${s}`;
  }
  const older = next[pg.snapshotSeq + 1]!;
  const kept = s === 0 ? 0 : older === 0 ? s : Math.min(s, older);
  if (rules.tolerate.includes("S11")) return "";
  for (let b = 1; b <= P; b += 1)
    if (next[pg.item + b] === 0 && (b > kept || b >= Math.max(1, c)))
      return `S11 the journal row of commit ${b} is gone, c = ${c}, S = ${s}`;
  return "";
}

export function isEnd(state: Uint8Array): boolean {
  return state[pg.seq] === LAST && state[kafka.offset] === LAST + 1;
}

/** What owner i has written of its snapshot: state in each piece plus one. */
export function writtenPieces(i: number): [number, number] {
  const at = ownerAt(i) + own.snapshotPiece;
  return [next[at]!, next[at + 1]!];
}
