/** How an owner goes on after a step has taken a worker with it. V: src/runtime/care.ts. Ports in memory. */
import { describe, expect, test } from "vitest";

import type { Suspect, SuspectStore } from "../../../src/actors/ports.ts";
import { type StepTarget, targetText } from "../../../src/actors/step-target.ts";
import { LockstepError } from "../../../src/errors.ts";
import type { ShardSteps } from "../../../src/runtime/step-seat.ts";
import { until } from "../../support/until.ts";
import { Bed } from "./bed.ts";

const at = (offset: number) => targetText({ kind: "record", topic: "in", offset: BigInt(offset) });
const suspect = (target: string, attempts: number, more: Partial<Suspect> = {}): Suspect => ({
  target,
  attempts,
  replay: false,
  code: "STEP_TIMEOUT",
  ...more,
});

/** Suspects in memory; every call is written down beside what is stepped and committed. */
class FakeSuspects implements SuspectStore {
  readonly rows = new Map<string, Suspect>();
  readonly calls: string[] = [];
  uncleanEnds = 0;
  /** Thrown by the next calls of `survived`, one each. */
  readonly failures: LockstepError[] = [];

  constructor(...suspects: Suspect[]) {
    for (const each of suspects) this.rows.set(each.target, each);
  }
  async read() {
    return [...this.rows.values()];
  }
  async count() {}
  async begin(_: unknown, { target }: { target: string }) {
    this.calls.push(`begin ${target}`);
    this.rows.set(target, suspect(target, (this.rows.get(target)?.attempts ?? 0) + 1));
  }
  async survived(_: unknown, { target }: { target: string }) {
    this.calls.push(`survived ${target}`);
    const failure = this.failures.shift();
    if (failure) throw failure;
    this.rows.delete(target);
  }
  async forget(_: number, target: string) {
    this.calls.push(`forget ${target}`);
    this.rows.delete(target);
  }
  async forgetReplay() {
    this.calls.push("forget replay");
  }
  async countUncleanEnd() {
    return this.uncleanEnds;
  }
}

function bedWith(suspects: FakeSuspects) {
  const bed = new Bed();
  const stepped: StepTarget[] = [];
  const steps: ShardSteps = {
    begin: (target) => void stepped.push(target),
    end() {},
    replaying() {},
    counted: (on) => void suspects.calls.push(on ? "counted" : "not counted"),
    noteHeap() {},
  };
  bed.watch = { steps, suspects };
  /** Offsets of each commit, in order. */
  const commits = () =>
    bed.store.journal.map(({ journal }) =>
      journal.entries.map((entry) => (entry.kind === "run" ? `${entry.first}..${entry.next - 1n}` : "tick")).join(),
    );
  const drained = (next: number) =>
    until(() => bed.store.row.positions?.["in"] === BigInt(next) && bed.publisher.records.length >= next, {
      what: `${next} records taken`,
      timeoutMs: 5_000,
    });
  return { bed, stepped, commits, drained };
}

describe("a suspect", () => {
  test("V1: is taken alone, counted before it is stepped, and taken back before its commit; neighbours are not counted", async () => {
    const suspects = new FakeSuspects(suspect(at(3), 1));
    const { bed, commits, drained } = bedWith(suspects);
    bed.append(8);
    bed.store.before = (call) => {
      if (call === "commit") suspects.calls.push("commit");
    };
    const shard = bed.start();
    await drained(8);
    await shard.revoke("test");
    expect(commits()).toEqual(["0..2", "3..3", "4..7"]);
    expect(suspects.calls).toEqual([
      "commit",
      `begin ${at(3)}`,
      "counted",
      "not counted",
      `survived ${at(3)}`,
      "commit",
      `forget ${at(3)}`,
      "commit",
    ]);
    bed.expectExactlyOnce();
  });

  test("V1: is counted once, however often Postgres is away when the count is to be taken back", async () => {
    const suspects = new FakeSuspects(suspect(at(3), 1));
    for (let i = 0; i < 2; i += 1) suspects.failures.push(new LockstepError("STORE_UNAVAILABLE", "away"));
    const { bed, commits, drained } = bedWith(suspects);
    const attempts: number[] = [];
    bed.store.before = () => void attempts.push(suspects.rows.get(at(3))?.attempts ?? 0);
    bed.append(8);
    const shard = bed.start();
    await drained(8);
    await shard.revoke("test");
    expect(suspects.calls.filter((call) => call.startsWith("begin"))).toEqual([`begin ${at(3)}`]);
    // Every fold of it is on the seat as counted: who dies in one is not counted a second time by main.
    expect(suspects.calls.filter((call) => call === "counted")).toHaveLength(3);
    expect(suspects.calls.filter((call) => call.startsWith("survived"))).toHaveLength(3);
    expect(Math.max(...attempts)).toBeLessThan(3);
    expect(commits()).toEqual(["0..2", "3..3", "4..7"]);
    expect(suspects.rows.size).toBe(0);
    bed.expectExactlyOnce();
  });

  test("V1: whose count could not be said to be taken back is innocent to the same thread's next ownership", async () => {
    const suspects = new FakeSuspects(suspect(at(3), 2));
    suspects.failures.push(
      new LockstepError("COMMIT_UNKNOWN", "cut off"),
      new LockstepError("STORE_UNAVAILABLE", "away"),
    );
    const { bed, drained } = bedWith(suspects);
    bed.append(8);
    const shard = bed.start();
    await drained(8);
    await shard.revoke("test");
    expect(suspects.calls.filter((call) => call.startsWith("begin"))).toEqual([`begin ${at(3)}`]);
    expect(bed.store.journal.flatMap(({ journal }) => journal.verdicts)).toEqual([]);
    expect(suspects.rows.size).toBe(0);
    bed.expectExactlyOnce();
  });

  test("V2: with three attempts is set aside by a verdict in the journal, and neither judged nor stepped", async () => {
    const suspects = new FakeSuspects(suspect(at(3), 3));
    const { bed, stepped, commits, drained } = bedWith(suspects);
    bed.append(8);
    const shard = bed.start({ stepMsMax: 700 });
    await drained(8);
    await shard.revoke("test");
    expect(stepped.filter((target) => targetText(target) === at(3))).toEqual([]);
    expect(stepped.length).toBeGreaterThan(0);
    // A condemned record has no time, so it is taken first of what is there.
    expect(commits()).toEqual(["0..2", "3..3", "4..7"]);
    expect(bed.store.journal.flatMap(({ journal }) => journal.verdicts)).toEqual([
      {
        kind: "record",
        topic: "in",
        offset: 3n,
        code: "STEP_TIMEOUT",
        message: "The step ran for longer than 700 ms, in 3 attempts.",
      },
    ]);
    expect(suspects.rows.size).toBe(0);
    bed.expectExactlyOnce([4]);
  });

  test("V4: below the positions is none any more", async () => {
    const suspects = new FakeSuspects();
    const { bed, drained } = bedWith(suspects);
    bed.append(4);
    const shard = bed.start();
    await drained(4);
    await shard.revoke("test");
    suspects.rows.set(at(2), suspect(at(2), 2));
    suspects.rows.set(
      "t",
      suspect(targetText({ kind: "timer", actorType: "tally", key: "odd", timerId: "x", dueMs: 1 }), 2),
    );
    bed.append(1);
    const next = bed.start();
    await drained(5);
    await next.revoke("test");
    expect(suspects.calls.filter((call) => call.startsWith("forget"))).toHaveLength(2);
    bed.expectExactlyOnce();
  });

  test("V4: a timer that is not there yet stays suspect until stream time has reached it", async () => {
    const timer = targetText({ kind: "timer", actorType: "tally", key: "odd", timerId: "x", dueMs: 3 });
    const suspects = new FakeSuspects(suspect(timer, 2));
    const { bed, drained } = bedWith(suspects);
    bed.append(2);
    const shard = bed.start();
    await drained(2);
    expect(suspects.rows.has(timer)).toBe(true);
    bed.append(6);
    await drained(8);
    await shard.revoke("test");
    expect(suspects.rows.size).toBe(0);
    bed.expectExactlyOnce();
  });

  test("V4: of a replay halts the shard after three attempts, and is forgotten by a replay that comes through", async () => {
    const suspects = new FakeSuspects(suspect(at(2), 2, { replay: true }));
    const { bed, drained } = bedWith(suspects);
    bed.append(4);
    const shard = bed.start();
    await drained(4);
    await shard.revoke("test");
    expect(suspects.calls).toEqual(["forget replay"]);
    bed.expectExactlyOnce();

    suspects.rows.set(at(2), suspect(at(2), 3, { replay: true }));
    const stuck = bed.start();
    await until(() => stuck.state === "halted", { what: "the shard to halt", timeoutMs: 5_000 });
    expect(bed.lines("halted")).toMatchObject([{ code: "REPLAY_STUCK" }]);
    await stuck.revoke("test");
  });
});

describe("a shard whose owners died one after the other", () => {
  test("V1: is taken record by record, each counted while it runs, until a batch is through", async () => {
    const suspects = new FakeSuspects();
    const { bed, commits, drained } = bedWith(suspects);
    suspects.uncleanEnds = 3;
    bed.append(8);
    bed.store.takeOver("who died");
    const shard = bed.start({ batchRecordsMax: 5 });
    await drained(8);
    await shard.revoke("test");
    expect(commits().slice(0, 5)).toEqual(["0..0", "1..1", "2..2", "3..3", "4..4"]);
    expect(suspects.calls.filter((call) => call.startsWith("begin"))).toEqual(
      [0, 1, 2, 3, 4].map((n) => `begin ${at(n)}`),
    );
    expect(suspects.rows.size).toBe(0);
    expect(bed.lines("inDoubt")).toHaveLength(1);
    bed.expectExactlyOnce();
  });

  test("is taken as ever after two such ends", async () => {
    const suspects = new FakeSuspects();
    const { bed, drained } = bedWith(suspects);
    suspects.uncleanEnds = 2;
    bed.append(8);
    bed.store.takeOver("who died");
    const shard = bed.start();
    await drained(8);
    await shard.revoke("test");
    expect(suspects.calls).toEqual([]);
    bed.expectExactlyOnce();
  });
});
