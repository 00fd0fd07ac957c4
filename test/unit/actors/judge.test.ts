import { describe, expect, it } from "vitest";

import type { Schema } from "../../../src/actors/app.ts";
import { input } from "../../../src/actors/app.ts";
import { judge, VALUE_BYTES_MAX } from "../../../src/actors/judge.ts";
import type { InputRecord } from "../../../src/actors/record.ts";
import { judged, opSchema, record, testApp } from "./machines.ts";

const app = testApp();
const good = { key: "a1", op: "add", n: 1, ts: 1_000 };
const schemaOf = (validate: Schema<unknown>["~standard"]["validate"]): Schema<unknown> => ({
  "~standard": { version: 1, vendor: "test", validate },
});

describe("judge", () => {
  it("makes an event of a sound record, at its event time", () => {
    const one = judged(app, record("in.a", 3, { value: good }));
    expect(one).toMatchObject({ timeMs: 1_000, rejection: null, source: null, event: { ...good, type: "op" } });
    expect(one.bytes).toBeGreaterThan(JSON.stringify(good).length);
  });

  const cases: Array<[string, Parameters<typeof record>[2], string, RegExp]> = [
    ["no value", { value: null }, "RECORD_UNDECODABLE", /no value/],
    ["no value and no key", { value: null, key: null }, "RECORD_UNDECODABLE", /no value/],
    ["bytes that are not UTF-8", { value: Buffer.from([0x22, 0xc3, 0x28, 0x22]) }, "RECORD_UNDECODABLE", /not UTF-8/],
    ["text that is not JSON", { value: Buffer.from("{") }, "RECORD_UNDECODABLE", /not JSON/],
    ["a value beyond 16 MiB", { value: Buffer.alloc(VALUE_BYTES_MAX + 1, " ") }, "RECORD_TOO_LARGE", /16777217 bytes/],
    ["a value that JSON.parse would change", { value: Buffer.from('{"n":1e999}') }, "RECORD_UNDECODABLE", /1e999/],
    ["no key", { value: good, key: null }, "RECORD_WITHOUT_KEY", /no key/],
    ["an empty key", { value: good, key: "" }, "RECORD_WITHOUT_KEY", /no key/],
    ["a value that the schema refuses", { value: { ...good, op: "what" } }, "RECORD_REFUSED", /^op: is not known$/],
    ["a key that is not the value's", { value: good, key: "a2" }, "RECORD_KEY_MISMATCH", /should be "a1"/],
    ["a negative time", { value: { ...good, ts: -1 } }, "RECORD_TIME_INVALID", /-1/],
    ["no time", { value: { ...good, ts: "x" } }, "RECORD_TIME_INVALID", /NaN/],
    ["a time that is no whole number", { value: { ...good, ts: 1.5 } }, "RECORD_TIME_INVALID", /1\.5/],
    [
      "a time beyond every date",
      { value: { ...good, ts: 8.64e15 + 2 }, timestampMs: -1n },
      "RECORD_TIME_INVALID",
      /milliseconds/,
    ],
    [
      "a time too far ahead",
      { value: { ...good, ts: 61_001 }, timestampMs: 1_000n },
      "RECORD_TIME_INVALID",
      /60000 ms beyond/,
    ],
  ];
  for (const [what, options, code, message] of cases) {
    it(`rejects ${what}`, () => {
      const one = judged(app, record("in.a", 3, options));
      expect(one).toMatchObject({
        timeMs: Number.NEGATIVE_INFINITY,
        event: null,
        rejection: { code, message: expect.stringMatching(message) },
      });
    });
  }

  it("takes a time up to the bound, and any where Kafka has no timestamp", () => {
    expect(judged(app, record("in.a", 3, { value: { ...good, ts: 61_000 }, timestampMs: 1_000n })).timeMs).toBe(61_000);
    expect(judged(app, record("in.a", 3, { value: { ...good, ts: 1e12 }, timestampMs: -1n })).timeMs).toBe(1e12);
  });

  const one = record("in.a", 1, { value: good });
  const withSchema = (schema: Schema<unknown>) =>
    judge(app, { ...input("op", { schema, time: () => 1 }), topic: "in.a" }, one).rejection;
  it("rejects where the schema cannot answer", () => {
    expect(withSchema(schemaOf(async (value) => ({ value })))).toEqual({
      code: "RECORD_REFUSED",
      message: "The schema is asynchronous.",
    });
    expect(withSchema(schemaOf(async () => Promise.reject(new Error("unheard"))))).toMatchObject({
      code: "RECORD_REFUSED",
    });
    expect(
      withSchema(
        schemaOf(() => {
          throw new Error("no");
        }),
      ),
    ).toEqual({ code: "RECORD_REFUSED", message: "The schema threw: no." });
    expect(withSchema(schemaOf(() => ({ value: 5 })))).toEqual({
      code: "RECORD_REFUSED",
      message: "The value is not an object.",
    });
  });

  it("lists the issues with their paths, up to 1,000 characters", () => {
    const issues = Array.from({ length: 200 }, (_, i) => ({ message: "is wrong", path: ["list", { key: i }, "n"] }));
    const message = withSchema(schemaOf(() => ({ issues })))!.message;
    expect(message).toHaveLength(1_000);
    expect(message.startsWith("list.0.n: is wrong; list.1.n: is wrong; ")).toBe(true);
  });

  it("rejects where key or time cannot be computed", () => {
    const fail = () => {
      throw new Error("no");
    };
    const definition = { topic: "in.a", ...input("op", { schema: opSchema, time: fail }) };
    expect(judge(app, definition, one).rejection).toMatchObject({ code: "RECORD_TIME_INVALID" });
    expect(judge(app, { ...definition, key: fail }, one).rejection).toMatchObject({ code: "RECORD_REFUSED" });
  });

  it("compares keys as bytes", () => {
    const { rejection } = judged(
      app,
      record("in.a", 1, { value: { ...good, key: "\ufffd" }, key: Buffer.from([0xff]) }),
    );
    expect(rejection).toMatchObject({ code: "RECORD_KEY_MISMATCH" });
  });

  it("reads the source of a record from the last such header", () => {
    const source = (...values: string[]) => {
      const headers: InputRecord["headers"] = values.map((value) => ["lockstep-source", Buffer.from(value)]);
      return judged(app, record("in.a", 1, { value: good, headers })).source;
    };
    expect(source("i-1/3/17/4")).toEqual({ key: "i-1/3", seq: 17, ordinal: 4 });
    expect(source("i/0/1/1", "j/0/2/2")).toEqual({ key: "j/0", seq: 2, ordinal: 2 });
    for (const wrong of ["", "i/0/1", "i/0/1/x", "/0/1/1", "i/0/1/1/1"]) expect(source(wrong)).toBeNull();
  });
});
