/**
 * The rules that the model takes from the runtime's own code: `reconcile`, and what becomes of memory in an acquire (`passOn`, `reuse`).
 *
 * The runtime's functions speak of topics, tokens and offsets, the model of small numbers. Each question is asked once and its answer kept,
 * so that millions of states cost a few hundred calls.
 */
import { formatOffsetMetadata } from "../../../src/actors/offset-metadata.ts";
import type { ShardModel } from "../../../src/actors/shard-model.ts";
import { type Reconciliation, reconcile } from "../../../src/runtime/reconcile.ts";
import { type Memory, passOn, reuse } from "../../../src/runtime/restore.ts";
import { LAST, NONE } from "./state.ts";

const INSTANCE = "11111111-1111-4111-8111-111111111111";
const TOPICS = ["a", "b"];

/** Position of each input after commit b: 1 moves a, 3 moves b. */
function positionsAfter(b: number): Record<string, bigint> {
  return { a: b >= 1 ? 1n : 0n, b: b >= 3 ? 1n : 0n };
}

const tokenOf = (label: number): string => `token-${label}`;

/** What an owner has read in acquire, numbers as in the state. */
export interface Read {
  readonly seq: number;
  readonly confirmed: number;
  /** Bit b: redo of commit b. */
  readonly redo: number;
  /** Label of journal row b, at index b - 1; 0: none. */
  readonly journal: readonly number[];
  /** Per input: seq + 1 in the metadata, 0: no offset. */
  readonly offsets: readonly [number, number];
  readonly labels: readonly [number, number];
  /** A mutant: the token in the metadata is taken for the journal's. */
  readonly tokenNotCompared: boolean;
}

const decisions = new Map<number, Reconciliation>();

export function decide(read: Read): Reconciliation {
  const { seq, confirmed, redo, journal, offsets, labels, tokenNotCompared } = read;
  let key = (seq * 4 + confirmed) * 16 + redo;
  for (const label of journal) key = key * 5 + label;
  key = ((key * 5 + offsets[0]) * 5 + offsets[1]) * 25 + labels[0] * 5 + labels[1];
  key = key * 2 + (tokenNotCompared ? 1 : 0);
  const known = decisions.get(key);
  if (known !== undefined) return known;
  const committed = Object.fromEntries(
    TOPICS.map((topic, input) => {
      const k = offsets[input]! - 1;
      const metadata = formatOffsetMetadata({ instance: INSTANCE, seq: k, token: tokenOf(labels[input]!) });
      return [topic, k < 0 ? { offset: null, metadata: "" } : { offset: positionsAfter(k)[topic]!, metadata }];
    }),
  );
  const decision = reconcile({
    instance: INSTANCE,
    topics: TOPICS,
    committed,
    seq,
    confirmed,
    positions: positionsAfter(seq),
    redoSeqs: [1, 2, 3].filter((b) => redo & (1 << b)),
    journalToken: (k) => {
      const label = tokenNotCompared ? labels[0] : journal[k - 1]!;
      return label === 0 ? null : tokenOf(label);
    },
  });
  decisions.set(key, decision);
  return decision;
}

/** keep: the memory stands at the row's commit; accept: with the undecided fold; discard: without it; load: snapshot and journal. */
export type Reuse = "keep" | "accept" | "discard" | "load";

const REUSE: readonly Reuse[] = Array.from({ length: (NONE + 1) * (LAST + 1) * 2 }, (_, index) => {
  const pending = index % 2 === 1;
  const row = (index >> 1) % (LAST + 1);
  const seq = (index >> 1) / (LAST + 1);
  if (Math.floor(seq) === NONE) return "load";
  let called: Reuse = "keep";
  const model = {
    accept: () => {
      called = "accept";
    },
    discard: () => {
      called = "discard";
    },
  } as unknown as ShardModel; // `reuse` settles the undecided fold, and does nothing else with it
  const memory: Memory = { model, token: "mine", seq: Math.floor(seq), pending };
  return reuse(memory, { token: "mine", seq: row }) === null ? "load" : called;
});

/** What an owner does with the memory that stayed its own, when the row stands at `row`. */
export function reuseOf(memory: { seq: number; pending: boolean }, row: number): Reuse {
  return REUSE[(memory.seq * (LAST + 1) + row) * 2 + (memory.pending ? 1 : 0)]!;
}

/** Whether memory made under a token outlives an F1: [the F1 replaced another token, the F1 replaced that one]. */
const PASSES: readonly boolean[] = ["another", "old"].map((replaced) => {
  const memory: Memory = { model: {} as ShardModel, token: "old", seq: 1, pending: false };
  return passOn(memory, { replaced, token: "new" })?.token === "new";
});

export function memoryOutlivesF1(replacedOwnToken: boolean): boolean {
  return PASSES[replacedOwnToken ? 1 : 0]!;
}
