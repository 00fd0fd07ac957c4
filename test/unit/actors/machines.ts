/**
 * A small app for tests of the model: every kind of route, timers, tells, and a way to fail for every reason.
 *
 * `tally` adds up numbers per key and flushes the sum 30 ms after the first; `board` keeps the latest sum of all keys of a
 * letter, and has two regions, so that the order of its states matters.
 */
import { assign, cancel, emit, enqueueActions, raise, setup } from "xstate";

import type { App, Schema } from "../../../src/actors/app.ts";
import { count, defineApp, input, insert, outbox, publish, tell } from "../../../src/actors/app.ts";
import type { CommitEffects } from "../../../src/actors/effects.ts";
import { deriveId } from "../../../src/actors/ids.ts";
import { type Judged, judge } from "../../../src/actors/judge.ts";
import type { InputRecord } from "../../../src/actors/record.ts";
import { type ModelOptions, ShardModel } from "../../../src/actors/shard-model.ts";

export const OPS = ["add", "end", "boom", "nan", "orphan", "echo", "huge", "unroutable", "badvalue", "spin"] as const;
export interface Op {
  readonly key: string;
  readonly op: (typeof OPS)[number];
  readonly n: number;
  readonly ts: number;
}

/** A schema by hand, of the interface that zod and others provide. */
export const opSchema: Schema<Op> = {
  "~standard": {
    version: 1,
    vendor: "test",
    validate(value) {
      const { key, op, n, ts } = (value ?? {}) as Partial<Op>;
      if (typeof key !== "string") return { issues: [{ message: "is not a string", path: ["key"] }] };
      if (!OPS.some((known) => known === op)) return { issues: [{ message: "is not known", path: [{ key: "op" }] }] };
      return { value: { key, op: op!, n: Number(n), ts: Number(ts) } };
    },
  },
};

/** Loose on purpose: the tests are about the model, and reach states that a typed machine could not name. */
interface Loose {
  readonly type: string;
  // biome-ignore lint/suspicious/noExplicitAny: see above.
  readonly [field: string]: any;
}
const loose = {
  events: {} as Loose,
  emitted: {} as Loose,
  input: {} as { key: string; type: string },
};
const is =
  (op: Op["op"]) =>
  ({ event }: { event: Loose }) =>
    event["op"] === op;

const tallySetup = setup({ types: { ...loose, context: {} as { key: string; sum: number; last: number[] } } });

const tally = tallySetup.createMachine({
  id: "tally",
  context: ({ input }) => ({ key: input.key, sum: 0, last: [] }),
  initial: "empty",
  states: {
    empty: {},
    filled: {
      entry: raise({ type: "flush" }, { id: "flush", delay: 30 }),
      on: {
        flush: {
          target: "empty",
          actions: [
            emit(({ context, event }) => ({
              type: "flushed",
              key: context.key,
              sum: context.sum,
              at: event["streamTimeMs"],
            })),
            assign({ sum: 0 }),
          ],
        },
      },
    },
    ended: { type: "final" },
  },
  on: {
    op: [
      {
        guard: is("add"),
        target: ".filled",
        actions: enqueueActions(({ context, event, enqueue }) => {
          const sum = context.sum + event["n"];
          enqueue.assign({ sum, last: [...context.last, event["n"]].slice(-3) });
          enqueue.emit({ type: "added", board: context.key.slice(0, 1), key: context.key, sum, n: event["n"] });
        }),
      },
      { guard: is("end"), target: ".ended", actions: cancel("flush") },
      {
        guard: is("boom"),
        actions: [
          emit(({ context }) => ({ type: "flushed", key: context.key, sum: context.sum, at: -1 })),
          assign({
            sum: () => {
              throw new Error("boom");
            },
          }),
        ],
      },
      { guard: is("nan"), actions: assign({ sum: Number.NaN }) },
      // Sets itself again whenever it fires.
      { guard: is("spin"), actions: raise({ type: "op", op: "spin" }, { id: "spin", delay: 0 }) },
      // Its timer throws when it fires.
      { guard: is("orphan"), actions: raise({ type: "op", op: "boom" }, { id: "orphan", delay: 20 }) },
      // What it echoes comes back to it, for ever.
      { guard: is("echo"), actions: emit(({ context }) => ({ type: "echoed", key: context.key })) },
      {
        guard: is("huge"),
        actions: emit(({ context }) => ({ type: "sized", key: context.key, text: "x".repeat(4_000) })),
      },
      { guard: is("unroutable"), actions: emit(({ context }) => ({ type: "unroutable", key: context.key })) },
      { guard: is("badvalue"), actions: emit(({ context }) => ({ type: "sized", key: context.key, text: 5 })) },
    ],
    echoed: { actions: emit(({ context }) => ({ type: "echoed", key: context.key })) },
  },
});

const boardSetup = setup({
  types: { ...loose, context: {} as { key: string; sums: Record<string, number>; hits: number } },
  guards: { hit: ({ context }) => context.hits > 0 },
});
const seen = (what: string) =>
  boardSetup.emit(({ context }) => ({
    type: "seen",
    board: context.key,
    what,
    sum: Object.values(context.sums).reduce((a, b) => a + b, 0),
  }));
const rest = boardSetup.assign({ hits: 0 });
const hit = boardSetup.assign({ hits: 1 });

/**
 * Two regions whose always-transitions both emit: their order must not depend on how their states were entered.
 * n 1 and 4 move the left region alone, 2 the right one, 6 enters the left one anew; any other n hits both.
 */
export const board = boardSetup.createMachine({
  id: "board",
  context: ({ input }) => ({ key: input.key, sums: {}, hits: 0 }),
  type: "parallel",
  on: {
    added: {
      actions: [assign({ sums: ({ context, event }) => ({ ...context.sums, [event["key"]]: event["sum"] }) }), hit],
    },
  },
  states: {
    left: {
      initial: "even",
      on: { added: { guard: ({ event }) => event["n"] === 6, target: "#board.left", reenter: true } },
      states: {
        even: {
          on: { added: { guard: ({ event }) => event["n"] % 3 === 1, target: "odd" } },
          always: { guard: "hit", target: "odd", actions: [seen("left-even"), rest] },
        },
        odd: {
          on: { added: { guard: ({ event }) => event["n"] % 3 === 1, target: "even" } },
          always: { guard: "hit", target: "even", actions: [seen("left-odd"), rest] },
        },
      },
    },
    right: {
      initial: "one",
      states: {
        one: {
          on: { added: { guard: ({ event }) => event["n"] === 2, target: "two" } },
          always: { guard: "hit", target: "two", actions: [seen("right-one"), rest] },
        },
        two: {
          on: { added: { guard: ({ event }) => event["n"] === 2, target: "one" } },
          always: { guard: "hit", target: "one", actions: [seen("right-two"), rest] },
        },
      },
    },
  },
});

const textSchema: Schema<unknown> = {
  "~standard": {
    version: 1,
    vendor: "test",
    validate: (value) =>
      typeof (value as { text: unknown }).text === "string"
        ? { value }
        : { issues: [{ message: "is not a string", path: ["text"] }] },
  },
};

const emits = {
  added: [
    tell("board", (event: { board: string }) => event.board),
    publish("out.added", { key: (event: { key: string }) => event.key }),
    count("additions"),
  ],
  flushed: [
    insert("app.flushes", (event: { key: string; sum: number }, meta) => ({
      id: meta.id,
      key: event.key,
      sum: event.sum,
      at: meta.timeMs,
    })),
    outbox<{ key: string; sum: number }>({
      aggregateType: "tally",
      aggregateId: (event, meta) => deriveId(meta.id, event.key),
      type: "Flushed",
      payload: (event) => ({ sum: event.sum }),
    }),
    publish("out.flushed", {
      key: (event: { key: string }) => event.key,
      value: (event, meta) => ({ ...(event as object), id: meta.id }),
    }),
  ],
  echoed: tell("tally", (event: { key: string }) => event.key),
  sized: publish("out.sized", { key: (event: { key: string }) => event.key, schema: textSchema }),
  seen: [
    publish("out.seen", { key: (event: { board: string }) => event.board }),
    publish("out.seen.copy", { key: (event: { board: string }) => event.board }),
  ],
};

export const INPUTS = ["in.a", "in.b"] as const;

export function testApp(
  options: { version?: number; migrate?: (snapshot: unknown, fromVersion: number) => unknown; lateTopic?: string } = {},
): App {
  const definition = () => input("op", { schema: opSchema, time: (op) => op.ts, key: (op) => op.key });
  return defineApp("test", {
    version: options.version ?? 1,
    inputs: { "in.a": definition(), "in.b": definition() },
    actors: {
      tally: {
        machine: tally,
        on: { op: (op: Op) => op.key },
        ...(options.migrate ? { migrate: options.migrate } : {}),
      },
      board: { machine: board },
    },
    emits,
    late: { allowedMs: 40, topic: options.lateTopic ?? "out.late" },
    tellsMax: 20,
    // The types of the machines are widened above; the routes are checked by the model's tests.
  } as never);
}

export function testOptions(app: App = testApp(), options: { strict?: boolean; bytesMax?: number } = {}): ModelOptions {
  return {
    app,
    shard: 0,
    partitionsOf: () => 4,
    strict: options.strict ?? false,
    limits: { timersPerCommit: 5, outputBytesMax: () => options.bytesMax ?? 3_000 },
  };
}

export function record(
  topic: string,
  offset: number,
  options: Partial<Omit<InputRecord, "value" | "key">> & { key?: string | Buffer | null; value?: unknown },
): InputRecord {
  const { key = "a1", value, headers = [], timestampMs = 1_000_000n } = options;
  return {
    topic,
    partition: 0,
    offset: BigInt(offset),
    key: key === null || Buffer.isBuffer(key) ? key : Buffer.from(key),
    value: value === null || Buffer.isBuffer(value) ? value : Buffer.from(JSON.stringify(value)),
    headers,
    timestampMs,
  };
}

/** A judged record of an operation. */
export function op(
  app: App,
  offset: number,
  value: Partial<Op>,
  options: { topic?: string; headers?: InputRecord["headers"] } = {},
): Judged {
  const { topic = "in.a", headers = [] } = options;
  const full = { key: "a1", op: "add", n: 1, ts: 100, ...value };
  return judged(app, record(topic, offset, { key: full.key, value: full, headers }));
}

export function judged(app: App, one: InputRecord): Judged {
  return judge(app, app.inputs.find(({ topic }) => topic === one.topic)!, one);
}

/** One thing that a batch takes. */
export type Item =
  | { readonly kind: "record"; readonly judged: Judged }
  | { readonly kind: "tick"; readonly toMs: number; readonly timersMax: number };

/** Folds the items as one batch, and keeps it. */
export function fold(model: ShardModel, items: readonly Item[]): CommitEffects {
  model.begin();
  takeAll(model, items);
  const effects = model.finish();
  model.accept();
  return effects;
}

export function takeAll(model: ShardModel, items: readonly Item[]): void {
  for (const item of items) {
    if (item.kind === "record") model.takeRecord(item.judged);
    else model.takeTick(item.toMs, { timersMax: item.timersMax });
  }
}

/** All that a model knows, as bytes. */
export function bytesOf(model: ShardModel, pieceBytes = 1 << 20): Buffer {
  return Buffer.concat([...model.capture().pieces(pieceBytes)]);
}

export function newModel(app: App = testApp(), options: { strict?: boolean; bytesMax?: number } = {}): ShardModel {
  return new ShardModel(testOptions(app, options));
}

export function json(bytes: Buffer | null): unknown {
  return JSON.parse(bytes!.toString("utf8"));
}

export function header(of: { headers: InputRecord["headers"] }, name: string): string | undefined {
  return of.headers.find(([header]) => header === name)?.[1]?.toString("utf8");
}
