import { describe, expect, test } from "vitest";

import { createHook, parseFailPoints } from "../../../src/runtime/failpoints.ts";

describe("fail-points", () => {
  test("are read from text, with and without a shard", () => {
    expect(parseFailPoints(" pg.committed:3:kill, snapshot.piece:1:stop@4,")).toEqual([
      { name: "pg.committed", nth: 3, action: "kill", shard: null, hits: 0 },
      { name: "snapshot.piece", nth: 1, action: "stop", shard: 4, hits: 0 },
    ]);
    expect(parseFailPoints("")).toEqual([]);
  });

  test.each([
    "pg.committed",
    "pg.committed:1",
    "pg.committed:x:kill",
    "pg.committed:1:explode",
    "pg.committed:1:kill@x",
  ])("%s is refused, and said how it must be", (text) => {
    expect(() => parseFailPoints(`take.before:1:throw,${text}`)).toThrow(`"${text}" is not of the form name:nth:`);
  });

  test("take effect at the n-th hit of their own shard, once", () => {
    const points = parseFailPoints("take.before:2:throw@4");
    const [other, own] = [createHook(points, 3, undefined), createHook(points, 4, undefined)];
    for (let i = 0; i < 3; i += 1) expect(() => other("take.before")).not.toThrow();
    own("fold.before");
    own("take.before");
    expect(() => own("take.before")).toThrow("fail-point take.before");
    expect(() => own("take.before")).not.toThrow();
  });

  test("none does nothing", () => {
    expect(createHook([], 0, undefined)("take.before")).toBeUndefined();
  });
});
