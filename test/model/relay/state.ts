/** The state of the model of the relay, and what a run switches on or off. model.ts says what is modelled. Positions are numbers of log.ts. */
import { Layout } from "../engine/layout.ts";
import { EVENTS_MAX, POSITIONS_MAX, ROWS, TRANSACTIONS_MAX } from "./log.ts";

export const LOG_LENGTH = 8;
export const REQUESTS = 2;
const SESSION_BATCHES = 15;

export const layout = new Layout();

export const pg = {
  /** Database transactions committed. */
  flushed: layout.field(TRANSACTIONS_MAX),
  /** Of these, what the slot was told. */
  confirmed: layout.field(TRANSACTIONS_MAX),
  /** `started` of the relay's row. */
  started: layout.field(1),
  /** Relay + 1 that has the lock, or streams from the slot; 0: none. */
  lock: layout.field(2),
  stream: layout.field(2),
};

export const kafka = {
  status: layout.field(3),
  /** Position plus one, 0: none; committed, and pending. */
  position: layout.field(POSITIONS_MAX + 1),
  pending: layout.field(POSITIONS_MAX + 1),
  /** Relay i's producer epoch is the current one. */
  epochIs: layout.field(1, 2),
  /** Batches appended under the current epoch. */
  batches: layout.field(SESSION_BATCHES),
  /** Rows in the topic: 0 none, else row | DECIDED. */
  log: layout.field(15, LOG_LENGTH),
};
export const DECIDED = 8;
export const [DONE, ONGOING, COMMITTING, ABORTING] = [0, 1, 2, 3] as const;

const relayFirst = layout.fields;
const relative = (max: number, count = 1): number => layout.field(max, count) - relayFirst;
export const own = {
  pc: relative(15),
  /** Position read, plus one. */
  read: relative(POSITIONS_MAX + 1),
  /** Where its session began, behind how many transactions its stream, and how far it has taken and cut events. */
  position: relative(POSITIONS_MAX),
  skipped: relative(TRANSACTIONS_MAX),
  taken: relative(EVENTS_MAX),
  cut: relative(EVENTS_MAX),
  /** The transaction under way is the one that writes the position again. */
  isFirst: relative(1),
  /** Batches that it has sent in this session. */
  batches: relative(SESSION_BATCHES),
};
export const RELAY_LENGTH = layout.fields - relayFirst;
layout.copyOf(relayFirst, RELAY_LENGTH);
export const relayAt = (i: number): number => relayFirst + i * RELAY_LENGTH;

export const [
  IDLE,
  FENCE,
  FENCE_AGAIN,
  POSITION,
  INSPECT,
  LEFTOVERS,
  ABORT_LEFTOVERS,
  PRODUCE,
  OFFSETS,
  END_TXN,
  NOTE,
  OPEN,
  STREAM,
  TELL,
  HALTED,
  DOUBT,
] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15] as const;

const requestFirst = layout.fields;
const requestField = (max: number, count = 1): number => layout.field(max, count) - requestFirst;
export const req = {
  kind: requestField(5),
  from: requestField(1),
  firstRow: requestField(ROWS),
  lastRow: requestField(ROWS),
  batch: requestField(SESSION_BATCHES),
  position: requestField(POSITIONS_MAX),
  epochIs: requestField(1),
};
export const REQUEST_LENGTH = layout.fields - requestFirst;
layout.copyOf(requestFirst, REQUEST_LENGTH);
export const requestAt = (m: number): number => requestFirst + m * REQUEST_LENGTH;
export const [Q_INIT, Q_PRODUCE, Q_OFFSETS, Q_END, Q_ABORT] = [1, 2, 3, 4, 5] as const;
export const REQUEST_NAMES = ["", "InitProducerId", "Produce", "TxnOffsetCommit", "EndTxn", "EndTxn (abort)"];

export const world = {
  crashes: layout.field(3),
  unknowns: layout.field(3),
  timeouts: layout.field(3),
  /** Sessions of the lock that Postgres ends while their relay does not know. */
  lockLosses: layout.field(3),
};

export const current = layout.newState();
export const next = layout.newState();

export interface Rules {
  readonly crashes: number;
  readonly unknowns: number;
  readonly timeouts: number;
  readonly lockLosses: number;
  readonly wrong: Readonly<Partial<Record<Wrong, true>>>;
  readonly tolerate: readonly string[];
}

export type Wrong =
  | "positionBeforeFence"
  | "notFenced"
  | "toldBeforePublished"
  | "underWayLeftOut"
  | "offsetsRepeated"
  | "haltsAtOnce"
  | "positionWrittenApart";

const RUNTIME: Rules = { crashes: 1, unknowns: 1, timeouts: 1, lockLosses: 1, wrong: {}, tolerate: [] };

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
