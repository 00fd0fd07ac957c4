/**
 * The state of the model of the commit protocol, and what a run switches on or off. model.ts says what is modelled.
 *
 * One run at a time: `current`, `next` and `rules` are the registers of the model.
 *
 * Tokens and producer epochs are kept as "is the one that stands" or not, so that the graph is finite although every acquire makes new
 * ones. A label stands for the content of a commit and for the token it was made under: 1 and 2 of the two owners, after a failover other ones.
 */
import { Layout } from "../engine/layout.ts";

/** Commits: 1 moves input A, 2 is a tick and moves nothing, 3 moves input B. */
export const LAST = 3;
export const LABELS = 4;
/** Records that the log holds at most, aborted ones included until they are cut out. */
export const LOG_LENGTH = 8;
export const REQUESTS = 2;
/** No memory: no seq of a commit. */
export const NONE = LAST + 1;

export const layout = new Layout();

/** One value for each of the commits 1..LAST, at [result + b]. */
function perCommit(max: number): number {
  return layout.field(max, LAST) - 1;
}

/** Postgres: what a failover undoes as a whole. */
const pgFirst = layout.fields;
export const pg = {
  first: pgFirst,
  seq: layout.field(LAST),
  confirmed: layout.field(LAST),
  /** Label of the journal row of a commit, 0: there is none. */
  journal: perCommit(LABELS),
  /** How often the app's rows of a commit are there. */
  rows: perCommit(2),
  /** Bit b: redo of commit b is there. */
  redo: layout.field(14),
  /** The token in the row is the one of owner 0, owner 1, the sender of request 0, the sender of request 1. */
  tokenIs: layout.field(1, 2 + REQUESTS),
  /** Used only where ownership is an epoch without a token. */
  epoch: layout.field(31),
};
export const PG_LENGTH = layout.fields - pgFirst;

/** Earlier states of Postgres, as many as a failover can go back to. */
export const backup = {
  latest: layout.copyOf(pgFirst, PG_LENGTH),
  earlier: layout.copyOf(pgFirst, PG_LENGTH),
  count: layout.field(2),
};
/** Epochs held by owners and requests, where there is no token. */
export const epochHeld = layout.field(31, 2 + REQUESTS);

/** Kafka, per transactional id j where nothing else is said. */
export const kafka = {
  status: layout.field(5, 2),
  /** Seq + 1 of the offsets pending in the transaction, 0: none. */
  pending: layout.field(LAST + 1, 2),
  pendingLabel: layout.field(LABELS, 2),
  /** Whose pending offsets are later in the log: 2 later, 1 earlier, 0 none. */
  pendingOrder: layout.field(2, 2),
  /** Producer epoch of owner i for id j is the current one: [i * 2 + j]. */
  epochIs: layout.field(1, 4),
  /** Greatest commit appended under the current producer epoch: a batch that is sent again is recognised. */
  appended: layout.field(LAST, 2),
  /** Per input: seq + 1 in the metadata of the committed offset, 0: no offset. */
  offset: layout.field(LAST + 1, 2),
  offsetLabel: layout.field(LABELS, 2),
  /** The committed offsets are those written last. */
  latest: layout.field(1),
  /** The output topic: 0 none, else RECORD | DECIDED | id | commit | label. */
  log: layout.field(255, LOG_LENGTH),
};
export const [EMPTY, ONGOING, PREPARE_COMMIT, PREPARE_ABORT, COMMITTED, ABORTED] = [0, 1, 2, 3, 4, 5] as const;
export const RECORD = 128;
/** Committed, its marker written. */
export const DECIDED = 64;

export function logEntry(j: number, b: number, label: number): number {
  return RECORD | (j << 5) | (b << 2) | (label - 1);
}
export const idOfEntry = (entry: number): number => (entry >> 5) & 1;
export const commitOfEntry = (entry: number): number => (entry >> 2) & 3;
export const labelOfEntry = (entry: number): number => (entry & 3) + 1;

/** Fields of one owner, relative to `ownerAt(i)`. */
const ownerFirst = layout.fields;
export const own = {
  /** What it does next. */
  pc: relative(63),
  /** Memory: seq, label of that commit, and the label of a fold of the next one whose outcome is not known, 0: there is none. */
  memory: relative(NONE),
  memoryLabel: relative(LABELS),
  memoryPending: relative(LABELS),
  /** Read in acquire: P, c, redo, journal, Kafka's offsets and their labels. */
  readSeq: relative(LAST),
  readConfirmed: relative(LAST),
  readRedo: relative(14),
  readJournal: relative(LABELS, LAST) - 1,
  readOffset: relative(LAST + 1, 2),
  readOffsetLabel: relative(LABELS, 2),
  /** Records to publish: label of commit b. */
  toPublish: relative(LABELS, LAST) - 1,
  /** Per transaction under way: stage, first and last commit in it. */
  stage: relative(7, 2),
  firstCommit: relative(LAST + 1, 2),
  lastCommit: relative(LAST, 2),
};
export const OWNER_LENGTH = layout.fields - ownerFirst;
layout.copyOf(ownerFirst, OWNER_LENGTH);

function relative(max: number, count = 1): number {
  return layout.field(max, count) - ownerFirst;
}
export function ownerAt(i: number): number {
  return ownerFirst + i * OWNER_LENGTH;
}

/** An owner's `pc`. FRESH and AGAIN + n: step n of acquire, on assignment or again; F2_DOUBT is added before a further try of F2. */
export const [IDLE, HALTED, DOUBT, RUN, PUBLISH, UNGUARDED, DRAIN, CHECK] = [0, 1, 2, 3, 4, 5, 6, 7] as const;
export const [FRESH, AGAIN, F2_DOUBT] = [8, 16, 32] as const;
/** Stages of a transaction. */
export const [LEFTOVERS, ABORT_LEFTOVERS, ADD, PRODUCE, OFFSETS, EARLY_CONFIRM, END] = [1, 2, 3, 4, 5, 6, 7] as const;

/** A request whose outcome its sender does not know, relative to `requestAt(m)`. */
const requestFirst = layout.fields;
export const req = {
  kind: requestField(9),
  from: requestField(1),
  /** Transactional id; 3: it went to Postgres. */
  id: requestField(3),
  a: requestField(LAST + 1),
  b: requestField(LAST + 1),
  labelA: requestField(LABELS, LAST) - 1,
  /** Confirmed, of a commit. */
  confirmed: requestField(LAST),
  /** Its producer epoch is the current one. */
  epochIs: requestField(1),
};
export const REQUEST_LENGTH = layout.fields - requestFirst;
layout.copyOf(requestFirst, REQUEST_LENGTH);

function requestField(max: number, count = 1): number {
  return layout.field(max, count) - requestFirst;
}
export function requestAt(m: number): number {
  return requestFirst + m * REQUEST_LENGTH;
}
export const [Q_F1, Q_COMMIT, Q_CONFIRM, Q_INIT, Q_ADD, Q_PRODUCE, Q_OFFSETS, Q_END, Q_ABORT] = [
  1, 2, 3, 4, 5, 6, 7, 8, 9,
] as const;
export const REQUEST_NAMES = [
  "",
  "F1",
  "commit",
  "confirm",
  "InitProducerId",
  "AddPartitionsToTxn",
  "Produce",
  "TxnOffsetCommit",
  "EndTxn",
  "EndTxn (abort)",
];

/** The group's coordinator, the faults that are left, and what a failover has done. */
export const world = {
  assigned: layout.field(1),
  crashes: layout.field(3),
  unknowns: layout.field(3),
  timeouts: layout.field(3),
  rebalances: layout.field(3),
  failovers: layout.field(1),
  expiries: layout.field(1),
  failedOver: layout.field(1),
  /** 1 + records visible when log and Postgres first differed. */
  diverged: layout.field(LAST + 1),
};

export const current = layout.newState();
export const next = layout.newState();

export type AcquireStep = "F1" | "F2" | "R2" | "R1" | "redo";

/** What a run bounds, and what it does otherwise than the runtime. */
export interface Rules {
  readonly crashes: number;
  /** Requests whose outcome stays unknown to their sender. */
  readonly unknowns: number;
  readonly timeouts: number;
  readonly rebalances: number;
  readonly failovers: number;
  /** Postgres transactions that a failover can undo. */
  readonly failoverDepth: 1 | 2;
  readonly expiries: number;
  /** Owners that have lost and can do nothing else find it out at once: properties.ts, `reduce`. */
  readonly reduce: boolean;
  /** Transactional ids of the shard, used in turn. */
  readonly ids: 1 | 2;
  /** The last commit publishes no record. */
  readonly silentLast: boolean;
  readonly order: readonly AcquireStep[];
  /** What is wrong in this run. */
  readonly wrong: Readonly<Partial<Record<Wrong, true>>>;
  /** Properties that are not checked, so that what follows from a mutant can be seen. */
  readonly tolerate: readonly string[];
}

/** Each a deviation from the runtime. */
export type Wrong =
  | "idPerOwner"
  | "clientChecksToken"
  | "noSeqInGuard"
  | "endTxnRepeated"
  | "producerReused"
  | "redoDeletedEarly"
  | "positionsOnly"
  | "touchedInputsOnly"
  | "noHeartbeat"
  | "epochWithoutToken"
  | "oneIdNotFenced"
  | "endOutOfOrder"
  | "offsetsOutOfOrder"
  | "produceOutOfOrder"
  | "memoryBySeqAlone"
  | "confirmWithoutSeq"
  | "ownerNeverLooks"
  | "f1Unconditional"
  | "noSeqZero"
  | "tokenNotReadBetweenF2"
  | "haltsAtOnce"
  | "tokenNotCompared"
  | "offsetsRepeated"
  | "againWhenZeroRows";

export const RUNTIME: Rules = {
  crashes: 1,
  unknowns: 1,
  timeouts: 1,
  rebalances: 1,
  failovers: 0,
  failoverDepth: 1,
  expiries: 0,
  reduce: false,
  ids: 1,
  silentLast: false,
  order: ["F1", "F2", "R2", "R1", "redo"],
  wrong: {},
  tolerate: [],
};

/** The run that is under way. */
export let rules: Rules = RUNTIME;
export function setRules(of: Partial<Rules>): void {
  rules = { ...RUNTIME, ...of };
}

/** Starts the next successor of `current`. */
export function start(): void {
  next.set(current);
}

let fault = "";
/** The step under construction breaks a property by itself. */
export function breaks(property: string, text: string): void {
  if (fault === "" && !rules.tolerate.includes(property)) fault = `${property} ${text}`;
}
export function takeFault(): string {
  const taken = fault;
  fault = "";
  return taken;
}
