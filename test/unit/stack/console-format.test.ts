import { describe, expect, test } from "vitest";

import { CONSOLE_FORMAT, parseConsoleLine } from "../../../src/stack/console-format.ts";

const { "key.separator": FIELD, "headers.separator": HEADER, "null.literal": NULL } = CONSOLE_FORMAT.properties;

describe("a line of the console consumer", () => {
  test("becomes a record, with several headers", () => {
    const headers = ["trace:00-ab:cd", `empty:${NULL}`].join(HEADER);
    const line = [
      "CreateTime:1700000000123",
      "Partition:7",
      "Offset:9007199254740993",
      headers,
      "BTC-USD",
      '{"a":"\\n"}',
    ];
    expect(parseConsoleLine("decisions", line.join(FIELD))).toEqual({
      topic: "decisions",
      partition: 7,
      offset: 9007199254740993n,
      timestampMs: 1700000000123,
      key: "BTC-USD",
      headers: { trace: "00-ab:cd", empty: "" },
      value: '{"a":"\\n"}',
    });
  });

  test("tells a missing key and a tombstone from empty ones", () => {
    const line = (key: string, value: string): string =>
      ["LogAppendTime:5", "Partition:0", "Offset:0", "NO_HEADERS", key, value].join(FIELD);
    expect(parseConsoleLine("t", line(NULL, NULL))).toMatchObject({
      key: null,
      value: null,
      headers: {},
      timestampMs: 5,
    });
    expect(parseConsoleLine("t", line("", ""))).toMatchObject({ key: "", value: "" });
  });

  test("is refused when it is no record", () => {
    const refusal = expect.objectContaining({ code: "KAFKA_UNAVAILABLE" });
    expect(() => parseConsoleLine("t", "Processed a total of 3 messages")).toThrow(refusal);
    expect(() =>
      parseConsoleLine("t", ["CreateTime:1", "Partition:0", "Offset:0", "NO_HEADERS", "k"].join(FIELD)),
    ).toThrow(refusal);
  });
});
