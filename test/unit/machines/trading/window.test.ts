import { describe, expect, it } from "vitest";

import { signalWindow } from "../../../../src/machines/trading/window.ts";
import { START, signal } from "./signals.ts";
import { given, Stepper } from "./stepper.ts";

const KEY = "BTC-USD/5m";
const SECOND_START = START + 300_000;

describe("window", () => {
  it("tells how it stands after each signal", () => {
    given(signalWindow, KEY, [
      signal({ price: 100, id: "a" }),
      signal({ side: "SELL", price: 104, ts: START + 1, id: "b" }),
    ])
      .when(signal({ price: 102, ts: START + 2, id: "c" }))
      .then([
        {
          type: "windowUpdated",
          symbol: "BTC-USD",
          timeframe: "5m",
          start: START,
          buys: 2,
          sells: 1,
          price: 102,
          deviation: Math.sqrt(8 / 3),
          timestamp: START + 2,
          latest: [{ identity: "a" }, { identity: "b" }, { identity: "c" }],
        },
      ]);
  });

  it.each([
    ["the same id, whatever else differs", signal({ id: "a" }), signal({ id: "a", price: 7, ts: START + 9 })],
    ["the same content, however it was written", signal({ qty: "1.0" }), signal({ price: "100.00" })],
  ])("W1: ignores %s", (_name, first, second) => {
    const before = new Stepper(signalWindow, KEY);
    before.send(first);
    const after = given(signalWindow, KEY, [first])
      .when(second)
      .then([{ type: "duplicateIgnored", symbol: "BTC-USD", timeframe: "5m", identity: first.identity }]);
    expect(after.context).toEqual(before.context);
  });

  it("W1: five identical signals have one effect", () => {
    const stepper = new Stepper(signalWindow, KEY);
    const emitted = Array.from({ length: 5 }, () => stepper.send(signal())).flat();
    expect(emitted.map(({ type }) => type)).toEqual(["windowUpdated", ...Array(4).fill("duplicateIgnored")]);
    expect(stepper.context.windows).toMatchObject([{ buys: 1, sells: 0 }]);
  });

  it("knows a duplicate long after it has left the latest ten", () => {
    const many = Array.from({ length: 40 }, (_, i) => signal({ id: `s${i}`, ts: START + i }));
    given(signalWindow, KEY, many)
      .when(signal({ id: "s0", ts: START + 40 }))
      .then([{ type: "duplicateIgnored", identity: "i:s0" }]);
  });

  it("takes an id and a content that read alike for two signals", () => {
    given(signalWindow, KEY, [signal()])
      .when(signal({ id: `BUY|1|100|${START}` }))
      .then([{ type: "windowUpdated", buys: 2 }]);
  });

  it("takes the same id in another window for another signal", () => {
    given(signalWindow, KEY, [signal({ id: "a" })])
      .when(signal({ id: "a", ts: SECOND_START }))
      .then([{ type: "windowUpdated", buys: 1, start: SECOND_START }]);
  });

  it("takes a signal that comes a little late into the window it belongs to", () => {
    const stepper = given(signalWindow, KEY, [signal({ id: "a" }), signal({ id: "b", ts: SECOND_START + 9_000 })])
      .when(signal({ id: "c", ts: SECOND_START - 1, streamTimeMs: SECOND_START + 9_000 }))
      .then([{ type: "windowUpdated", start: START, buys: 2 }]);
    expect(stepper.timers).toHaveLength(2);
  });

  it.each([
    ["at once", signal()],
    ["when stream time is ahead of the signal", signal({ ts: START + 295_000, streamTimeMs: START + 304_000 })],
  ])("W2: sets its timer for the end of the window and its lateness, %s", (_name, first) => {
    const stepper = new Stepper(signalWindow, KEY);
    stepper.send(first);
    stepper.send(signal({ id: "another", ts: START + 299_999, streamTimeMs: START + 305_000 }));
    expect(stepper.timers).toEqual([{ id: `close-${START}`, dueMs: START + 310_000 }]);
  });

  it("W3: closes when due, not before, forgets everything, and opens anew", () => {
    const stepper = new Stepper(signalWindow, KEY);
    const empty = stepper.context;
    stepper.send(signal({ id: "a" }));
    expect(stepper.tick(START + 309_999)).toEqual([]);
    expect(stepper.tick(START + 310_000)).toEqual([
      { type: "windowClosed", symbol: "BTC-USD", timeframe: "5m", start: START },
    ]);
    expect(stepper.context).toEqual(empty);
    expect(stepper.timers).toEqual([]);
    expect(stepper.send(signal({ id: "a", ts: START + 310_000 }))).toMatchObject([
      { type: "windowUpdated", start: SECOND_START, buys: 1 },
    ]);
    expect(stepper.timers).toHaveLength(1);
  });

  it("W3: closes one of two windows and keeps the other", () => {
    const stepper = new Stepper(signalWindow, KEY);
    stepper.send(signal());
    stepper.send(signal({ ts: SECOND_START }));
    stepper.tick(START + 310_000);
    expect(stepper.context.windows).toMatchObject([{ start: SECOND_START, buys: 1 }]);
  });

  it("gives the same after every restart as without any", () => {
    const events = Array.from({ length: 200 }, (_, i) =>
      signal({ id: `s${i % 150}`, side: i % 3 ? "BUY" : "SELL", price: 100 + ((i * 7) % 13), ts: START + i * 4_001 }),
    );
    const [restarted, straight] = [true, false].map((restarts) => {
      const stepper = new Stepper(signalWindow, KEY, { restarts });
      const emitted = events.flatMap((event) => [...stepper.tick(event.ts), ...stepper.send(event)]);
      return JSON.stringify({ emitted, context: stepper.context, timers: stepper.timers });
    });
    expect(restarted).toBe(straight);
  });

  it.each(["BTC-USD", "BTC-USD/2m", "/5m"])("refuses to be the actor of %s", (key) => {
    expect(() => new Stepper(signalWindow, key)).toThrow(/<symbol>\/<timeframe>/);
  });
});
