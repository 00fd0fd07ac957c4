import { describe, expect, it } from "vitest";

import { signalSchema } from "../../../../src/machines/trading/schemas.ts";

const GOOD = { symbol: "BTC-USD", side: "BUY", qty: 1, price: 100, timeframe: "5m", ts: 1_767_225_600_000 };

/** @param json fields over a good signal, as they stand in a record; undefined leaves one out */
function check(fields: Record<string, unknown>) {
  return signalSchema("5m").safeParse(JSON.parse(JSON.stringify({ ...GOOD, ...fields })));
}

describe("signal schema", () => {
  it.each<[string, Record<string, unknown>]>([
    ["decimal strings", { qty: "0012.50", price: "43211.27" }],
    ["the smallest amount", { qty: 1e-8, price: "0.00000001" }],
    ["the greatest amount", { qty: 1e9, price: "1000000000.0" }],
    ["the first moment", { ts: 0 }],
    ["the last moment", { ts: 253_402_300_799_999 }],
    ["an id of 200 characters", { id: "x".repeat(200) }],
    ["a symbol of 32 characters", { symbol: "A".repeat(32) }],
    ["fields it does not know", { venue: "X" }],
  ])("takes %s", (_name, fields) => {
    expect(check(fields).success).toBe(true);
  });

  it.each<[string, Record<string, unknown>, string]>([
    ["another timeframe", { timeframe: "1m" }, "timeframe"],
    ["an unknown side", { side: "buy" }, "side"],
    ["a qty of 0", { qty: 0 }, "qty"],
    ["a negative qty", { qty: -1 }, "qty"],
    ["a negative qty in text", { qty: "-1" }, "qty"],
    ["a qty that would round to 0", { qty: 9.9e-9 }, "qty"],
    ["a price above 1e9", { price: 1_000_000_000.01 }, "price"],
    ["a price that is too much for a double", { price: "9".repeat(400) }, "price"],
    ["an exponent in text", { price: "1e3" }, "price"],
    ["a blank in text", { price: " 1" }, "price"],
    ["a point without digits", { price: "1." }, "price"],
    ["a price that is no number", { price: null }, "price"],
    ["a missing price", { price: undefined }, "price"],
    ["a negative ts", { ts: -1 }, "ts"],
    ["a ts with a fraction", { ts: 1.5 }, "ts"],
    ["a ts in text", { ts: "1767225600000" }, "ts"],
    ["a ts beyond the year 9999", { ts: 253_402_300_800_000 }, "ts"],
    ["lower case in the symbol", { symbol: "btc" }, "symbol"],
    ["a newline after the symbol", { symbol: "BTC\n" }, "symbol"],
    ["an empty symbol", { symbol: "" }, "symbol"],
    ["a symbol of 33 characters", { symbol: "A".repeat(33) }, "symbol"],
    ["an empty id", { id: "" }, "id"],
    ["an id that is null", { id: null }, "id"],
    ["an id that is a number", { id: 7 }, "id"],
    ["an id of 201 characters", { id: "x".repeat(201) }, "id"],
  ])("refuses %s, and names the field", (_name, fields, path) => {
    const result = check(fields);
    expect(result.error?.issues.map((issue) => issue.path[0])).toEqual([path]);
  });

  it("makes doubles of strings and keeps no -0", () => {
    const value = signalSchema("5m").parse(
      JSON.parse('{"symbol":"A","side":"SELL","qty":"1.50","price":2,"timeframe":"5m","ts":-0}'),
    );
    expect(value).toStrictEqual({
      symbol: "A",
      side: "SELL",
      qty: 1.5,
      price: 2,
      timeframe: "5m",
      ts: 0,
      identity: "c:SELL|1.5|2|0",
    });
  });

  it("identifies by id, else by the parsed content, and the two never meet", () => {
    const identity = (fields: Record<string, unknown>) => check(fields).data?.identity;
    expect(identity({ id: "a" })).toBe("i:a");
    expect(identity({ qty: "1.0", price: "100.00" })).toBe(identity({}));
    expect(identity({ id: `BUY|1|100|${GOOD.ts}` })).not.toBe(identity({}));
  });
});
