import { describe, expect, it } from "vitest";
import {
  type AnyStateMachine,
  assign,
  cancel,
  createMachine,
  emit,
  enqueueActions,
  fromPromise,
  log,
  raise,
  sendTo,
  setup,
  spawnChild,
} from "xstate";

import { createMachineHost, emittedTypes, machineFaults } from "../../../src/actors/machine-host.ts";
import { board } from "./machines.ts";

const INPUT = { key: "k", type: "t" };
const machine = (config: object): AnyStateMachine => createMachine(config as never) as unknown as AnyStateMachine;
/** Steps a machine whose event "go" does `actions`. */
function go(actions: unknown, options: { strict?: boolean; context?: object } = {}) {
  const host = createMachineHost(machine({ context: options.context ?? {}, on: { go: { actions } } }), {
    strict: options.strict ?? false,
  });
  return host.step(host.start(INPUT).snapshot, { type: "go" });
}

describe("a step", () => {
  it("returns emits, delayed raises and cancels as data, in the order raised", () => {
    const { effects, done } = go([
      emit({ type: "one" }),
      raise({ type: "later", n: 1 } as never, { id: "timer", delay: 500 }),
      log("not an effect"),
      cancel("other"),
      emit(({ event }: { event: { type: string } }) => ({ type: "two", of: event.type })),
    ]);
    expect(effects).toEqual([
      { kind: "emit", event: { type: "one" } },
      { kind: "schedule", id: "timer", delayMs: 500, event: { type: "later", n: 1 } },
      { kind: "cancel", id: "other" },
      { kind: "emit", event: { type: "two", of: "go" } },
    ]);
    expect(done).toBe(false);
  });

  it("treats `after` as a timer whose id stays the same", () => {
    const host = createMachineHost(
      machine({ id: "m", initial: "a", states: { a: { after: { 1000: "b" } }, b: { type: "final" } } }),
      { strict: false },
    );
    const started = host.start(INPUT);
    const [scheduled] = started.effects;
    expect(scheduled).toMatchObject({ kind: "schedule", id: "xstate.after.1000.m.a", delayMs: 1000 });
    const fired = host.step(started.snapshot, (scheduled as { event: { type: string } }).event);
    expect(fired).toMatchObject({ done: true, effects: [{ kind: "cancel", id: "xstate.after.1000.m.a" }] });
  });

  it("raises events without delay within the same step", () => {
    const host = createMachineHost(
      machine({ initial: "a", states: { a: { on: { go: { actions: raise({ type: "on" }) }, on: "b" } }, b: {} } }),
      { strict: false },
    );
    const { snapshot, effects } = host.step(host.start(INPUT).snapshot, { type: "go" });
    expect([snapshot.value, effects]).toEqual(["b", []]);
  });

  const thrower = assign(() => {
    throw new Error("no");
  });
  const refused: Array<[string, unknown, string, RegExp]> = [
    ["an error of its own", thrower, "MACHINE_THREW", /^Error: no$/],
    ["a context that JSON would change", assign({ at: () => new Date(0) }), "CONTEXT_NOT_JSON", /at is a Date/],
    [
      "an enqueued custom action",
      enqueueActions(({ enqueue }) => enqueue(() => undefined)),
      "EFFECT_REFUSED",
      /executes/,
    ],
    [
      "an enqueued delay without id",
      enqueueActions(({ enqueue }) => enqueue.raise({ type: "x" } as never, { delay: 1 } as never)),
      "EFFECT_REFUSED",
      /without an id/,
    ],
    [
      "an enqueued child",
      enqueueActions(({ enqueue }) => enqueue.spawnChild(fromPromise(async () => 1) as never)),
      "EFFECT_REFUSED",
      /child actor/,
    ],
    [
      "a spawned child",
      assign(({ spawn }) => ({ child: spawn(fromPromise(async () => 1)) })),
      "EFFECT_REFUSED",
      /child actor/,
    ],
    [
      "a delay that is no number",
      raise({ type: "x" }, { id: "x", delay: () => Number.NaN }),
      "EFFECT_REFUSED",
      /delay NaN/,
    ],
    [
      "a delayed event that JSON would change",
      raise({ type: "x", at: new Date(0) } as never, { id: "x", delay: 1 }),
      "EFFECT_REFUSED",
      /at is a Date/,
    ],
    ["an emit that is no event", emit((() => 5) as never), "EFFECT_REFUSED", /not an event/],
    ["talking to itself", assign(({ self }) => ({ x: self.send({ type: "x" }) })), "EFFECT_REFUSED", /self\.send/],
  ];
  for (const [what, actions, code, message] of refused) {
    it(`MH3: refuses ${what}`, () => {
      expect(() => go(actions)).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) }));
    });
  }

  it("refuses a machine that fails at its start", () => {
    const host = createMachineHost(
      machine({
        context: () => {
          throw new Error("no start");
        },
      }),
      { strict: false },
    );
    expect(() => host.start(INPUT)).toThrow(
      expect.objectContaining({ code: "MACHINE_THREW", message: "Error: no start" }),
    );
  });

  it("leaves the snapshot it was given as it was", () => {
    const host = createMachineHost(
      machine({ context: { n: 0 }, on: { go: { actions: assign({ n: ({ context }) => context.n + 1 }) } } }),
      { strict: true },
    );
    const { snapshot } = host.start(INPUT);
    const before = JSON.stringify(host.persist(snapshot));
    expect(host.step(snapshot, { type: "go" }).snapshot.context).toEqual({ n: 1 });
    expect(JSON.stringify(host.persist(snapshot))).toBe(before);
  });
});

describe("strict mode", () => {
  const chances: Array<[string, () => unknown]> = [
    ["Date.now", () => Date.now()],
    ["new Date", () => new Date().toISOString()],
    ["Date()", () => Date()],
    ["Math.random", () => Math.random()],
    ["crypto.randomUUID", () => crypto.randomUUID()],
    ["crypto.getRandomValues", () => crypto.getRandomValues(new Uint8Array(1))[0]],
    ["performance.now", () => performance.now()],
    ["setTimeout", () => Number(setTimeout(() => undefined, 0)) * 0],
    ["setInterval", () => Number(setInterval(() => undefined, 1e6)) * 0],
    ["setImmediate", () => void setImmediate(() => undefined)],
    ["queueMicrotask", () => queueMicrotask(() => undefined)],
  ];
  for (const [name, use] of chances) {
    it(`MH1: ${name} throws inside a step, and works again after it`, () => {
      expect(() => go(assign({ x: use }), { strict: true })).toThrow(
        expect.objectContaining({ code: "MACHINE_THREW", message: expect.stringContaining("inside a step") }),
      );
      expect(Date.now()).toBeGreaterThan(0);
      expect(Math.random()).toBeLessThan(1);
      expect(crypto.randomUUID()).toHaveLength(36);
      expect(performance.now()).toBeGreaterThan(0);
      expect(new Date()).toBeInstanceOf(Date);
    });
  }

  it("lets a step compute with a given time", () => {
    const { snapshot } = go(assign({ text: () => new Date(0).toISOString(), at: () => Date.UTC(1970, 0, 2) }), {
      strict: true,
    });
    expect(snapshot.context).toEqual({ text: "1970-01-01T00:00:00.000Z", at: 86_400_000 });
  });

  it("freezes the context, so that a change in place is found", () => {
    const push = assign(({ context }) => {
      context.list.push(1);
      return {};
    });
    expect(() => go(push, { strict: true, context: { list: [] } })).toThrow(
      expect.objectContaining({ code: "MACHINE_THREW" }),
    );
    expect(go(push, { context: { list: [] } }).snapshot.context).toEqual({ list: [1] });
  });
});

describe("parallel states", () => {
  it("MH2: are in the order of definition, however they were entered", () => {
    const host = createMachineHost(board as unknown as AnyStateMachine, { strict: false });
    let live = host.start(INPUT).snapshot;
    let thawed = live;
    for (const n of [1, 4, 2, 3, 7, 1, 1, 4, 6]) {
      const event = { type: "added", key: "k", sum: n, n };
      const a = host.step(live, event);
      const b = host.step(thawed, event);
      expect(b.effects).toEqual(a.effects);
      live = a.snapshot;
      thawed = host.restore(JSON.parse(JSON.stringify(host.persist(b.snapshot))));
      expect(thawed._nodes.map((node) => node.id)).toEqual(live._nodes.map((node) => node.id));
      expect(Object.keys(live.value)).toEqual(["left", "right"]);
    }
  });
});

describe("machineFaults", () => {
  const promise = fromPromise(async () => 1);
  const child = createMachine({});
  const cases: Array<[string, object, RegExp]> = [
    ["an invoke", { invoke: { src: promise } }, /invokes an actor/],
    [
      "an invoke further down",
      { initial: "a", states: { a: { invoke: { src: child } } } },
      /state "\(machine\)\.a" invokes/,
    ],
    ["a spawned child", { entry: spawnChild(promise) }, /spawnChild/],
    ["sendTo", { on: { x: { actions: sendTo("other", { type: "y" }) } } }, /sendTo/],
    [
      "a custom action on entry",
      { entry: function notify() {} },
      /entry of state "\(machine\)" uses the custom action "notify"/,
    ],
    ["a custom action on exit", { initial: "a", states: { a: { exit: () => undefined } } }, /exit .* custom action/],
    ["a custom action in `after`", { after: { 10: { actions: () => undefined } } }, /custom action/],
    [
      "a custom action in `always`",
      { always: { guard: () => false, actions: () => undefined } },
      /always .* custom action/,
    ],
    [
      "a custom action in `initial`",
      { initial: { target: "a", actions: () => undefined }, states: { a: {} } },
      /initial .* custom action/,
    ],
    [
      "a custom action in `onDone`",
      { initial: "a", states: { a: { type: "final" } }, onDone: { actions: () => undefined } },
      /custom action/,
    ],
    ["an action that is not implemented", { entry: "missing" }, /"missing", which is not implemented/],
    ["a delayed raise without id", { entry: raise({ type: "x" }, { delay: 10 }) }, /without an id/],
    [
      "a delay that is not implemented",
      { entry: raise({ type: "x" }, { id: "x", delay: "soon" as never }) },
      /delay "soon"/,
    ],
    ["a context that JSON would change", { context: { seen: new Map() } }, /seen is a Map/],
    ["a computed context that JSON would change", { context: () => ({ at: new Date(0) }) }, /at is a Date/],
  ];
  for (const [what, config, sentence] of cases) {
    it(`names ${what}`, () => {
      expect(machineFaults(machine(config)).join("\n")).toMatch(sentence);
    });
  }

  it("looks through names, and at actor logic that is provided", () => {
    const named = setup({
      actions: { notify: () => undefined, keep: assign({}) },
      actors: { load: promise },
    }).createMachine({ entry: ["keep", { type: "notify" }] });
    expect(machineFaults(named as unknown as AnyStateMachine)).toEqual([
      expect.stringContaining('actor logic "load"'),
      expect.stringContaining('custom action "notify"'),
    ]);
  });

  it("finds nothing wrong with a machine of pure actions", () => {
    const pure = machine({
      context: ({ input }: { input: { key: string } }) => ({ parts: input.key.split("/") }),
      entry: [
        assign({}),
        emit({ type: "x" }),
        log("x"),
        cancel("x"),
        raise({ type: "x" }),
        raise({ type: "x" }, { id: "x", delay: 5 }),
        enqueueActions(() => undefined),
      ],
      after: { 100: {} },
    });
    expect(machineFaults(pure)).toEqual([]);
  });
});

describe("emittedTypes", () => {
  it("is complete where every emit is static", () => {
    expect(
      emittedTypes(machine({ entry: emit({ type: "a" }), on: { x: { actions: [emit({ type: "b" })] } } })),
    ).toEqual({ known: new Set(["a", "b"]), complete: true });
  });
  it("is not where one is computed or enqueued", () => {
    expect(emittedTypes(machine({ entry: [emit({ type: "a" }), emit(() => ({ type: "b" }))] }))).toEqual({
      known: new Set(["a"]),
      complete: false,
    });
    expect(emittedTypes(machine({ entry: enqueueActions(() => undefined) })).complete).toBe(false);
  });
});
