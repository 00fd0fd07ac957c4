/**
 * What a new owner finds when it lays Kafka's offsets beside Postgres' row: the decision of acquire step 4, and nothing else.
 *
 * Pure: the model checker and the runtime call the same function.
 *
 *   k = seq in the metadata of Kafka's offsets, P = seq in Postgres, c = confirmed.
 *   (a) all inputs carry the same k = P, with P's positions                       -> clean
 *   (b) all carry the same k, c <= k < P, redo k+1..P complete                    -> publish redo k+1..P, once
 *       In (a) and (b) the journal row of k (k > 0) has the token of the metadata.
 *   (c) no input has an offset and P = 0                                          -> first: write the start positions with seq 0
 *   (d) no input has an offset and c = P > 0                                      -> rewrite P's offsets (they had expired), warn
 *   (e) anything else                                                            -> halt
 */
import { parseOffsetMetadata } from "../actors/offset-metadata.ts";
import type { CommittedOffset } from "../actors/ports.ts";
import type { Positions } from "../actors/record.ts";

export type Reconciliation =
  | { readonly kind: "clean" }
  | { readonly kind: "publish"; readonly from: number; readonly to: number }
  | { readonly kind: "first" }
  | { readonly kind: "rewrite" }
  | { readonly kind: "halt"; readonly why: string };

export interface ReconcileRequest {
  readonly instance: string;
  /** Input topics in order of definition. */
  readonly topics: readonly string[];
  readonly committed: Readonly<Record<string, CommittedOffset>>;
  /** P, c and P's positions. */
  readonly seq: number;
  readonly confirmed: number;
  readonly positions: Positions;
  /** Seqs of the redo rows above c, ascending. */
  readonly redoSeqs: readonly number[];
  /** Token of journal row k; null when there is no such row. */
  readonly journalToken: (k: number) => string | null;
}

export function reconcile(request: ReconcileRequest): Reconciliation {
  const { topics, committed, seq: P, confirmed: c, positions } = request;
  const offsets = topics.map((topic) => committed[topic] ?? { offset: null, metadata: "" });
  const absent = offsets.filter((o) => o.offset === null).length;

  if (absent === topics.length) {
    if (P === 0) return { kind: "first" };
    if (c === P) return { kind: "rewrite" };
    return halt(`Kafka has no offsets, and commits ${c + 1}..${P} are not known to be in Kafka`);
  }
  if (absent > 0) return halt(`Kafka has offsets for some inputs only`);

  const marks = offsets.map((o) => parseOffsetMetadata(o.metadata));
  const mark = marks[0];
  if (!mark || marks.some((m) => m === null)) return halt(`an offset was not written by Lockstep`);
  if (marks.some((m) => m!.instance !== request.instance)) return halt(`an offset was written by another instance`);
  if (marks.some((m) => m!.seq !== mark.seq || m!.token !== mark.token))
    return halt(`the inputs carry different commits`);

  const k = mark.seq;
  if (k > P) return halt(`Kafka has commit ${k}, Postgres only ${P}: Postgres lost commits (restored or failed over)`);
  if (k < c) return halt(`Kafka has commit ${k}, although ${c} was confirmed: Kafka lost commits`);
  if (k > 0 && request.journalToken(k) !== mark.token) {
    return halt(
      `commit ${k} in Kafka was made under token ${mark.token}, the journal's was ${request.journalToken(k) ?? "none"}`,
    );
  }
  if (k === P) {
    const differing = topics.find((topic, i) => offsets[i]!.offset !== positions[topic]);
    if (differing) return halt(`offset of ${differing} differs from the position of commit ${P}`);
    return { kind: "clean" };
  }
  for (let seq = k + 1; seq <= P; seq += 1)
    if (!request.redoSeqs.includes(seq)) return halt(`redo of commit ${seq} is missing`);
  return { kind: "publish", from: k + 1, to: P };
}

/** The commit that all inputs carry; null when they do not carry one of ours, and the same. */
export function commitOf(
  committed: Readonly<Record<string, CommittedOffset>>,
  topics: readonly string[],
): number | null {
  const marks = topics.map((topic) => parseOffsetMetadata(committed[topic]?.metadata ?? ""));
  const first = marks[0] ?? null;
  return first !== null && marks.every((mark) => mark?.seq === first.seq && mark.token === first.token)
    ? first.seq
    : null;
}

function halt(why: string): Reconciliation {
  return { kind: "halt", why };
}
