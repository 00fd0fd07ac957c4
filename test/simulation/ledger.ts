/**
 * An app made to be simulated: entries of accounts from two inputs, with timers, tells, records that can never succeed, and rows
 * that Postgres refuses. What each account and input gives depends on no order between inputs, so that a fold of a few lines,
 * which shares nothing with the model, can tell what must come out.
 */
import { emit, enqueueActions, setup } from "xstate";

import { count, defineApp, input, insert, publish, type Schema, tell } from "../../src/actors/app.ts";
import type { Cluster, LoadRecord, Random } from "../../src/testing/index.ts";

const INPUTS = ["ledger.cash", "ledger.card"] as const;
export const ENTERED = "ledger.entered";
export const SETTLED = "ledger.settled";
export const ENTRIES = "ledger.entries";

/** Rows with this amount are refused by Postgres. */
const REFUSED = 13;
const SETTLE_MS = 2_000;

interface Entry {
  readonly account: string;
  readonly way: string;
  readonly n: number;
  /** Event time, ms. */
  readonly at: number;
  readonly kind: "add" | "poison" | "hold";
}

const entry: Schema<Entry> = {
  "~standard": {
    version: 1,
    vendor: "test",
    validate: (value) =>
      typeof (value as Entry).n === "number" ? { value: value as Entry } : { issues: [{ message: "n is no number" }] },
  },
};

interface AccountContext {
  readonly account: string;
  readonly sums: Readonly<Record<string, number>>;
  readonly held: number;
}

/** The context after an entry. @throws what no schema finds */
function enter(context: AccountContext, { account, way, n, kind }: Entry): AccountContext {
  if (kind === "poison") throw new Error(`poison for ${account}`);
  const sums = { ...context.sums, [way]: (context.sums[way] ?? 0) + n };
  return { ...context, sums, held: context.held + (kind === "hold" ? 1 : 0) };
}

const accountTypes = setup({
  types: {
    context: {} as AccountContext,
    events: {} as Entry & { readonly type: "entry"; readonly streamTimeMs: number },
    emitted: {} as
      | { type: "entered"; account: string; way: string; n: number; sum: number }
      | { type: "settled"; account: string; at: number; held: number },
    input: {} as { readonly key: string; readonly type: string },
  },
});

const entering = accountTypes.enqueueActions(({ context, event, enqueue }) => {
  const { account, way, n } = event;
  const next = enter(context, event);
  enqueue.assign(next);
  enqueue.emit({ type: "entered", account, way, n, sum: next.sums[way]! });
});

const account = accountTypes.createMachine({
  id: "account",
  context: ({ input: { key } }) => ({ account: key, sums: {}, held: 0 }),
  initial: "open",
  states: {
    open: {
      on: {
        entry: [
          { guard: ({ event }) => event.kind === "hold", target: "held", actions: entering },
          { actions: entering },
        ],
      },
    },
    held: {
      after: {
        [SETTLE_MS]: {
          target: "open",
          actions: emit(({ context, event }) => ({
            type: "settled" as const,
            account: context.account,
            at: event.streamTimeMs,
            held: context.held,
          })),
        },
      },
      on: { entry: { actions: entering } },
    },
  },
});

const bank = setup({
  types: {
    context: {} as { settled: number },
    events: {} as { type: "settled"; readonly streamTimeMs: number },
    emitted: {} as { type: "tenth"; settled: number },
  },
}).createMachine({
  id: "bank",
  context: { settled: 0 },
  on: {
    settled: {
      actions: enqueueActions(({ context, enqueue }) => {
        const settled = context.settled + 1;
        enqueue.assign({ settled });
        if (settled % 10 === 0) enqueue.emit({ type: "tenth", settled });
      }),
    },
  },
});

const entries = input("entry", { schema: entry, time: ({ at }) => at, key: (one) => one.account });

export const ledger = defineApp("ledger", {
  inputs: { [INPUTS[0]]: entries, [INPUTS[1]]: entries },
  actors: {
    account: { machine: account, on: { entry: (one) => one.account } },
    bank: { machine: bank },
  },
  emits: {
    entered: [
      publish(ENTERED, { key: (event) => event.account }),
      insert(ENTRIES, (event, { id }) => ({ id, account: event.account, way: event.way, n: event.n, sum: event.sum })),
    ],
    settled: [publish(SETTLED, { key: (event) => event.account }), tell("bank", () => "the bank")],
    tenth: [count("tenths"), publish(SETTLED, { key: () => "tenth" })],
  },
});

/** For the tests made from the machines; the schema of this app says nothing of itself. */
export const ledgerExamples = {
  account: [
    {
      key: "a1",
      steps: (["add", "hold", "add", "poison", "hold"] as const).map((kind, i) => ({
        topic: INPUTS[0],
        value: { account: "a1", way: INPUTS[0], n: 10 + i, at: 1_000 * i, kind },
      })),
    },
  ],
};

export const ledgerTables = {
  [ENTRIES]: {
    unique: [["id"]],
    refuses: (row: Readonly<Record<string, unknown>>) =>
      row["n"] === REFUSED ? { sqlstate: "23514", message: "the amount is unlucky" } : null,
  },
};

export function ledgerLoad(random: Random): LoadRecord[] {
  const records = random.between(20, 300);
  const spreadMs = random.pick([0, 2_000, 10_000]);
  return Array.from({ length: records }, () => {
    const atMs = Math.floor(random.next() * spreadMs);
    const topic = random.pick(INPUTS);
    const key = `a${random.between(0, 6)}`;
    const at = Math.max(0, atMs - random.between(0, 500));
    const kind = random.pick(["add", "add", "add", "hold", "poison"] as const);
    const n = random.between(1, 40);
    const value: Entry = { account: random.chance(0.02) ? "another" : key, way: topic, n, at, kind };
    const text = random.chance(0.02) ? "{" : JSON.stringify(value);
    return {
      atMs,
      topic,
      key: random.chance(0.01) ? null : key,
      value: random.chance(0.01) ? null : text,
      timestampMs: at,
    };
  }).sort((a, b) => a.atMs - b.atMs);
}

/** What each account and input must have given, in order, from the input alone. */
export function ledgerCheck(cluster: Cluster): string[] {
  const expected = new Map<string, string[]>();
  const sums = new Map<string, number>();
  for (const topic of INPUTS) {
    for (const { key, value } of cluster.kafka.readTopic(topic)) {
      const one = parse(value);
      if (!one || key?.toString() !== one.account || one.kind === "poison" || one.n === REFUSED) continue;
      const of = `${one.account} ${one.way}`;
      const sum = (sums.get(of) ?? 0) + one.n;
      sums.set(of, sum);
      expected.set(of, [...(expected.get(of) ?? []), `${one.n} -> ${sum}`]);
    }
  }
  const published = grouped(cluster.kafka.readTopic(ENTERED).map(({ value }) => JSON.parse(String(value))));
  const inserted = grouped(cluster.postgres.rows.filter(({ table }) => table === ENTRIES).map(({ row }) => row));
  const wanted = text(expected);
  return [
    ...(text(published) === wanted ? [] : [`${ENTERED} is not what the input gives:\n${text(published)}\n${wanted}`]),
    ...(text(inserted) === wanted ? [] : [`${ENTRIES} is not what the input gives:\n${text(inserted)}\n${wanted}`]),
  ];
}

function parse(value: Buffer | null): Entry | null {
  try {
    return JSON.parse(String(value)) as Entry | null;
  } catch {
    return null; // dead letters are judged by the fold of the journal
  }
}

function grouped(rows: readonly Record<string, unknown>[]): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const row of rows) {
    const of = `${row["account"]} ${row["way"]}`;
    groups.set(of, [...(groups.get(of) ?? []), `${row["n"]} -> ${row["sum"]}`]);
  }
  return groups;
}

function text(groups: ReadonlyMap<string, readonly string[]>): string {
  return [...groups]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([of, lines]) => `${of}: ${lines.join(", ")}`)
    .join("\n");
}
