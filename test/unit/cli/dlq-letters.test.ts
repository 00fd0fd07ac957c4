/** Dead letters of an outbox topic: what `lockstep dlq` makes of what the relay writes. */
import { expect, test } from "vitest";

import type { InputRecord } from "../../../src/actors/record.ts";
import { latestOf, letterOf, lettersOf, replayOf } from "../../../src/cli/dlq-letters.ts";
import app from "../../../src/machines/trading/app.ts";
import { toOutboxRecord } from "../../../src/relay/outbox-record.ts";

const target = { partitions: 2, bytesMax: 1_000_000, aheadMsMax: 3_600_000, behindMsMax: 3_600_000 };

function deadLetter(): InputRecord {
  const values = new Map(
    Object.entries({
      event_id: null,
      aggregate_type: "order",
      aggregate_id: "BTC-USD",
      type: "OrderFilled",
      payload: '{"qty": 1}',
      occurred_at: null,
    }).map(([name, text]) => [name, text === null ? null : Buffer.from(text)]),
  );
  const { record, dead } = toOutboxRecord(values, 1_000_000, {
    table: "app.outbox",
    events: { ...target, topic: "trading.orders" },
    deadLetters: { ...target, topic: "trading.orders.dlq" },
  });
  expect(dead).toBe(true);
  return { ...record, offset: 7n };
}

test("without a name all are meant, the outbox's too; the outbox topic, and its dead letters, name those; all others are refused with the names there are", () => {
  expect(lettersOf({ app }, "trading.orders")).toEqual(["trading.orders.dlq"]);
  expect(lettersOf({ app }, "trading.orders.dlq")).toEqual(["trading.orders.dlq"]);
  const inputs = app.inputs.map(({ topic }) => `${topic}.dlq`);
  expect(lettersOf({ app }, undefined)).toEqual([...inputs, "trading.orders.dlq"]);
  expect(() => lettersOf({ app }, "nobody's")).toThrow(/trading\.orders\.dlq/);
});

test("a row that the relay set aside is shown with its table and cause, and is not replayed: what to do instead is said", () => {
  const letter = letterOf(deadLetter());
  expect(letter).toMatchObject({
    code: "RECORD_REFUSED",
    message: "The row has no event_id, by which it could be known.",
    outboxTable: "app.outbox",
    source: null,
  });
  expect(replayOf(letter, { app })).toEqual({
    reason:
      "it is a row of app.outbox, not a record of an input; insert it there again, mended and with an event_id of its own, and the relay publishes it",
  });
});

function letterFrom(topic: string, on: string) {
  const headers = Object.entries({ topic, partition: "0", offset: "3", exception: "ROW_REFUSED" });
  return letterOf({
    topic: on,
    partition: 0,
    offset: 1n,
    key: Buffer.from("k"),
    value: Buffer.from("{}"),
    headers: headers.map(([name, value]) => [`__streams.errors.${name}`, Buffer.from(value)] as const),
    timestampMs: 1n,
  });
}

test("R2: a letter goes to the input that its dead letters are of, and to no other topic that it names", () => {
  const [first, second] = app.inputs.map(({ topic }) => topic) as [string, string];
  const replay = (topic: string) => replayOf(letterFrom(topic, `${first}.dlq`), { app });
  expect(replay(first)).toMatchObject({ topic: first, partition: 0 });
  expect(replay("payments")).toEqual({ reason: expect.stringMatching(/came from payments, which is no input of/) });
  expect(replay(second)).toEqual({ reason: expect.stringContaining(`whose dead letters are on ${second}.dlq`) });
});

test("a limit keeps the latest by time, whichever topic they are of, in the order in which they were read", () => {
  const letters = [5n, 1n, 9n, 3n, 9n].map((timestampMs, at) => ({ at, record: { timestampMs } }));
  const kept = (limit: number) => latestOf(letters, limit).map(({ at }) => at);
  expect(kept(3)).toEqual([0, 2, 4]);
  expect(kept(1)).toEqual([4]);
  expect(kept(0)).toEqual([]);
  expect(kept(9)).toEqual([0, 1, 2, 3, 4]);
});
