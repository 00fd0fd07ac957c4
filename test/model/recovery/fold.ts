/**
 * What machines do with what is taken, computed by the runtime's own code: `ShardModel` folds, captures and restores, `InputQueues` says what
 * may be taken next.
 *
 * Items: a record of input A, a record of input B, and a tick that fires a timer. Postgres refuses a row of B's record, so it takes effect as
 * a verdict alone. States are numbered as they are found; each question is asked once.
 */
import type { Rejection } from "../../../src/actors/judge.ts";
import { ShardModel } from "../../../src/actors/shard-model.ts";
import { InputQueues } from "../../../src/actors/take.ts";
import { INPUTS, op, testApp, testOptions } from "../../unit/actors/machines.ts";

export const [ITEM_A, ITEM_B, ITEM_TICK] = [1, 2, 3] as const;
export const ITEM_NAMES = ["", "the record of A", "the record of B, with its verdict,", "a tick"];
/** Numbers of states that can be kept. */
export const STATES_MAX = 30;
/** Of a snapshot whose pieces belong to different states. */
export const TORN = STATES_MAX + 1;

const app = testApp();
const options = testOptions(app);
const RECORDS = [
  op(app, 0, { n: 3, ts: 100 }, { topic: INPUTS[0] }),
  // Taken first when both are there, as it is older; taken second when its input was waited for in vain.
  op(app, 0, { n: 5, ts: 90 }, { topic: INPUTS[1] }),
];
const VERDICT: Rejection = { code: "ROW_REFUSED", message: "22003 numeric field overflow" };

interface Known {
  readonly bytes: Buffer;
  /** Items taken so far, bit n: item n. */
  readonly taken: number;
}
const states: Known[] = [];
const numbers = new Map<string, number>();
numberOf(new ShardModel(options), 0);

export interface Folded {
  readonly state: number;
  /** Digest of the effects, and stream time: what a replay compares. */
  readonly digest: string;
}
const folds = new Map<number, Folded>();

/** Folds one item; with a verdict it is not stepped. */
export function fold(state: number, item: number, verdict: boolean): Folded {
  const key = (state * 4 + item) * 2 + (verdict ? 1 : 0);
  const known = folds.get(key);
  if (known !== undefined) return known;
  const folded = state === TORN ? { state: TORN, digest: "of a torn state" } : foldNow(state, item, verdict);
  folds.set(key, folded);
  return folded;
}

function foldNow(state: number, item: number, verdict: boolean): Folded {
  const { bytes, taken } = states[state]!;
  const model = ShardModel.restore(options, [bytes], app.version);
  model.begin();
  if (item === ITEM_TICK) model.takeTick(130);
  else model.takeRecord(RECORDS[item - 1]!, verdict ? VERDICT : undefined);
  const { digest } = model.finish();
  model.accept();
  return { state: numberOf(model, taken | (1 << item)), digest: `${digest} ${model.streamTimeMs}` };
}

function numberOf(model: ShardModel, taken: number): number {
  const bytes = Buffer.concat([...model.capture().pieces(1 << 20)]);
  const key = `${taken} ${bytes.toString("latin1")}`;
  let number = numbers.get(key);
  if (number === undefined) {
    number = states.length;
    if (number > STATES_MAX) throw new Error(`more than ${STATES_MAX} states of the machines`);
    states.push({ bytes, taken });
    numbers.set(key, number);
  }
  return number;
}

const takes = new Map<number, readonly number[]>();

/** What may be taken next, by whatever has arrived when: the choice that only the journal knows. */
export function itemsToTake(state: number): readonly number[] {
  let items = takes.get(state);
  if (items === undefined) {
    items = itemsNow(state);
    takes.set(state, items);
  }
  return items;
}

function itemsNow(state: number): number[] {
  const { bytes, taken } = states[state]!;
  const items = new Set<number>();
  for (let arrived = 0; arrived < 4; arrived += 1) {
    const queues = new InputQueues({ topics: INPUTS, inputWaitMsMax: 10, recordsHigh: 9, bytesHigh: () => 1e6 });
    for (const [n, topic] of INPUTS.entries()) {
      const left = taken & (1 << (n + 1)) ? [] : [RECORDS[n]!];
      const judged = arrived & (1 << n) ? left : [];
      const caughtUp = judged.length === left.length;
      queues.enqueue(topic, judged, { nextOffset: caughtUp ? 1n : 0n, caughtUp, askedAtMs: 0, answeredAtMs: 0 });
    }
    for (const nowMs of [0, 10]) {
      const next = queues.next(nowMs);
      if (next.kind === "take") items.add(next.topic === INPUTS[0] ? ITEM_A : ITEM_B);
    }
    const due = ShardModel.restore(options, [bytes], app.version).nextDueMs;
    if (queues.caughtUp(0, 10) && due !== null && due <= 130) items.add(ITEM_TICK);
  }
  return [...items].sort();
}
