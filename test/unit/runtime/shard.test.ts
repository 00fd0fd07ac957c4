import { describe, expect, test } from "vitest";

import { parseOffsetMetadata } from "../../../src/actors/offset-metadata.ts";
import type { CommitRequest } from "../../../src/actors/ports.ts";
import { type ErrorCode, LockstepError } from "../../../src/errors.ts";
import type { Shard } from "../../../src/runtime/shard.ts";
import { turn } from "../../support/fake-ports.ts";
import { until } from "../../support/until.ts";
import { Bed } from "./bed.ts";

const fault = (code: ErrorCode) => new LockstepError(code, `${code}, injected`);

/** Waits until the shard is so; polls between turns, because time is the fake clock's. */
async function reaches(shard: Shard, state: Shard["state"]): Promise<void> {
  for (let i = 0; i < 20_000 && shard.state !== state; i += 1) await turn();
  expect(shard.state).toBe(state);
}

/** Waits until Kafka has every commit of the row, and the row has so many records' rows. */
async function settled(bed: Bed, rows: number): Promise<void> {
  await until(
    () =>
      bed.store.rows.length >= rows &&
      parseOffsetMetadata(bed.publisher.offsets["in"]!.metadata)?.seq === bed.store.row.seq,
    { what: `${rows} rows committed and published`, timeoutMs: 5_000 },
  );
}

/** Throws the faults one after the other at calls of that name, then nothing. */
function failing(call: string, faults: LockstepError[]) {
  return (name: string) => {
    const next = name === call ? faults.shift() : undefined;
    if (next) throw next;
  };
}

/** Offsets that the commits were asked to take, one list an attempt. */
function offsetsOf({ journal }: CommitRequest): string[] {
  return journal.entries.map((entry) => (entry.kind === "run" ? `${entry.first}..${entry.next - 1n}` : "tick"));
}

describe("a release", () => {
  test("H3: after a drain Kafka, Postgres, confirmed and snapshot stand at one commit, and nobody owns the row", async () => {
    const bed = new Bed();
    const shard = bed.start({ batchRecordsMax: 3 });
    await reaches(shard, "running");
    bed.append(10);
    await settled(bed, 10);
    expect(await shard.revoke("test")).toBe(true);

    expect(shard.state).toBe("released");
    const { seq, confirmed, snapshotSeq, owner } = bed.store.row;
    expect(seq).toBeGreaterThanOrEqual(4);
    expect({ confirmed, snapshotSeq, owner }).toEqual({ confirmed: seq, snapshotSeq: seq, owner: null });
    expect(parseOffsetMetadata(bed.publisher.offsets["in"]!.metadata)?.seq).toBe(seq);
    expect(bed.lines("released")).toEqual([{ seq, drained: true }]);
    expect(bed.publisher.open).toBe(0);
    bed.expectExactlyOnce();
  });

  test("H3: also where nothing was ever committed", async () => {
    const bed = new Bed();
    const shard = bed.start();
    await reaches(shard, "running");
    await shard.revoke("test");
    expect(bed.store.row).toMatchObject({ seq: 0, confirmed: 0, snapshotSeq: 0, owner: null });
    expect(parseOffsetMetadata(bed.publisher.offsets["in"]!.metadata)?.seq).toBe(0);
  });

  test("H3: what could not be drained is said, and the next owner finishes it", async () => {
    const bed = new Bed();
    const shard = bed.start();
    await reaches(shard, "running");
    bed.append(3);
    await settled(bed, 3);
    bed.store.before = failing("publishSnapshot", [fault("STORE_UNAVAILABLE")]);
    expect(await shard.revoke("test")).toBe(false);
    expect(bed.lines("released")).toEqual([{ seq: bed.store.row.seq, drained: false }]);
    expect(bed.store.row.owner).toBe("me");

    const next = bed.start({}, "successor");
    await reaches(next, "running");
    bed.append(1);
    await settled(bed, 4);
    expect(await next.revoke("test")).toBe(true);
    bed.expectExactlyOnce();
  });

  test.each([
    "acquire.start",
    "acquire.f1",
    "acquire.f2",
    "acquire.r2",
    "acquire.r1",
    "reconcile.published",
    "restore.loaded",
    "restore.row",
    "acquire.done",
    "take.before",
    "fold.after",
    "commit.done",
    "snapshot.captured",
    "snapshot.piece",
    "snapshot.published",
  ])(
    "H1: once revoke() has resolved nothing more is written, and the next owner goes on, when it comes at %s",
    async (point) => {
      const bed = new Bed();
      // A predecessor leaves a commit that Kafka lacks, and one more record: there is something to publish, to replay and to take.
      const first = bed.start({}, "predecessor");
      await reaches(first, "running");
      bed.append(2);
      await settled(bed, 2);
      bed.publisher.before = (call) => {
        if (call !== "publish") return;
        bed.store.takeOver();
        throw fault("PUBLISH_FAILED");
      };
      bed.append(2);
      await reaches(first, "lost");
      await first.revoke("test");
      bed.publisher.before = () => {};
      bed.append(2);

      let revoked: Promise<boolean> | null = null;
      let shard: Shard | null = null;
      bed.hook = async (name) => {
        if (name !== point || revoked !== null) return;
        await turn(); // the first point is passed before the constructor returns
        revoked = shard!.revoke("test");
      };
      shard = bed.start({ snapshotCommits: 1 });
      await until(() => revoked !== null, { what: `the shard to pass ${point}`, timeoutMs: 5_000 });
      const sink = bed.inputs.sink;
      await revoked;

      expect(shard.state).toBe("released");
      const writes = bed.writes;
      bed.append(1);
      sink?.onOutOfRange("in", 0n);
      bed.clock.nowMs += 60_000;
      for (let i = 0; i < 50; i += 1) await turn();
      expect(bed.writes).toBe(writes);
      expect(bed.publisher.open).toBe(0);

      const next = bed.start({}, "successor");
      await reaches(next, "running");
      await settled(bed, 7);
      await next.revoke("test");
      bed.expectExactlyOnce();
    },
  );
});

describe("a shard that was lost", () => {
  test("H2: is acquired again only after the coordinator has answered twice since, and replays", async () => {
    const bed = new Bed();
    const shard = bed.start();
    await reaches(shard, "running");
    bed.append(3);
    await settled(bed, 3);
    bed.answered = 7;
    bed.store.takeOver();
    bed.append(2);
    await reaches(shard, "lost");
    expect(bed.inputs.sink).toBeNull();

    for (const answered of [7, 8]) {
      bed.answered = answered;
      const slept = bed.clock.sleptMs.length;
      while (bed.clock.sleptMs.length < slept + 20) await turn();
      expect([shard.state, bed.store.row.owner]).toEqual(["lost", "somebody else"]);
    }
    bed.answered = 9;
    await reaches(shard, "running");
    expect(bed.lines("running").at(-1)).toMatchObject({ reused: false, replayed: 3 });
    await settled(bed, 5);
    await shard.revoke("test");
    bed.expectExactlyOnce();
  });

  test("H2: an owner with nothing to write finds out by itself", async () => {
    const bed = new Bed();
    const shard = bed.start();
    await reaches(shard, "running");
    bed.store.takeOver();
    bed.clock.nowMs += 10_000;
    await until(() => shard.state === "lost", { what: "the shard to be lost", timeoutMs: 5_000 });
    await shard.revoke("test");
    expect(bed.store.row.owner).toBe("somebody else");
  });

  test("A4: an F1 whose outcome is unknown is lost, and its token is never used", async () => {
    for (const applied of [true, false]) {
      const bed = new Bed();
      const unknown = failing("acquire", [fault("COMMIT_UNKNOWN")]);
      if (applied) bed.store.after = unknown;
      else bed.store.before = unknown;
      const shard = bed.start();
      await reaches(shard, "lost");
      expect(bed.publisher.writes).toEqual([]);
      bed.answered = 2;
      await reaches(shard, "running");
      expect(bed.store.row.token).toBe("t2");
      bed.append(2);
      await settled(bed, 2);
      expect(bed.store.journal.map(({ token }) => token)).not.toContain("t1");
      await shard.revoke("test");
      bed.expectExactlyOnce();
    }
  });
});

describe("a halt", () => {
  /** Kafka has a commit that Postgres lacks. */
  const contradict = (bed: Bed) => {
    bed.publisher.offsets["in"] = { offset: 0n, metadata: "main/9/t9" };
  };

  test("A2: of an owner that was replaced during acquire is a loss", async () => {
    const bed = new Bed();
    contradict(bed);
    bed.hook = (point) => {
      if (point === "acquire.r1") bed.store.takeOver();
    };
    const shard = bed.start();
    await reaches(shard, "lost");
    await shard.revoke("test");
    expect(bed.lines("halted")).toEqual([]);
  });

  test("A2: of an owner that was replaced while it ran is a loss, however long Postgres does not answer", async () => {
    const bed = new Bed();
    const shard = bed.start();
    await reaches(shard, "running");
    bed.publisher.before = (call) => {
      if (call !== "publish") return;
      bed.store.takeOver();
      bed.store.before = failing("readShard", Array(5).fill(fault("STORE_UNAVAILABLE")));
      throw fault("PUBLISH_REFUSED");
    };
    bed.append(1);
    await reaches(shard, "lost");
    await shard.revoke("test");
    expect(bed.lines("halted")).toEqual([]);
    expect(bed.lines("retrying")).toHaveLength(5);
  });

  test("ends with the assignment, also when nobody could say whose the shard is: what is shown of it goes", async () => {
    const bed = new Bed();
    const shard = bed.start();
    await reaches(shard, "running");
    bed.publisher.before = (call) => {
      if (call !== "publish") return;
      bed.store.before = failing("readShard", [fault("DATABASE_UNSUITABLE")]);
      throw fault("PUBLISH_REFUSED");
    };
    bed.append(1);
    await reaches(shard, "halted");
    expect(bed.lines("halted")).toMatchObject([{ code: "DATABASE_UNSUITABLE" }]);
    expect(await shard.revoke("test")).toBe(false);
    expect(shard.state).toBe("released");
  });

  test("A2: of an owner that was replaced, and is revoked at that moment, is a loss", async () => {
    for (const answers of [true, false]) {
      const bed = new Bed();
      const shard = bed.start();
      await reaches(shard, "running");
      let revoked: Promise<boolean> | null = null;
      bed.publisher.before = (call) => {
        if (call !== "publish") return;
        bed.store.takeOver();
        revoked = shard.revoke("test");
        if (!answers) bed.store.before = failing("readShard", [fault("STORE_UNAVAILABLE")]);
        throw fault("PUBLISH_REFUSED");
      };
      bed.append(1);
      await reaches(shard, "released");
      expect(await revoked).toBe(answers); // nobody could say whether something of ours was left
      expect(bed.lines("halted")).toEqual([]);
      expect(bed.lines(answers ? "lost" : "notDrained")).toHaveLength(1);
    }
  });

  test("when the brokers are another cluster's it comes before anything is written there: it looks as if offsets had expired", async () => {
    const bed = new Bed();
    const shard = bed.start();
    await reaches(shard, "running");
    bed.append(2);
    await settled(bed, 2);
    bed.clock.nowMs += 2_000;
    await until(() => bed.store.row.confirmed === bed.store.row.seq, { what: "the commit to be confirmed" });
    bed.publisher.clusterNow = "another";
    for (const topic of Object.keys(bed.publisher.offsets)) delete bed.publisher.offsets[topic];
    const { writes } = bed.publisher;
    const before = writes.length;
    bed.inputs.sink!.onOutOfRange("in", 2n);
    await reaches(shard, "halted");
    expect(bed.lines("halted")).toMatchObject([
      { code: "INPUT_CHANGED", details: { cluster: "another", recorded: "cluster" } },
    ]);
    expect(writes).toHaveLength(before);
    expect(await shard.revoke("test")).toBe(false);
  });

  test("A2: of the owner stays until it is revoked, and writes nothing", async () => {
    for (const during of ["acquire", "run"] as const) {
      const bed = new Bed();
      if (during === "acquire") contradict(bed);
      const shard = bed.start();
      if (during === "run") {
        await reaches(shard, "running");
        bed.store.before = failing("commit", [fault("ID_COLLISION")]);
        bed.append(1);
      }
      await reaches(shard, "halted");
      const writes = bed.writes;
      bed.answered += 10;
      bed.clock.nowMs += 60_000;
      for (let i = 0; i < 50; i += 1) await turn();
      expect([shard.state, bed.writes]).toEqual(["halted", writes]);
      expect(await shard.revoke("test")).toBe(false);
      expect([shard.state, bed.writes]).toEqual(["released", writes]);
      expect(bed.lines("halted")).toMatchObject([
        { code: during === "acquire" ? "POSITIONS_CONTRADICT" : "ID_COLLISION" },
      ]);
    }
  });
});

describe("memory", () => {
  /** A running shard with three records committed. */
  async function running(bed: Bed): Promise<Shard> {
    const shard = bed.start();
    await reaches(shard, "running");
    bed.append(3);
    await settled(bed, 3);
    return shard;
  }

  const cases: ReadonlyArray<[name: string, inject: (bed: Bed) => void]> = [
    [
      "Kafka has the commit, and its answer was lost",
      (bed) => {
        bed.publisher.after = failing("publish", [fault("PUBLISH_FAILED")]);
      },
    ],
    [
      "Kafka does not have the commit",
      (bed) => {
        bed.publisher.before = failing("publish", [fault("PUBLISH_FAILED")]);
      },
    ],
    [
      "Postgres has the commit, and its answer was lost",
      (bed) => {
        bed.store.after = failing("commit", [fault("COMMIT_UNKNOWN")]);
      },
    ],
    [
      "Postgres does not have the commit",
      (bed) => {
        bed.store.before = failing("commit", [fault("COMMIT_UNKNOWN")]);
      },
    ],
    [
      "the next acquires fail after F1, each of which replaced a token of ours",
      (bed) => {
        bed.store.after = failing("commit", [fault("COMMIT_UNKNOWN")]);
        bed.publisher.before = failing("committed", Array(3).fill(fault("KAFKA_UNAVAILABLE")));
      },
    ],
  ];
  test.each(cases)("R4: is used again when %s", async (_name, inject) => {
    const bed = new Bed();
    const shard = await running(bed);
    inject(bed);
    bed.append(2);
    await until(() => bed.lines("running").length === 2, { what: "the shard to run again", timeoutMs: 5_000 });
    expect(bed.lines("running").at(-1)).toMatchObject({ reused: true, replayed: 0 });
    bed.append(2);
    await settled(bed, 7);
    await shard.revoke("test");
    bed.expectExactlyOnce();
  });

  test("R4: is dropped when another token was in between", async () => {
    for (const call of ["publish", "commit"] as const) {
      const bed = new Bed();
      const shard = await running(bed);
      const replaced = (name: string) => {
        if (name !== call || bed.store.row.owner !== "me") return;
        bed.store.takeOver();
        throw fault(call === "publish" ? "PUBLISH_FAILED" : "COMMIT_UNKNOWN");
      };
      if (call === "publish") bed.publisher.before = replaced;
      else bed.store.before = replaced;
      bed.append(2);
      await reaches(shard, "lost");
      bed.publisher.before = bed.store.before = () => {};
      bed.answered += 2;
      await reaches(shard, "running");
      expect(bed.lines("running").at(-1)).toMatchObject({ reused: false, replayed: call === "publish" ? 5 : 3 });
      await settled(bed, 5);
      await shard.revoke("test");
      bed.expectExactlyOnce();
    }
  });
});

describe("back-off", () => {
  const outages: ReadonlyArray<[name: string, begin: (bed: Bed) => void]> = [
    [
      "Kafka fails every transaction (restore)",
      (bed) => {
        bed.publisher.before = (call) => {
          if (call === "publish") throw fault("PUBLISH_FAILED");
        };
      },
    ],
    [
      "Kafka does not answer (retry)",
      (bed) => {
        bed.publisher.before = (call) => {
          if (call === "publish") throw fault("PUBLISH_FAILED");
          throw fault("KAFKA_UNAVAILABLE");
        };
      },
    ],
    [
      "Postgres does not answer (retry)",
      (bed) => {
        bed.store.after = failing("commit", [fault("COMMIT_UNKNOWN")]);
        bed.store.before = (call) => {
          if (call === "acquire") throw fault("STORE_UNAVAILABLE");
        };
      },
    ],
  ];
  const end = (bed: Bed) => {
    bed.publisher.before = bed.store.before = bed.store.after = () => {};
  };

  /** The sleeps of the first tries of an outage that begins now. */
  async function sleepsOf(bed: Bed, begin: (bed: Bed) => void): Promise<number[]> {
    const slept = bed.clock.sleptMs.length;
    begin(bed);
    bed.append(1);
    await until(() => bed.clock.sleptMs.length >= slept + 10, { what: "ten sleeps", timeoutMs: 5_000 });
    return bed.clock.sleptMs.slice(slept, slept + 10);
  }

  function expectGrowth(sleeps: readonly number[]): void {
    const max = Math.max(...sleeps);
    expect(sleeps[0]).toBeLessThanOrEqual(100);
    for (const [i, ms] of sleeps.slice(1).entries()) expect(ms).toBe(Math.min(sleeps[i]! * 2, max));
    expect(sleeps.at(-2)).toBe(max);
  }

  test.each(outages)("grows to its maximum while %s, and begins anew after a steady run", async (_name, begin) => {
    const bed = new Bed();
    const shard = bed.start();
    await reaches(shard, "running");
    for (let outage = 1; outage <= 2; outage += 1) {
      bed.clock.nowMs += 60_000; // a steady run
      expectGrowth(await sleepsOf(bed, begin));
      end(bed);
      await reaches(shard, "running");
      await settled(bed, outage);
    }
    await shard.revoke("test");
    bed.expectExactlyOnce();
  });

  test("goes on where it was after a run that was not steady", async () => {
    const bed = new Bed();
    const shard = bed.start();
    const [, begin] = outages[0]!;
    await reaches(shard, "running");
    const max = Math.max(...(await sleepsOf(bed, begin)));
    end(bed);
    await reaches(shard, "running");
    await settled(bed, 1);
    expect((await sleepsOf(bed, begin))[0]).toBe(max);
    end(bed);
    await shard.revoke("test");
  });
});

describe("a row that Postgres refuses", () => {
  const refusing = (numbers: readonly number[]) => (call: string, request: unknown) => {
    if (call !== "commit") return;
    const bad = (request as CommitRequest).rows.find(({ row }) => numbers.includes(row["n"] as number));
    if (bad) throw new LockstepError("ROW_REFUSED", "numeric field overflow", { details: { sqlstate: "22003" } });
  };

  test("C-refused: its record alone is set aside; all others are committed in order, the batch taken again in halves", async () => {
    const bed = new Bed();
    bed.append(8);
    bed.store.before = refusing([6]);
    const shard = bed.start();
    await settled(bed, 7);
    await shard.revoke("test");

    bed.expectExactlyOnce([6]);
    // Offset 5 is guilty: 0..7, its halves, the half that holds it again, down to itself, which is then taken with a verdict.
    expect(bed.store.attempts.flatMap(offsetsOf)).toEqual([
      "0..7",
      "0..3",
      "4..7",
      "4..5",
      "4..4",
      "5..5",
      "5..5",
      "6..7",
    ]);
    expect(bed.store.journal.flatMap(({ journal }) => journal.verdicts)).toEqual([
      { kind: "record", topic: "in", offset: 5n, code: "ROW_REFUSED", message: "22003 numeric field overflow" },
    ]);
    expect(bed.store.journal.map(({ seq }) => seq)).toEqual([1, 2, 3, 4]);
  });

  test("C-refused, R1: several of one batch are each set aside, and a replay sets them aside again", async () => {
    const bed = new Bed();
    bed.append(9);
    bed.store.before = refusing([1, 5, 9]);
    const shard = bed.start();
    await until(() => bed.store.row.positions?.["in"] === 9n, { what: "the last one to be set aside" });
    await settled(bed, 6);
    bed.store.takeOver();
    bed.append(1);
    await reaches(shard, "lost");
    bed.answered += 2;
    await reaches(shard, "running");
    expect(bed.lines("running").at(-1)).toMatchObject({ reused: false, replayed: 9 });
    await settled(bed, 7);
    await shard.revoke("test");
    bed.expectExactlyOnce([1, 5, 9]);
  });
});

test("L2: items whose commit found Postgres unavailable are taken again in order, before what came meanwhile", async () => {
  const bed = new Bed();
  const shard = bed.start();
  await reaches(shard, "running");
  const faults = Array(3).fill(fault("STORE_UNAVAILABLE"));
  bed.store.before = (call) => {
    if (call !== "commit" || faults.length === 0) return;
    bed.append(2);
    throw faults.pop();
  };
  bed.append(4);
  await settled(bed, 10);
  expect(bed.store.attempts.flatMap(offsetsOf)).toEqual(["0..3", "0..3", "0..3", "0..3", "4..9"]);
  expect(bed.lines("running")).toHaveLength(1);
  await shard.revoke("test");
  bed.expectExactlyOnce();
});
