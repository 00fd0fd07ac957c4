/**
 * What an audit finds, and the report it makes of it.
 *
 * Findings are counted without limit and listed up to a limit a kind, so that a broken run of a million records gives a
 * report that can be read.
 */

/**
 * lost        input that no commit took, or an effect that should be there and is not
 * doubled     the same input taken twice, or the same effect (by id or by source) there twice
 * outOfOrder  effects of one key in another order than their input
 * journal     the journal or the shard row contradicts itself or the input
 * mismatch    an effect, counter or figure that is there with another content
 * foreign     a record or row that no input explains
 * unfinished  input not yet taken, or a commit not known to be in Kafka: the system was not drained
 */
export const FINDING_KINDS = ["lost", "doubled", "outOfOrder", "journal", "mismatch", "foreign", "unfinished"] as const;
export type FindingKind = (typeof FINDING_KINDS)[number];

export interface Finding {
  readonly kind: FindingKind;
  /** A sentence with the values. */
  readonly text: string;
  /** Topic, partition and offset; table; shard and commit. */
  readonly where: string;
}

export interface AuditReport {
  /** True when there is no finding of any kind. */
  readonly ok: boolean;
  readonly app: string;
  readonly instance: string;
  /** Records and rows of each sort; `lost`, `doubled` and `outOfOrder` are among them. */
  readonly figures: Readonly<Record<string, number>>;
  /** Findings per kind, all of them. */
  readonly totals: Readonly<Record<FindingKind, number>>;
  /** The first of each kind. */
  readonly findings: readonly Finding[];
}

export interface Findings {
  /** @param count how many records or rows the finding stands for; default 1 */
  add(kind: FindingKind, text: string, where: string, count?: number): void;
  readonly totals: Readonly<Record<FindingKind, number>>;
  list(): Finding[];
}

/** @param perKindMax findings listed per kind, at least 1 */
export function createFindings(perKindMax: number): Findings {
  const totals = Object.fromEntries(FINDING_KINDS.map((kind) => [kind, 0])) as Record<FindingKind, number>;
  const listed = new Map<FindingKind, Finding[]>(FINDING_KINDS.map((kind) => [kind, []]));
  return {
    totals,
    add(kind, text, where, count = 1) {
      totals[kind] += count;
      const list = listed.get(kind);
      if (list !== undefined && list.length < perKindMax) list.push({ kind, text, where });
    },
    list: () => [...listed.values()].flat(),
  };
}
