import { describe, expect, test } from "vitest";

import { fold, type Item, judged, newModel, op, record, testApp } from "./machines.ts";

const app = testApp();
const take = (offset: number, value: Parameters<typeof op>[2], options?: Parameters<typeof op>[3]): Item => ({
  kind: "record",
  judged: op(app, offset, value, options),
});
const source = (text: string) => ({ headers: [["lockstep-source", Buffer.from(text)]] as [string, Buffer][] });

describe("notes of a fold", () => {
  test("name each actor that took an event, with its event time and how many events it emitted", () => {
    const { notes } = fold(newModel(), [take(1, { key: "a1", n: 3, ts: 100 }), take(2, { key: "b1", ts: 105 })]);
    expect(notes.steps.map(({ actorType, key, timeMs, emitted }) => [actorType, key, timeMs, emitted])).toEqual([
      ["tally", "a1", 100, 1],
      ["board", "a", 100, 2],
      ["tally", "b1", 105, 1],
      ["board", "b", 105, 0],
    ]);
    expect(notes).toMatchObject({ stepped: 2, threw: [], late: [], dropped: [], setAside: [] });
  });

  test("NT1: a record that fails leaves the step at which it failed, and none of those before it", () => {
    const model = newModel();
    fold(model, [take(1, { ts: 100 })]);
    const { notes } = fold(model, [take(2, { op: "boom", ts: 200 })]); // a timer fires on its way, and is undone with it
    expect(notes.steps).toEqual([]);
    expect(notes.threw).toMatchObject([{ actorType: "tally", key: "a1" }]);
    expect(notes.setAside).toEqual([{ kind: "record", topic: "in.a", code: "MACHINE_THREW", verdict: false }]);
    expect(notes.stepped).toBe(0);
  });

  test("NT1: a batch that is discarded leaves none for the next", () => {
    const model = newModel();
    model.begin();
    model.takeRecord(op(app, 1, {}));
    model.discard();
    expect(fold(model, [take(1, {})]).notes).toMatchObject({ stepped: 1, threw: [] });
  });

  test("NT2: each record is stepped, late, dropped or set aside", () => {
    const { notes, counts } = fold(newModel(), [
      take(1, { ts: 1_000 }, source("x/0/5/1")),
      take(2, { ts: 1_000 }, source("x/0/5/1")),
      take(3, { ts: 10 }),
      { kind: "record", judged: judged(app, record("in.b", 1, { value: { op: "nothing" } })) },
      take(4, { op: "nan", ts: 1_001 }),
    ]);
    expect(notes).toMatchObject({ stepped: 1, dropped: ["in.a"], late: ["in.a"] });
    expect(notes.setAside.map(({ topic, code }) => [topic, code])).toEqual([
      ["in.b", "RECORD_REFUSED"],
      ["in.a", "CONTEXT_NOT_JSON"],
    ]);
    expect(counts["taken"]).toBe(5);
  });

  test("tell a verdict from a fault of the record's own, and a timer from a record", () => {
    const model = newModel();
    const { notes } = fold(model, [take(1, { op: "huge", ts: 100 })]);
    expect(notes.setAside).toEqual([{ kind: "record", topic: "in.a", code: "OUTPUT_TOO_LARGE", verdict: true }]);

    model.begin();
    model.takeRecord(op(app, 2, {}), { code: "ROW_REFUSED", message: "22003" });
    expect(model.finish().notes.setAside).toEqual([
      { kind: "record", topic: "in.a", code: "ROW_REFUSED", verdict: true },
    ]);
    model.discard();

    fold(model, [take(3, { op: "orphan", ts: 200 })]);
    const fired = fold(model, [{ kind: "tick", toMs: 300, timersMax: 10 }]).notes;
    expect(fired.setAside).toEqual([{ kind: "timer", topic: "in.a", code: "MACHINE_THREW", verdict: false }]);
    expect(fired.threw).toMatchObject([{ actorType: "tally", key: "a1" }]);
  });
});
