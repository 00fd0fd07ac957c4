import { describe, expect, test } from "vitest";

import { type ActorActivity, ActorSeries } from "../../../src/telemetry/actor-series.ts";

const did = (key: string, stepped: number, more: Partial<ActorActivity> = {}): ActorActivity => ({
  shard: 0,
  actorType: "window",
  key,
  stepped,
  threw: 0,
  emitted: 0,
  lastMs: 1_000,
  ...more,
});
function shown(series: ActorSeries): Record<string, number> {
  return Object.fromEntries(
    series
      .samples("events")
      .map(({ labels, value }) => [`${labels["actor_type"]} ${labels["key"]} ${labels["result"]}`, value]),
  );
}

describe("series per actor", () => {
  test("add up what is reported of an actor", () => {
    const series = new ActorSeries(10);
    series.accept([did("a", 2, { emitted: 3, lastMs: 5_000 }), did("b", 0, { threw: 1, lastMs: -1 })]);
    series.accept([did("a", 1, { lastMs: 4_000 })]);
    expect(shown(series)).toEqual({ "window a stepped": 3, "window b threw": 1 });
    expect(series.samples("emitted")).toMatchObject([{ labels: { key: "a" }, value: 3 }]);
    expect(series.samples("lastMs")).toMatchObject([{ labels: { key: "a" }, value: 5 }]);
  });

  test("AS1: the first have series of their own, the rest of each type share one", () => {
    const series = new ActorSeries(2);
    series.accept([did("a", 1), did("b", 1), did("c", 1), did("d", 2), did("e", 5, { actorType: "desk" })]);
    series.accept([did("a", 1), did("c", 1), did("(other)", 4)]);
    expect(shown(series)).toEqual({
      "window a stepped": 2,
      "window b stepped": 1,
      "window (other) stepped": 8,
      "desk (other) stepped": 5,
    });
    expect(shown(new ActorSeries(0))).toEqual({});
  });

  test("AS1: an actor whose shard went is not shown, and its place is another's", () => {
    const series = new ActorSeries(2);
    series.accept([did("a", 1, { shard: 1 }), did("b", 1, { shard: 2 })]);
    series.holding(new Set([2, 3]));
    expect(shown(series)).toEqual({ "window b stepped": 1 });
    series.accept([did("c", 1, { shard: 3 })]);
    expect(shown(series)).toEqual({ "window b stepped": 1, "window c stepped": 1 });
  });

  test("AS2: an actor that comes back goes on from its total, as after the death of its worker", () => {
    const series = new ActorSeries(2);
    series.accept([did("a", 7, { shard: 1, threw: 1 })]);
    series.holding(new Set());
    expect(shown(series)).toEqual({});
    series.accept([did("a", 1, { shard: 1 })]);
    series.holding(new Set([1]));
    expect(shown(series)).toEqual({ "window a stepped": 8, "window a threw": 1 });
  });

  test("AS2: no more totals are kept than series are shown", () => {
    const series = new ActorSeries(2);
    for (const [index, key] of ["a", "b", "c", "d"].entries()) {
      series.accept([did(key, 5, { shard: index })]);
      series.holding(new Set());
    }
    series.accept([did("a", 1), did("d", 1)]);
    expect(shown(series)).toEqual({ "window a stepped": 1, "window d stepped": 6 });
  });
});
