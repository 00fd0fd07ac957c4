/**
 * The state of the model of recovery, and what a run switches on or off. model.ts says what is modelled.
 *
 * Conventions as in the model of the commit protocol: tokens and producer epochs are "the one that stands" or not. Numbers of machine states
 * are those of fold.ts; where a state may be missing it is kept plus one.
 */
import { Layout } from "../engine/layout.ts";
import { TORN } from "./fold.ts";

export const LAST = 3;
export const REQUESTS = 2;
export const NONE = LAST + 1;
const STATE = TORN;

export const layout = new Layout();

function perCommit(max: number): number {
  return layout.field(max, LAST) - 1;
}

export const pg = {
  seq: layout.field(LAST),
  confirmed: layout.field(LAST),
  /** Journal row: item taken, 0: there is no row. */
  item: perCommit(3),
  /** Journal row: it has the verdict on B's record. */
  verdict: perCommit(1),
  /** Journal row: owner + 1 whose token made it. */
  label: perCommit(2),
  /** What nobody stores: the state after the commit, as its owner folded it. */
  truth: perCommit(STATE),
  redo: layout.field(14),
  tokenIs: layout.field(1, 2 + REQUESTS),
  /** The row names an owner. */
  isOwned: layout.field(1),
  /** Published snapshots, the pointer's first: seq (0: none), and the state in each piece plus one (0: missing). */
  snapshotSeq: layout.field(LAST, 2),
  snapshotPiece: layout.field(STATE + 1, 4),
};

export const kafka = {
  /** k + 1, 0: the group has no offsets; and the label that stands beside. */
  offset: layout.field(LAST + 1),
  label: layout.field(2),
  /** A transaction whose EndTxn may still arrive: its k + 1, 0: none; its label and first commit. */
  late: layout.field(LAST + 1),
  lateLabel: layout.field(2),
  lateFrom: layout.field(LAST + 1),
  epochIs: layout.field(1, 2),
};

const ownerFirst = layout.fields;
const relative = (max: number, count = 1): number => layout.field(max, count) - ownerFirst;
export const own = {
  pc: relative(15),
  memory: relative(NONE),
  memoryState: relative(STATE),
  /** State with the fold whose outcome is not known, plus one; 0: none. */
  memoryPending: relative(STATE + 1),
  readSeq: relative(LAST),
  readConfirmed: relative(LAST),
  readOffset: relative(LAST + 1),
  readLabel: relative(2),
  publishFrom: relative(LAST + 1),
  publishTo: relative(LAST),
  publishLabel: relative(2),
  /** Restore: loaded or replayed up to here, and the state. */
  loadedSeq: relative(LAST),
  loadedState: relative(STATE),
  /** S as this owner knows it. */
  snapshotKnown: relative(LAST),
  /** Snapshot under way: stage, seq, captured state, and what its first piece holds, plus one. */
  snapshotStage: relative(4),
  snapshotSeq: relative(LAST),
  snapshotState: relative(STATE),
  snapshotPiece: relative(STATE + 1, 2),
};
export const OWNER_LENGTH = layout.fields - ownerFirst;
layout.copyOf(ownerFirst, OWNER_LENGTH);
export const ownerAt = (i: number): number => ownerFirst + i * OWNER_LENGTH;

export const [
  IDLE,
  HANDOVER,
  F1,
  F1_AGAIN,
  FENCE,
  R1,
  READ,
  REDO,
  RESTORE,
  REPLAY,
  RUN,
  PUBLISH,
  DRAIN,
  DOUBT,
  HALTED,
] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14] as const;
/** Stages of a snapshot: the piece to write next, all are written, it was found that the shard is lost. */
export const [FIRST_PIECE, SECOND_PIECE, WRITTEN, FOUND_LOST] = [1, 2, 3, 4] as const;

const requestFirst = layout.fields;
const requestField = (max: number, count = 1): number => layout.field(max, count) - requestFirst;
export const req = {
  kind: requestField(5),
  from: requestField(1),
  /** F1: conditional. Others: the seq that their guard names, or the commit. */
  seq: requestField(LAST),
  item: requestField(3),
  state: requestField(STATE),
  on: requestField(STATE),
  confirmed: requestField(LAST),
  snapshotSeq: requestField(LAST),
  snapshotPiece: requestField(STATE + 1, 2),
};
export const REQUEST_LENGTH = layout.fields - requestFirst;
layout.copyOf(requestFirst, REQUEST_LENGTH);
export const requestAt = (m: number): number => requestFirst + m * REQUEST_LENGTH;
export const [Q_F1, Q_COMMIT, Q_CONFIRM, Q_FLIP, Q_RELEASE] = [1, 2, 3, 4, 5] as const;
export const REQUEST_NAMES = ["", "F1", "commit", "confirm", "flip of the snapshot pointer", "release"];

export const world = {
  assigned: layout.field(1),
  crashes: layout.field(3),
  unknowns: layout.field(3),
  rebalances: layout.field(3),
};

export const current = layout.newState();
export const next = layout.newState();

export interface Rules {
  readonly crashes: number;
  readonly unknowns: number;
  readonly rebalances: number;
  /** Owners that have lost and can do nothing else find it out at once: model.ts, `reduce`. */
  readonly reduce: boolean;
  readonly wrong: Readonly<Partial<Record<Wrong, true>>>;
  readonly tolerate: readonly string[];
}

export type Wrong =
  | "flippedEarly"
  | "verdictsNotJournaled"
  | "prunedAboveConfirmed"
  | "piecesOfLiveState"
  | "flipUnguarded"
  | "haltsAtOnce"
  | "releasedUnfinished"
  | "takenAnewInReplay"
  | "pendingFoldKept";

const RUNTIME: Rules = { crashes: 1, unknowns: 1, rebalances: 1, reduce: false, wrong: {}, tolerate: [] };

/** The run that is under way. */
export let rules: Rules = RUNTIME;
export function setRules(of: Partial<Rules>): void {
  rules = { ...RUNTIME, ...of };
}

export function start(): void {
  next.set(current);
}

let fault = "";
export function breaks(property: string, text: string): void {
  if (fault === "" && !rules.tolerate.includes(property)) fault = `${property} ${text}`;
}
export function takeFault(): string {
  const taken = fault;
  fault = "";
  return taken;
}
