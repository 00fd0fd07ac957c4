/** A5 (src/runtime/acquire.ts): what the group's coordinator answers, beside what its log has. K1 in docs/protocol.md. */
import { describe, expect, test } from "vitest";

import type { CommittedOffset } from "../../../src/actors/ports.ts";
import { LockstepError } from "../../../src/errors.ts";
import type { Shard } from "../../../src/runtime/shard.ts";
import { turn } from "../../support/fake-ports.ts";
import { until } from "../../support/until.ts";
import { Bed } from "./bed.ts";

async function reaches(shard: Shard, state: Shard["state"]): Promise<void> {
  for (let i = 0; i < 20_000 && shard.state !== state; i += 1) await turn();
  expect(shard.state).toBe(state);
}

/** What the group's offsets were after each commit of a predecessor, who was killed when the last was published and not confirmed. */
async function killedAfterThree(bed: Bed): Promise<Record<string, CommittedOffset>[]> {
  const shard = bed.start({ batchRecordsMax: 1 }, "predecessor");
  await reaches(shard, "running");
  const history = [{ ...bed.publisher.offsets }];
  bed.publisher.after = (call) => {
    if (call !== "publish") return;
    history.push({ ...bed.publisher.offsets });
    if (history.length < 4) return;
    bed.store.takeOver();
    throw new LockstepError("PUBLISH_FAILED", "the process is gone");
  };
  bed.append(3);
  await reaches(shard, "lost");
  bed.publisher.after = () => {};
  expect({ seq: bed.store.row.seq, confirmed: bed.store.row.confirmed }).toEqual({ seq: 3, confirmed: 2 });
  return history;
}

async function goesOn(bed: Bed, shard: Shard): Promise<void> {
  await reaches(shard, "running");
  bed.append(1);
  await until(() => bed.store.rows.length >= 4, { what: "the fourth row", timeoutMs: 5_000 });
  expect(await shard.revoke("test")).toBe(true);
  bed.expectExactlyOnce();
}

describe("A5: the coordinator's answer is compared with its log", () => {
  test.each([
    ["of before what was confirmed: it would halt", 1, 1],
    ["of the commit before the last: it would publish the last one twice", 2, 2],
    ["of the start", 0, 0],
    ["none at all: it would halt", null, null],
  ])("offsets %s", async (_, seq, answered) => {
    const bed = new Bed();
    const history = await killedAfterThree(bed);
    bed.publisher.answers = seq === null ? {} : history[seq]!;
    await goesOn(bed, bed.start());
    expect(bed.lines("offsetsStale")).toEqual([{ answered, inLog: 3 }]);
    expect(bed.lines("redoPublished")).toEqual([]);
  });

  test("a log that says the same: redo is published where it is missing", async () => {
    const bed = new Bed();
    const history = await killedAfterThree(bed);
    // The last commit never came: neither its offsets nor its record.
    Object.assign(bed.publisher.offsets, history[2]);
    bed.publisher.records.pop();
    await goesOn(bed, bed.start());
    expect(bed.lines("offsetsStale")).toEqual([]);
    expect(bed.lines("redoPublished")).toEqual([{ from: 3, to: 3, records: 1 }]);
  });

  test.each([
    ["says the same", true],
    ["may not be read", false],
  ])("a contradiction whose log %s halts", async (_, readable) => {
    const bed = new Bed();
    const history = await killedAfterThree(bed);
    if (readable) Object.assign(bed.publisher.offsets, history[1]);
    else {
      bed.publisher.answers = history[1]!;
      bed.publisher.logIsReadable = false;
    }
    const shard = bed.start();
    await reaches(shard, "halted");
    expect(bed.lines("halted")).toMatchObject([{ code: "POSITIONS_CONTRADICT" }]);
    expect(bed.lines("offsetsStale")).toEqual([]);
    expect(bed.lines("offsetsUnwitnessed")).toHaveLength(readable ? 0 : 1);
    await shard.revoke("test");
  });

  test("a clean answer is not compared", async () => {
    const bed = new Bed();
    await killedAfterThree(bed);
    let reads = 0;
    bed.publisher.before = (call) => {
      if (call === "committedInLog") reads += 1;
    };
    await goesOn(bed, bed.start());
    expect(reads).toBe(0);
  });
});
