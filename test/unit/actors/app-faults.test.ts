import { describe, expect, it } from "vitest";
import { assign, createMachine, emit } from "xstate";
import type { App } from "../../../src/actors/app.ts";
import { count, insert, outbox, publish, tell } from "../../../src/actors/app.ts";
import { appFaults } from "../../../src/actors/app-faults.ts";
import { opSchema, testApp } from "./machines.ts";

const emitter = createMachine({ on: { op: { actions: emit({ type: "done" }) } } });
const input = { topic: "in", event: "op", schema: opSchema, time: () => 1 };

function faults(change: Partial<App>): string[] {
  const base: App = {
    name: "small",
    version: 1,
    inputs: [input],
    actors: { one: { machine: emitter as never, on: { op: () => "k" } } },
    emits: { done: [publish("out", { key: () => "k" })] },
    late: null,
    outboxTopic: "ops.outbox",
    outboxTable: "app.outbox",
    migrations: null,
    tellsMax: 100,
  };
  return appFaults({ ...base, ...change });
}

describe("appFaults", () => {
  it("finds nothing wrong with a sound app", () => {
    expect(faults({})).toEqual([]);
    expect(appFaults(testApp())).toEqual([]);
  });

  const actors = (on: Record<string, () => string>) => ({ one: { machine: emitter as never, on } });
  const key = () => "k";
  const cases: Array<[string, Partial<App>, RegExp]> = [
    ["a name with a slash", { name: "a/b" }, /name "a\/b"/],
    ["a version below 1", { version: 0 }, /version 0/],
    ["a broken limit of tells", { tellsMax: 0 }, /tellsMax 0/],
    ["no input", { inputs: [] }, /no input/],
    ["no actor", { actors: {}, emits: {} }, /no actor\./],
    ["an input twice", { inputs: [input, input] }, /"in" is defined twice/],
    ["a topic that Kafka refuses", { inputs: [{ ...input, topic: "a b" }] }, /"a b", which is not a topic name/],
    ["a topic too long for its dead letters", { inputs: [{ ...input, topic: "x".repeat(247) }] }, /no room/],
    [
      "an event of XState's own",
      { inputs: [{ ...input, event: "xstate.stop" }], actors: actors({ "xstate.stop": key }) },
      /begin with "xstate\."/,
    ],
    ["a schema that is none", { inputs: [{ ...input, schema: {} as never }] }, /not a Standard Schema/],
    ["an event that no actor takes", { actors: actors({}) }, /No actor takes the event "op"/],
    [
      "an event that no input provides",
      { actors: actors({ op: key, other: key }) },
      /takes the event "other", which no input provides/,
    ],
    [
      "an actor type with a dot",
      { actors: { "a.b": { machine: emitter as never, on: { op: key } } } },
      /actor type "a\.b"/,
    ],
    [
      "a machine that cannot be hosted",
      {
        actors: { one: { machine: createMachine({ context: { m: new Map() } }) as never, on: { op: key } } },
        emits: {},
      },
      /actor "one" cannot be hosted: .*m is a Map/,
    ],
    ["an emitted event without route", { emits: {} }, /"done" is emitted and has no route/],
    [
      "a route that no machine needs",
      { emits: { done: [count("dones")], gone: [count("gones")] } },
      /"gone" has a route, and no machine emits it/,
    ],
    ["an empty route", { emits: { done: [] } }, /empty list/],
    ["a tell to an unknown actor", { emits: { done: [tell("two", key)] } }, /actor "two", which the app does not have/],
    ["a topic to publish to that Kafka refuses", { emits: { done: [publish("", { key })] } }, /published to ""/],
    [
      "a table without schema",
      { emits: { done: [insert("orders", () => ({}))] } },
      /"orders" is not of the form schema\.table/,
    ],
    ["an outbox table in capitals", { outboxTable: "App.Outbox" }, /outbox table "App\.Outbox"/],
    [
      "an outbox event without type",
      { emits: { done: [outbox({ aggregateType: "x", aggregateId: key, type: "", payload: key })] } },
      /empty type/,
    ],
    ["a counter of the runtime", { emits: { done: [count("taken")] } }, /counter of the runtime/],
    ["a negative lateness", { late: { allowedMs: -1 } }, /lateness -1/],
    ["a late topic that Kafka refuses", { late: { allowedMs: 1, topic: "." } }, /late records/],
    [
      "publishing to an own input",
      { emits: { done: [publish("in", { key })] } },
      /"in" is an input and also written to/,
    ],
    [
      "an input that is an own dead-letter topic",
      { inputs: [input, { ...input, topic: "in.dlq" }] },
      /"in\.dlq" is an input and also written to/,
    ],
  ];
  for (const [what, change, sentence] of cases) {
    it(`names ${what}`, () => {
      expect(faults(change).join("\n")).toMatch(sentence);
    });
  }

  it("names all faults at once", () => {
    expect(faults({ name: "", version: -1, late: { allowedMs: Number.NaN } })).toHaveLength(3);
  });

  it("does not judge routes where a machine computes what it emits", () => {
    const computed = createMachine({ on: { op: { actions: [assign({}), emit(() => ({ type: "any" }))] } } });
    expect(
      faults({ actors: { one: { machine: computed as never, on: { op: key } } }, emits: { any: [count("x")] } }),
    ).toEqual([]);
  });
});
