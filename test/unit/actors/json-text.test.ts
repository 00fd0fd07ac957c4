/** JSON from outside. JT: src/actors/json-text.ts. The audit's own reading must agree with it on every text. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { JSON_DEPTH_MAX, parseJson } from "../../../src/actors/json-text.ts";
import { readStrictJson } from "../../../src/audit/strict-json.ts";

const nested = (levels: number) => "[".repeat(levels) + "]".repeat(levels);
const prototypeEscaped = '{"\\u005f_proto__" : 1}';

describe("parseJson", () => {
  const refused: ReadonlyArray<readonly [what: string, text: string, fault: RegExp]> = [
    ["what is no JSON", "{", /^is not JSON$/],
    ["NaN", '{"n":NaN}', /^is not JSON$/],
    ["Infinity", "[Infinity]", /^is not JSON$/],
    ["a byte order mark", "\ufeff{}", /^is not JSON$/],
    ["a number beyond every double", '{"n":1e999}', /the number 1e999, which is beyond every double/],
    ["the same, negative and in digits", `[-1${"0".repeat(400)}]`, /the number -10{38}\.\.\., which is beyond/],
    [
      "a whole number that would be rounded",
      '{"n":9007199254740993}',
      /9007199254740993, which a double does not hold/,
    ],
    ["the same, negative", "-9007199254740993", /-9007199254740993, which a double does not hold/],
    ["a key __proto__", '{"a":[{"__proto__":{"isAdmin":true}}]}', /^has a key __proto__$/],
    ["a key __proto__ in escapes", prototypeEscaped, /^has a key __proto__$/],
    ["a level too many", nested(JSON_DEPTH_MAX + 1), /^is nested deeper than 100 levels$/],
    ["a million levels", nested(1_000_000), /^is nested deeper than 100 levels$/],
  ];
  for (const [what, text, fault] of refused) {
    it(`JT1: refuses ${what}`, () => {
      expect(parseJson(text)).toEqual({ fault: expect.stringMatching(fault) });
      expect(readStrictJson(Buffer.from(text))).toBe("undecodable");
    });
  }

  const taken: ReadonlyArray<readonly [what: string, text: string]> = [
    ["as many levels as are allowed", nested(JSON_DEPTH_MAX)],
    ["the greatest whole number of a double", "[9007199254740991,-9007199254740991]"],
    ["long decimals, which are rounded as everywhere", "[0.12345678901234567890123,1.7976931348623157e308,1e-999]"],
    ["the word __proto__ as a value", '{"a":"__proto__"}'],
    ["digits, brackets and quotes in text", `{"a":"9007199254740993 1e999 ${"[".repeat(200)} \\"","b\\\\":"\\\\"}`],
    ["keys that are only near", '{"__proto":1,"_proto__":2,"constructor":3,"\\u005fproto__":4}'],
    ["half of a surrogate pair", '"\\ud800"'],
  ];
  for (const [what, text] of taken) {
    it(`takes ${what}`, () => {
      expect(parseJson(text)).toEqual({ value: JSON.parse(text) });
      expect(readStrictJson(Buffer.from(text))).toEqual({ value: JSON.parse(text) });
    });
  }

  it("JT1, JT2: what it returns is what JSON.parse gives, and the audit reads the same", () => {
    const anyText = fc.oneof(
      fc.json({ depthSize: "large" }),
      fc.json().map((text) => text.replaceAll("1", "12345678901234567").replaceAll("e", "E9")),
      fc
        .array(fc.constantFrom("{", "}", "[", "]", '"', "\\", ":", ",", "1e9", "12345678901234567", "__proto__", " "))
        .map((parts) => parts.join("")),
    );
    fc.assert(
      fc.property(anyText, (text) => {
        const parsed = parseJson(text);
        const audited = readStrictJson(Buffer.from(text));
        if ("fault" in parsed) return audited === "undecodable";
        expect(parsed.value).toEqual(JSON.parse(text));
        return typeof audited !== "string";
      }),
      { numRuns: 2_000 },
    );
  });
});
