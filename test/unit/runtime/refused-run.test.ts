/** Too many refused in a row: the shard halts before the limit is crossed, and loses and passes over nothing. Ports in memory. */
import { expect, test } from "vitest";

import type { Shard } from "../../../src/runtime/shard.ts";
import { until } from "../../support/until.ts";
import { Bed } from "./bed.ts";

const LIMIT = { refusedRunMax: 5 };

/** A record that can never be taken: its time is negative. */
function appendBad(bed: Bed, count: number): void {
  const bad = { key: "odd", value: { key: "odd", n: -1 }, timestampMs: 1 };
  bed.inputs.append(
    "in",
    Array.from({ length: count }, () => bad),
  );
}

const lettersOf = (bed: Bed) => bed.publisher.records.filter(({ topic }) => topic === "in.dlq").length;
const position = (bed: Bed) => bed.store.row.positions?.["in"];
const reaches = (shard: Shard, state: Shard["state"]) =>
  until(() => shard.state === state, { what: state, timeoutMs: 5_000 });
const takes = (bed: Bed, next: bigint) =>
  until(() => position(bed) === next && bed.publisher.offsets["in"]?.offset === next, {
    what: `offset ${next}`,
    timeoutMs: 5_000,
  });

test("C-run: a run up to the limit is data; one more halts the shard, with all before it committed and published", async () => {
  const bed = new Bed();
  bed.append(2);
  appendBad(bed, 5);
  bed.append(1);
  appendBad(bed, 7);
  bed.append(1);
  const shard = bed.start(LIMIT);
  await reaches(shard, "halted");
  // Refused records are taken first, and each good one between them ends a run.
  expect(bed.lines("halted")).toMatchObject([
    { code: "TOO_MANY_REFUSED", details: { code: "RECORD_TIME_INVALID", limit: 5 } },
  ]);
  expect(position(bed)).toBe(13n);
  expect(lettersOf(bed)).toBe(10);
  await shard.revoke("test");
});

test("C-run: it halts again where it stood, however often it is tried, and goes on once the limit is raised", async () => {
  const bed = new Bed();
  appendBad(bed, 8);
  bed.append(1);
  for (let tries = 0; tries < 3; tries += 1) {
    const shard = bed.start(LIMIT, `owner ${tries}`);
    await reaches(shard, "halted");
    expect(position(bed)).toBe(5n);
    expect(lettersOf(bed)).toBe(5);
    await shard.revoke("test");
  }
  const shard = bed.start({ refusedRunMax: 8 });
  await takes(bed, 9n);
  expect(lettersOf(bed)).toBe(8);
  await shard.revoke("test");
});

test("C-run: a run is kept in the snapshot and made again by a replay, and a record that is taken ends it", async () => {
  const bed = new Bed();
  appendBad(bed, 4);
  const first = bed.start(LIMIT);
  await takes(bed, 4n);
  await first.revoke("test"); // leaves a snapshot
  appendBad(bed, 1);
  const second = bed.start(LIMIT);
  await takes(bed, 5n);
  bed.store.takeOver(); // leaves none: what follows is replayed
  await reaches(second, "lost");
  await second.revoke("test");
  appendBad(bed, 1);
  const third = bed.start(LIMIT);
  await reaches(third, "halted");
  expect(position(bed)).toBe(5n);
  await third.revoke("test");

  const other = new Bed();
  appendBad(other, 5);
  const shard = other.start(LIMIT);
  await takes(other, 5n);
  other.append(1);
  await takes(other, 6n);
  appendBad(other, 5);
  await takes(other, 11n);
  expect(other.lines("halted")).toEqual([]);
  await shard.revoke("test");
});

test("C-run: under a limit that was lowered a run that is longer already is ended by a record that is taken, and not made longer", async () => {
  const bed = new Bed();
  appendBad(bed, 9);
  const first = bed.start({ refusedRunMax: 0 });
  await takes(bed, 9n);
  await first.revoke("test");
  bed.append(1);
  appendBad(bed, 5);
  const second = bed.start(LIMIT);
  await takes(bed, 15n);
  expect(bed.lines("halted")).toEqual([]);
  await second.revoke("test");

  const other = new Bed();
  appendBad(other, 9);
  const before = other.start({ refusedRunMax: 0 });
  await takes(other, 9n);
  await before.revoke("test");
  appendBad(other, 1);
  const halted = other.start(LIMIT);
  await reaches(halted, "halted");
  expect(other.lines("halted")).toMatchObject([{ code: "TOO_MANY_REFUSED" }]);
  expect(position(other)).toBe(9n);
  await halted.revoke("test");
});

test("0 is no limit", async () => {
  const bed = new Bed();
  appendBad(bed, 500);
  const shard = bed.start({ refusedRunMax: 0 });
  await takes(bed, 500n);
  expect(lettersOf(bed)).toBe(500);
  await shard.revoke("test");
});
