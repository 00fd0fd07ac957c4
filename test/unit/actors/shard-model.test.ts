import { describe, expect, it } from "vitest";

import { publish } from "../../../src/actors/app.ts";
import { eventId } from "../../../src/actors/ids.ts";
import { partitionFor } from "../../../src/actors/partition.ts";
import { ShardModel } from "../../../src/actors/shard-model.ts";
import {
  bytesOf,
  fold,
  header,
  type Item,
  json,
  judged,
  newModel,
  op,
  record,
  testApp,
  testOptions,
} from "./machines.ts";

const app = testApp();
const take = (offset: number, value: Parameters<typeof op>[2], options?: Parameters<typeof op>[3]): Item => ({
  kind: "record",
  judged: op(app, offset, value, options),
});
const tick = (toMs: number, timersMax = 100): Item => ({ kind: "tick", toMs, timersMax });

describe("a record that is stepped", () => {
  it("publishes, tells and counts what the machine emits, with ids and ordinals of the whole record", () => {
    const { publishes, counts } = fold(newModel(), [take(7, { n: 3 })]);
    const id = (ordinal: number) =>
      eventId("test", { kind: "record", topic: "in.a", partition: 0, offset: 7n }, ordinal);

    const [added] = publishes;
    expect(added).toMatchObject({ topic: "out.added", id: id(0), origin: 0, timestampMs: 100n });
    expect(added!.partition).toBe(partitionFor(Buffer.from("a1"), 4));
    expect(json(added!.value)).toEqual({ board: "a", key: "a1", sum: 3, n: 3 });
    expect(header(added!, "lockstep-id")).toBe(id(0));
    expect(publishes.filter(({ topic }) => topic === "out.seen").map((p) => p.id)).toEqual([id(1), id(2)]);
    expect(counts).toEqual({ taken: 1, additions: 1 });
  });

  it("gives the second publish route of one event an id of its own", () => {
    const { publishes } = fold(newModel(), [take(7, { n: 3 })]);
    expect(new Set(publishes.map((p) => p.id)).size).toBe(publishes.length);
    expect(publishes.map((p) => p.topic)).toContain("out.seen.copy");
  });

  it("fires the timers due up to its time before it, each at its own stream time", () => {
    const { publishes, rows, counts } = fold(newModel(), [take(1, { n: 2, ts: 100 }), take(2, { n: 5, ts: 150 })]);
    const mine = publishes.filter(({ topic }) => topic === "out.flushed" || topic === "out.added");
    expect(mine.map((p) => [p.topic, p.timestampMs])).toEqual([
      ["out.added", 100n],
      ["out.flushed", 130n],
      ["out.added", 150n],
    ]);
    expect(json(mine[1]!.value)).toMatchObject({ sum: 2, at: 130 });
    expect(json(mine[2]!.value)).toMatchObject({ sum: 5 });
    const id = eventId("test", { kind: "timer", actorType: "tally", key: "a1", timerId: "flush", dueMs: 130 }, 0);
    expect(rows[0]).toMatchObject({ table: "app.flushes", row: { id, sum: 2, at: 130 } });
    expect(rows[1]).toMatchObject({
      table: "app.outbox",
      row: { aggregate_type: "tally", type: "Flushed", payload: { sum: 2 }, occurred_at: "1970-01-01T00:00:00.130Z" },
    });
    expect(counts["timersFired"]).toBe(1);
  });

  it("ends an actor that reached its final state, with its timers", () => {
    const model = newModel();
    fold(model, [take(1, { n: 2 })]);
    expect([model.actorCount, model.timerCount]).toEqual([2, 1]);
    fold(model, [take(2, { op: "end", ts: 101 })]);
    expect([model.actorCount, model.timerCount]).toEqual([1, 0]);
  });
});

describe("a record that cannot be stepped", () => {
  const cases: Array<
    [op: "boom" | "nan" | "echo" | "huge" | "unroutable" | "badvalue", code: string, message: RegExp]
  > = [
    ["boom", "MACHINE_THREW", /boom/],
    ["nan", "CONTEXT_NOT_JSON", /sum is NaN/],
    ["echo", "TELLS_EXCEEDED", /More than 20 events/],
    ["huge", "OUTPUT_TOO_LARGE", /out\.sized/],
    ["unroutable", "EFFECT_REFUSED", /has no route/],
    ["badvalue", "EFFECT_REFUSED", /text: is not a string/],
  ];
  for (const [what, code, message] of cases) {
    it(`M4: is set aside whole with ${code}, timers it fired and stream time included`, () => {
      const model = newModel();
      fold(model, [take(1, { n: 2, ts: 100 })]);
      const before = bytesOf(model);
      const { publishes, rows, counts, origins } = fold(model, [take(2, { op: what, ts: 200 })]);

      expect(rows).toEqual([]);
      expect(origins).toHaveLength(1);
      expect(publishes).toHaveLength(1);
      const [letter] = publishes;
      expect(letter).toMatchObject({
        topic: "in.a.dlq",
        partition: 0,
        timestampMs: 1_000_000n,
        key: Buffer.from("a1"),
      });
      expect(json(letter!.value)).toMatchObject({ op: what });
      expect(header(letter!, "__streams.errors.exception")).toBe(code);
      expect(header(letter!, "__streams.errors.message")).toMatch(message);
      expect(header(letter!, "__streams.errors.stacktrace")).toBe("");
      expect(header(letter!, "__streams.errors.offset")).toBe("2");
      expect(counts).toEqual({ taken: 1, quarantined: 1 });
      expect(model.streamTimeMs).toBe(100);
      // What counts it, and the run that it lengthens, are all that it leaves.
      const state = bytesOf(model).toString().replace(',"refusedRuns":{"in.a":1}', "");
      const counters = /"counters":\{[^}]*\}/;
      expect(state.replace(counters, "")).toBe(before.toString().replace(counters, ""));
    });
  }

  it("is set aside by a verdict without being stepped", () => {
    const model = newModel();
    model.begin();
    model.takeRecord(op(app, 1, {}), { code: "ROW_REFUSED", message: "22003" });
    const { publishes, counts } = model.finish();
    expect(publishes.map((p) => header(p, "__streams.errors.exception"))).toEqual(["ROW_REFUSED"]);
    expect(counts).toEqual({ taken: 1, quarantined: 1 });
    expect(model.actorCount).toBe(0);
  });

  it("is set aside with its original bytes when it was rejected before", () => {
    const value = Buffer.from([0xff, 0x00]);
    const one = judged(app, record("in.b", 4, { value, headers: [["h", null]] }));
    const { publishes } = fold(newModel(), [{ kind: "record", judged: one }]);
    expect(publishes[0]).toMatchObject({ topic: "in.b.dlq", value });
    expect(publishes[0]!.headers[0]).toEqual(["h", null]);
    expect(header(publishes[0]!, "__streams.errors.exception")).toBe("RECORD_UNDECODABLE");
  });

  it("D1: a dead letter that would not fit loses its value, then its headers, and says so", () => {
    const large = judged(app, record("in.a", 1, { value: Buffer.alloc(5_000, 0xff) }));
    const wordy = judged(app, record("in.a", 2, { value: null, headers: [["h", Buffer.alloc(5_000)]] }));
    const { publishes } = fold(
      newModel(),
      [large, wordy].map((one) => ({ kind: "record" as const, judged: one })),
    );
    expect(publishes[0]!.value).toBeNull();
    expect(header(publishes[0]!, "__lockstep.omitted.bytes")).toBe("5000");
    expect(header(publishes[1]!, "h")).toBeUndefined();
    expect(header(publishes[1]!, "__streams.errors.offset")).toBe("2");
  });

  it("D2: a dead letter holds no stack trace, whose paths differ between machines", () => {
    const { publishes } = fold(newModel(), [take(1, { op: "boom" })]);
    for (const [, value] of publishes[0]!.headers) expect(value!.toString()).not.toMatch(/\.ts:\d+|node_modules/);
  });

  it("M5: a bug of ours is thrown, and nothing is set aside for it", () => {
    const model = new ShardModel({
      ...testOptions(),
      partitionsOf: () => {
        throw new TypeError("a bug");
      },
    });
    model.begin();
    expect(() => model.takeRecord(op(app, 1, {}))).toThrow("a bug");
    model.discard();
    expect(model.counters).toEqual({});
  });
});

describe("late and repeated records", () => {
  it("a late record goes to the late topic as it came, and moves nothing", () => {
    const model = newModel();
    fold(model, [take(1, { op: "nan", ts: 100 }), take(2, { n: 1, ts: 200 })]);
    const actors = model.actorCount;
    const { publishes, counts } = fold(model, [take(3, { key: "b1", ts: 160 }), take(4, { key: "b2", ts: 159 })]);
    expect(model.actorCount).toBe(actors + 2);
    const [late] = publishes.filter(({ topic }) => topic === "out.late");
    expect(json(late!.value)).toMatchObject({ key: "b2" });
    expect(header(late!, "__lockstep.late.by-ms")).toBe("41");
    expect(header(late!, "__lockstep.late.offset")).toBe("4");
    expect(counts).toMatchObject({ taken: 2, late: 1 });
  });

  it("a record not above the last one seen of its source is dropped, also after a restore", () => {
    const model = newModel();
    const from = (source: string): Parameters<typeof op>[3] => ({
      headers: [["lockstep-source", Buffer.from(source)]],
    });
    fold(model, [take(1, {}, from("one/0/5/1"))]);
    const restored = ShardModel.restore(testOptions(), [...model.capture().pieces(64)], 1);
    const { counts } = fold(restored, [
      take(2, {}, from("one/0/5/1")),
      take(3, {}, from("one/0/4/9")),
      take(4, {}, from("one/0/5/2")),
      take(5, {}, from("one/1/1/1")),
      take(6, {}, { topic: "in.b", ...from("one/0/5/1") }),
    ]);
    expect(counts).toMatchObject({ taken: 5, dropped: 2, additions: 3 });
  });

  it("a record set aside is remembered as seen", () => {
    const model = newModel();
    const headers = [["lockstep-source", Buffer.from("one/0/5/1")]] as const;
    const { counts } = fold(model, [take(1, { op: "boom" }, { headers }), take(2, { op: "boom" }, { headers })]);
    expect(counts).toEqual({ taken: 2, quarantined: 1, dropped: 1 });
  });
});

describe("timers and ticks", () => {
  const three = ["a1", "a2", "a3"].map((key, i) => take(i, { key, ts: 100 }));

  it("M2: a tick that may fire no more stops at the last timer it fired", () => {
    const model = newModel();
    fold(model, [...three, take(3, { key: "a4", ts: 110 })]);
    model.begin();
    expect(model.nextDueMs).toBe(130);
    expect(model.takeTick(500, { timersMax: 2 })).toEqual({ streamTimeMs: 130, timers: 2 });
    expect(model.takeTick(500, { timersMax: 1 })).toEqual({ streamTimeMs: 130, timers: 1 });
    expect(model.takeTick(500, { timersMax: 0 })).toEqual({ streamTimeMs: 130, timers: 0 });
    expect(model.takeTick(135)).toEqual({ streamTimeMs: 135, timers: 0 });
    expect(model.takeTick(500)).toEqual({ streamTimeMs: 500, timers: 1 });
    expect(model.takeTick(400)).toEqual({ streamTimeMs: 500, timers: 0 });
    model.accept();
  });

  it("M2: timers that a tick left behind fire before the next record, even one of an earlier time", () => {
    const model = newModel();
    fold(model, [...three, tick(130, 1)]);
    const { counts } = fold(model, [take(9, { key: "b1", ts: 120 })]);
    expect(counts).toMatchObject({ timersFired: 2 });
  });

  it("a timer that throws is removed and reported, and the record that made it fire is stepped", () => {
    const model = newModel();
    fold(model, [take(1, { op: "orphan", ts: 100 })]);
    const { publishes, counts } = fold(model, [take(2, { n: 3, ts: 200 })]);
    const [letter, added] = publishes;
    expect(letter).toMatchObject({ topic: "in.a.dlq", timestampMs: 120n, key: Buffer.from("a1"), partition: 0 });
    expect(json(letter!.value)).toMatchObject({
      actorType: "tally",
      key: "a1",
      timerId: "orphan",
      dueMs: 120,
      event: { op: "boom" },
    });
    expect(header(letter!, "__streams.errors.exception")).toBe("MACHINE_THREW");
    expect(added!.topic).toBe("out.added");
    expect(counts).toMatchObject({ quarantined: 1, timersFired: 1, additions: 1 });
    expect(model.timerCount).toBe(1); // the flush of the record
  });

  it("M2: a timer that sets itself again without delay fires once each millisecond, not for ever", () => {
    const model = newModel();
    fold(model, [take(1, { op: "spin", ts: 100 })]);
    expect(model.nextDueMs).toBe(101);
    expect(fold(model, [take(2, { key: "b1", ts: 110 })]).counts).toMatchObject({ timersFired: 10 });
  });

  it("a timer with a verdict is removed, not stepped, and reported", () => {
    const model = newModel();
    fold(model, three);
    model.begin();
    const verdict = {
      kind: "timer",
      actorType: "tally",
      key: "a2",
      timerId: "flush",
      dueMs: 130,
      code: "ROW_REFUSED",
      message: "22003",
    } as const;
    model.takeTick(130, { verdicts: [verdict] });
    const { publishes, rows, origins } = model.finish();
    expect(rows.filter(({ table }) => table === "app.flushes").map(({ row }) => row["key"])).toEqual(["a1", "a3"]);
    expect(publishes.filter(({ topic }) => topic === "in.a.dlq")).toHaveLength(1);
    expect(origins).toHaveLength(3);
    expect(rows.map(({ origin }) => origin)).toEqual([0, 0, 2, 2]);
    model.accept();
  });
});

describe("batches", () => {
  it("M3: discard() gives back the state of begin(), sources and counters included", () => {
    const model = newModel();
    fold(model, [take(1, {}), take(2, { key: "b1" })]);
    const before = bytesOf(model);
    model.begin();
    model.takeRecord(op(app, 3, { ts: 500 }, { headers: [["lockstep-source", Buffer.from("x/0/1/1")]] }));
    model.takeRecord(op(app, 4, { op: "end", ts: 500 }));
    model.takeTick(900);
    model.discard();
    expect(bytesOf(model).equals(before)).toBe(true);
  });

  it("knows what it publishes so far, without what was set aside", () => {
    const model = newModel();
    model.begin();
    expect([model.outputRecords, model.outputBytes]).toEqual([0, 0]);
    model.takeRecord(op(app, 1, { n: 1 }));
    const { outputRecords, outputBytes } = model;
    expect(outputRecords).toBe(1);
    expect(outputBytes).toBeGreaterThan(model.finish().publishes[0]!.value!.length);
    // It makes a timer fire, which publishes and is undone.
    model.takeRecord(op(app, 2, { op: "huge", ts: 200 }));
    expect(model.outputRecords).toBe(2);
    const letter = model.finish().publishes[1]!;
    expect(model.outputBytes - outputBytes).toBeLessThan(1_000 + letter.value!.length);
    // Of what was undone, nothing is counted: a model that never saw it counts the same.
    const other = newModel();
    other.begin();
    other.takeRecord(op(app, 1, { n: 1 }));
    other.takeRecord(op(app, 2, { op: "huge", ts: 200 }), {
      code: "OUTPUT_TOO_LARGE",
      message: header(letter, "__streams.errors.message")!,
    });
    expect(other.outputBytes).toBe(model.outputBytes);
  });

  it("refuses to be used out of order", () => {
    const model = newModel();
    expect(() => model.takeRecord(op(app, 1, {}))).toThrow("no batch is open");
    expect(() => model.accept()).toThrow("no batch is open");
    model.begin();
    expect(() => model.begin()).toThrow("another was open");
    expect(() => model.capture()).toThrow("inside a batch");
  });

  it("the digest tells apart what is published and inserted", () => {
    const digests = [[take(1, {})], [take(1, { n: 9 })], [take(2, {})], []].map(
      (items) => fold(newModel(), items).digest,
    );
    expect(new Set(digests).size).toBe(4);
    expect(fold(newModel(), [take(1, {})]).digest).toBe(digests[0]);
  });
});

describe("snapshots", () => {
  it("SS3: a snapshot of newer code is never loaded", () => {
    const pieces = [...newModel().capture().pieces(1_000)];
    expect(() => ShardModel.restore(testOptions(), pieces, 2)).toThrow(
      expect.objectContaining({ code: "CODE_CHANGED" }),
    );
  });

  it("SS3: an actor type's migrate brings an older snapshot up to date", () => {
    const model = newModel();
    fold(model, [take(1, { n: 2 })]);
    const pieces = [...model.capture().pieces(1_000)];
    const migrate = (snapshot: unknown, fromVersion: number) => {
      const { context } = snapshot as { context: object };
      return { ...(snapshot as object), context: { ...context, sum: 1_000 * fromVersion } };
    };
    const newer = testApp({ version: 3, migrate });
    const { publishes } = fold(ShardModel.restore(testOptions(newer), pieces, 1), [take(2, { n: 1 })]);
    expect(json(publishes[0]!.value)).toMatchObject({ sum: 1_001 });
    const failing = testApp({ version: 3, migrate: () => ({ nothing: true }) });
    expect(() => ShardModel.restore(testOptions(failing), pieces, 1)).toThrow(
      expect.objectContaining({ code: "CODE_CHANGED" }),
    );
  });

  it("refuses what is not a whole snapshot of this shard", () => {
    const model = newModel();
    fold(model, [take(1, {})]);
    const [whole] = [...model.capture().pieces(1 << 20)] as [Buffer];
    const broken = [
      [],
      [whole.subarray(0, -1)],
      [whole.subarray(0, whole.lastIndexOf("\n", -2) + 1)],
      [Buffer.from("{}\n")],
      [Buffer.from("no\n")],
    ];
    for (const pieces of broken) {
      expect(() => ShardModel.restore(testOptions(), pieces, 1)).toThrow(
        expect.objectContaining({ code: "SNAPSHOT_BROKEN" }),
      );
    }
    expect(() => ShardModel.restore({ ...testOptions(), shard: 1 }, [whole], 1)).toThrow("of shard 0");
  });

  it("SC2, SS2: a capture stays that of its moment while the fold goes on", () => {
    const model = newModel();
    fold(model, [take(1, { n: 2 })]);
    const expected = bytesOf(model);
    const capture = model.capture();
    fold(model, [take(2, { n: 5, ts: 300 }), take(3, { op: "end", ts: 301 })]);
    expect(Buffer.concat([...capture.pieces(50)]).equals(expected)).toBe(true);
    expect(capture).toMatchObject({ streamTimeMs: 100, actorCount: 2, timerCount: 1, counters: { taken: 1 } });
  });

  it("SC2: no piece exceeds its size", () => {
    const model = newModel();
    fold(model, [take(1, { n: 2 })]);
    const sizes = [...model.capture().pieces(50)].map((piece) => piece.length);
    expect(Math.max(...sizes)).toBe(50);
    expect(Math.min(...sizes.slice(0, -1))).toBe(50);
  });
});

describe("what a route knows", () => {
  it("idOf is the id of the latest event of a type that the same step emitted before", () => {
    const before: string[] = [];
    const knowing = {
      ...app,
      emits: {
        ...app.emits,
        seen: [
          publish("out.seen", {
            key: (_event, meta) => {
              try {
                before.push(meta.idOf("seen"));
              } catch (error) {
                before.push((error as Error).message);
              }
              return "k";
            },
          }),
        ],
        flushed: [publish("out.flushed", { key: (_event, { idOf }) => idOf("added") })],
      },
    } as typeof app;
    const model = newModel(knowing);
    const seen = fold(model, [take(1, { n: 3 })]).publishes.filter(({ topic }) => topic === "out.seen");
    expect(seen).toHaveLength(2);
    expect(before).toEqual(['This step has emitted no "seen" before.', seen[0]!.id]);
    // The flush is a step of its own: it has emitted no "added".
    const { publishes, counts } = fold(model, [tick(200)]);
    expect(header(publishes[0]!, "__streams.errors.message")).toBe('This step has emitted no "added" before.');
    expect(counts).toMatchObject({ quarantined: 1 });
  });
});
