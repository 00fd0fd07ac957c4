import fc from "fast-check";
import { describe, expect, test } from "vitest";

import type { CommittedOffset } from "../../../src/actors/ports.ts";
import { type ReconcileRequest, type Reconciliation, reconcile } from "../../../src/runtime/reconcile.ts";

/** What the tables say: the marks that Kafka has per input, null for none, and what Postgres has. */
interface Given {
  /** Offset and metadata of `in.a` and `in.b`. */
  readonly kafka: readonly [Mark, Mark];
  readonly P: number;
  readonly c: number;
  readonly redo?: readonly number[];
  /** Journal rows as seq -> token. */
  readonly journal?: Readonly<Record<number, string>>;
}
type Mark = readonly [offset: bigint | null, metadata: string] | null;

const POSITIONS = { "in.a": 50n, "in.b": 70n };

function check({ kafka: [a, b], P, c, redo = [], journal = {} }: Given): Reconciliation {
  const committed: Record<string, CommittedOffset> = {};
  if (a) committed["in.a"] = { offset: a[0], metadata: a[1] };
  if (b) committed["in.b"] = { offset: b[0], metadata: b[1] };
  return reconcile({
    instance: "main",
    topics: ["in.a", "in.b"],
    committed,
    seq: P,
    confirmed: c,
    positions: POSITIONS,
    redoSeqs: redo,
    journalToken: (k) => journal[k] ?? null,
  });
}

/** Both inputs at P's positions, with one text. */
const at = (text: string): readonly [Mark, Mark] => [
  [50n, text],
  [70n, text],
];
/** Both inputs somewhere before. */
const behind = (text: string): readonly [Mark, Mark] => [
  [40n, text],
  [60n, text],
];

describe("what a new owner goes on with", () => {
  const cases: ReadonlyArray<[name: string, given: Given, expected: Reconciliation]> = [
    ["(a) Kafka has P", { kafka: at("main/5/t5"), P: 5, c: 5, journal: { 5: "t5" } }, { kind: "clean" }],
    ["(a) Kafka has P, which nobody confirmed", at5(4), { kind: "clean" }],
    ["(a) only the start positions were ever written", { kafka: at("main/0/t0"), P: 0, c: 0 }, { kind: "clean" }],
    [
      "(b) Kafka lacks one commit",
      { kafka: behind("main/4/t4"), P: 5, c: 4, redo: [5], journal: { 4: "t4", 5: "t5" } },
      { kind: "publish", from: 5, to: 5 },
    ],
    [
      "(b) Kafka lacks several commits, made by several owners",
      { kafka: behind("main/4/t4"), P: 7, c: 3, redo: [4, 5, 6, 7], journal: { 3: "t3", 4: "t4", 5: "u5" } },
      { kind: "publish", from: 5, to: 7 },
    ],
    [
      "(b) Kafka lacks the very first commit",
      { kafka: behind("main/0/t0"), P: 1, c: 0, redo: [1], journal: { 1: "t1" } },
      { kind: "publish", from: 1, to: 1 },
    ],
    [
      "(b) a commit that took only ticks moved no position",
      { kafka: at("main/4/t4"), P: 5, c: 4, redo: [5], journal: { 4: "t4" } },
      { kind: "publish", from: 5, to: 5 },
    ],
    ["(c) nothing was ever committed", { kafka: [null, null], P: 0, c: 0 }, { kind: "first" }],
    ["(c) Kafka answers that it has no offset", { kafka: [[null, ""], null], P: 0, c: 0 }, { kind: "first" }],
    ["(d) the offsets have expired", { kafka: [null, null], P: 5, c: 5, journal: { 5: "t5" } }, { kind: "rewrite" }],
  ];
  test.each(cases)("%s", (_name, given, expected) => expect(check(given)).toEqual(expected));
});

function at5(c: number): Given {
  return { kafka: at("main/5/t5"), P: 5, c, redo: [5], journal: { 4: "t4", 5: "t5" } };
}

describe("(e) what a new owner does not guess about", () => {
  const known = { P: 5, c: 4, redo: [5], journal: { 3: "t3", 4: "t4", 5: "t5" } };
  const cases: ReadonlyArray<[name: string, given: Given, why: RegExp]> = [
    [
      "no offsets, and commits that Kafka is not known to have",
      { ...known, kafka: [null, null], c: 3, redo: [4, 5] },
      /no offsets, and commits 4\.\.5 are not known/,
    ],
    ["no offsets, P > 0 and nothing confirmed", { ...known, kafka: [null, null], c: 0 }, /commits 1\.\.5 are not/],
    ["the first input has no offset", { ...known, kafka: [null, [70n, "main/5/t5"]] }, /some inputs only/],
    [
      "the last input has no offset",
      {
        ...known,
        kafka: [
          [50n, "main/5/t5"],
          [null, ""],
        ],
      },
      /some inputs only/,
    ],
    ["some inputs without offset at P = 0", { kafka: [[50n, "main/0/t0"], null], P: 0, c: 0 }, /some inputs only/],
    ["foreign metadata on all inputs", { ...known, kafka: at("") }, /not written by Lockstep/],
    [
      "foreign metadata on one input",
      {
        ...known,
        kafka: [
          [50n, "main/5/t5"],
          [70n, "by hand"],
        ],
      },
      /not written by Lockstep/,
    ],
    ["metadata whose seq is no number", { ...known, kafka: at("main/-1/t5") }, /not written by Lockstep/],
    ["metadata with a part too many", { ...known, kafka: at("main/5/t5/x") }, /not written by Lockstep/],
    ["another instance", { ...known, kafka: at("other/5/t5") }, /by another instance/],
    [
      "another instance on one input",
      {
        ...known,
        kafka: [
          [50n, "main/5/t5"],
          [70n, "other/5/t5"],
        ],
      },
      /by another instance/,
    ],
    [
      "inputs of two commits",
      {
        ...known,
        kafka: [
          [50n, "main/5/t5"],
          [70n, "main/4/t4"],
        ],
      },
      /different commits/,
    ],
    [
      "inputs of two owners",
      {
        ...known,
        kafka: [
          [50n, "main/5/t5"],
          [70n, "main/5/u5"],
        ],
      },
      /different commits/,
    ],
    ["k > P", { ...known, kafka: at("main/6/t6") }, /commit 6, Postgres only 5: Postgres lost commits/],
    ["k > P = 0", { kafka: at("main/1/t1"), P: 0, c: 0 }, /commit 1, Postgres only 0/],
    ["k < c", { ...known, kafka: behind("main/3/t3") }, /commit 3, although 4 was confirmed: Kafka lost commits/],
    ["k = 0 < c", { ...known, kafka: behind("main/0/t0") }, /commit 0, although 4 was confirmed/],
    [
      "k = P made under a token that is not the journal's",
      { ...known, kafka: at("main/5/zombie") },
      /commit 5 in Kafka was made under token zombie, the journal's was t5/,
    ],
    [
      "k < P made under a token that is not the journal's",
      { ...known, kafka: behind("main/4/zombie") },
      /commit 4 in Kafka was made under token zombie, the journal's was t4/,
    ],
    ["no journal row of k", { ...known, journal: {}, kafka: at("main/5/t5") }, /the journal's was none/],
    [
      "k = P, an offset behind",
      {
        ...known,
        kafka: [
          [49n, "main/5/t5"],
          [70n, "main/5/t5"],
        ],
      },
      /offset of in\.a differs/,
    ],
    [
      "k = P, an offset ahead",
      {
        ...known,
        kafka: [
          [50n, "main/5/t5"],
          [71n, "main/5/t5"],
        ],
      },
      /offset of in\.b differs/,
    ],
    ["k = P = 0, another start", { kafka: behind("main/0/t0"), P: 0, c: 0 }, /position of commit 0/],
    ["the only redo row missing", { ...known, redo: [], kafka: behind("main/4/t4") }, /redo of commit 5 is missing/],
    ["a gap in redo", { ...known, P: 7, redo: [5, 7], kafka: behind("main/4/t4") }, /redo of commit 6 is missing/],
    [
      "redo that ends early",
      { ...known, P: 7, redo: [5, 6], kafka: behind("main/4/t4") },
      /redo of commit 7 is missing/,
    ],
  ];
  test.each(cases)("%s", (_name, given, why) => {
    expect(check(given)).toEqual({ kind: "halt", why: expect.stringMatching(why) });
  });
});

describe("whatever it finds", () => {
  const small = fc.integer({ min: 0, max: 4 });
  const offset = fc.bigInt({ min: 0n, max: 2n });
  const token = fc.constantFrom("t", "u");
  // Near each other, so that agreement is as likely as contradiction.
  const mark = fc.record({
    offset: fc.option(offset, { nil: null, freq: 12 }),
    instance: fc.constantFrom("main", "main", "main", "main", "main", "main", "main", "other"),
    seq: small,
    token,
    foreign: fc.constantFrom(false, false, false, false, false, false, false, true),
  });
  const agreeing = mark.map((m) => [m, m] as const);
  const request: fc.Arbitrary<ReconcileRequest> = fc
    .record({
      marks: fc.oneof(agreeing, agreeing, fc.tuple(mark, mark)),
      offsets: fc.tuple(offset, offset),
      positions: fc.tuple(offset, offset),
      sameOffsets: fc.boolean(),
      seq: small,
      confirmed: small,
      redo: fc.subarray([1, 2, 3, 4]),
      wholeRedo: fc.boolean(),
      tokens: fc.array(token, { minLength: 5, maxLength: 5 }),
    })
    .map(({ marks, offsets, positions, sameOffsets, seq, confirmed, redo, wholeRedo, tokens }) => {
      const topics = ["in.a", "in.b"];
      const committed = topics.map((topic, i): [string, CommittedOffset] => {
        const m = marks[i]!;
        const found = m.offset === null ? null : sameOffsets ? positions[i]! : offsets[i]!;
        return [topic, { offset: found, metadata: m.foreign ? "by hand" : `${m.instance}/${m.seq}/${m.token}` }];
      });
      return {
        instance: "main",
        topics,
        committed: Object.fromEntries(committed),
        seq,
        confirmed: Math.min(confirmed, seq),
        positions: { "in.a": positions[0], "in.b": positions[1] },
        redoSeqs: wholeRedo ? [1, 2, 3, 4] : redo,
        journalToken: (k: number) => tokens[k] ?? null,
      };
    });

  test("it publishes only redo that is all there, and calls clean only what stands at P's positions", () => {
    const seen: Record<string, number> = {};
    fc.assert(
      fc.property(request, (given) => {
        const found = reconcile(given);
        seen[found.kind] = (seen[found.kind] ?? 0) + 1;
        const offsets = given.topics.map((topic) => given.committed[topic]!);
        const ks = new Set(offsets.map(({ metadata }) => metadata));
        if (found.kind === "publish") {
          expect(found.to).toBe(given.seq);
          expect(found.from).toBeGreaterThan(given.confirmed);
          for (let seq = found.from; seq <= found.to; seq += 1) expect(given.redoSeqs).toContain(seq);
          expect(ks).toEqual(new Set([`main/${found.from - 1}/${tokenOf(given, found.from - 1, offsets[0]!)}`]));
        }
        if (found.kind === "clean") {
          expect(Object.fromEntries(given.topics.map((topic, i) => [topic, offsets[i]!.offset]))).toEqual(
            given.positions,
          );
          expect(ks).toEqual(new Set([`main/${given.seq}/${tokenOf(given, given.seq, offsets[0]!)}`]));
        }
        if (found.kind === "first" || found.kind === "rewrite") {
          expect(offsets.every((o) => o.offset === null)).toBe(true);
          expect(given.confirmed).toBe(given.seq);
        }
        if (found.kind === "halt") expect(found.why.length).toBeGreaterThan(0);
      }),
      { numRuns: 3_000 },
    );
    // A property that never met a kind says nothing about it.
    expect(Object.keys(seen).sort()).toEqual(["clean", "first", "halt", "publish", "rewrite"]);
  });
});

/** The token that the metadata of commit k must have: the journal's, and for k = 0, which has no row, any. */
function tokenOf(given: ReconcileRequest, k: number, offset: CommittedOffset): string | null {
  return k === 0 ? offset.metadata.split("/")[2]! : given.journalToken(k);
}
