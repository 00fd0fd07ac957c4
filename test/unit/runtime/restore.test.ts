import { describe, expect, test } from "vitest";

import type { CommittedOffset, OffsetMetadata } from "../../../src/actors/ports.ts";
import { decodeRedo } from "../../../src/actors/redo-codec.ts";
import { turn } from "../../support/fake-ports.ts";
import { until } from "../../support/until.ts";
import { Bed } from "./bed.ts";

const soon = (condition: () => boolean, what: string) => until(condition, { what, timeoutMs: 5_000 });

/** Three commits of one record each, made by an owner that then lost the shard; Kafka's offsets after each of them. */
async function threeCommits(bed: Bed): Promise<CommittedOffset[]> {
  const shard = bed.start({}, "predecessor");
  const offsets: CommittedOffset[] = [];
  for (let seq = 1; seq <= 3; seq += 1) {
    bed.append(1);
    await soon(() => bed.publisher.offsets["in"]?.offset === BigInt(seq), `commit ${seq} in Kafka`);
    offsets.push(bed.publisher.offsets["in"]!);
  }
  bed.store.takeOver();
  bed.append(1);
  await soon(() => shard.state === "lost", "the shard to be lost");
  await shard.revoke("test");
  return offsets;
}

/** Starts a successor, and gives the error that it halts with. */
async function haltOf(bed: Bed): Promise<unknown> {
  const shard = bed.start({}, "successor");
  await soon(() => shard.state === "halted", "the shard to halt");
  await shard.revoke("test");
  return bed.lines("halted").at(-1);
}

/** Starts a successor, waits until that many rows stand, and releases it. */
async function goOn(bed: Bed, rows: number): Promise<void> {
  const shard = bed.start({}, "successor");
  await soon(() => bed.store.rows.length === rows, `${rows} rows`);
  expect(await shard.revoke("test")).toBe(true);
}

describe("acquire", () => {
  test("A1, A3: after both fences redo goes out in one transaction, with P's positions and the token of commit P", async () => {
    const bed = new Bed();
    const [first] = await threeCommits(bed);
    // Kafka has only the first of the three, and nobody confirmed more.
    bed.publisher.offsets["in"] = first!;
    bed.publisher.records.length = 1;
    bed.store.row = { ...bed.store.row, confirmed: 1 };
    bed.store.redo = bed.store.attempts.slice(1, 3).map(({ seq, redo }) => ({ seq, payload: redo }));
    const token = bed.store.journal[2]!.token;

    const calls: string[] = [];
    const published: OffsetMetadata[] = [];
    bed.store.before = (call) => void calls.push(call);
    bed.publisher.before = (call, request) => {
      calls.push(call);
      if (call === "publish") published.push(request as OffsetMetadata);
    };
    await goOn(bed, 4);
    const [f1, f2, r2] = ["acquire", "fence", "committed"].map((call) => calls.indexOf(call));
    expect(f1).toBeLessThan(f2!);
    expect(f2).toBeLessThan(r2!);
    expect(calls.slice(r2! + 1)[0]).toBe("readShard");
    expect(published[0]).toEqual({ instance: "main", seq: 3, token });
    expect(published.map(({ seq }) => seq)).toEqual([3, 4]);
    bed.expectExactlyOnce();
  });
});

describe("a replay", () => {
  test("R2: finds a record that was changed before it steps it", async () => {
    const bed = new Bed();
    await threeCommits(bed);
    const log = bed.inputs.logs.get("in")!;
    log[0] = { ...log[0]!, value: Buffer.from('{"key":"odd","n":100}') };
    expect(await haltOf(bed)).toMatchObject({ code: "INPUT_CHANGED", details: { topic: "in", first: "0", next: "1" } });
  });

  test("R3: compares the digest of what it gave, and gives it to nobody", async () => {
    const bed = new Bed();
    await threeCommits(bed);
    const row = bed.store.journal[1]!;
    bed.store.journal[1] = { ...row, digest: "0".repeat(64) };
    expect(await haltOf(bed)).toMatchObject({ code: "MACHINE_CHANGED", details: { seq: 2 } });
    bed.store.journal[1] = row;
    await goOn(bed, 4);
    bed.expectExactlyOnce();
  });

  test("R5: over commits of other code halts, and is not needed where a snapshot covers them", async () => {
    const bed = new Bed();
    await threeCommits(bed);
    const row = bed.store.journal[1]!;
    bed.store.journal[1] = { ...row, code: "other" };
    expect(await haltOf(bed)).toMatchObject({ code: "CODE_CHANGED", details: { seq: 2, code: "other", now: "code" } });
    bed.store.journal[1] = row;
    await goOn(bed, 4);
    bed.store.journal[1] = { ...row, code: "other" };
    bed.append(1);
    await goOn(bed, 5);
    bed.expectExactlyOnce();
  });
});

describe("commits", () => {
  test("I1, I3, I5: are numbered without gaps, tile the input, stand in redo until Kafka has them, and publish in order", async () => {
    const bed = new Bed();
    bed.publisher.before = (call, request) => {
      if (call !== "publish" || (request as OffsetMetadata).seq === 0) return;
      const { seq } = request as OffsetMetadata;
      const redo = bed.store.redo.find((row) => row.seq === seq);
      expect(redo, `redo of commit ${seq}`).toBeDefined();
      expect(decodeRedo(redo!.payload).length).toBeGreaterThan(0);
    };
    bed.append(10);
    const shard = bed.start({ batchRecordsMax: 3 });
    await soon(() => bed.store.rows.length === 10, "ten rows");
    expect(await shard.revoke("test")).toBe(true);
    expect(bed.store.journal.map(({ seq }) => seq)).toEqual([1, 2, 3, 4]);
    const runs = bed.store.journal.flatMap(({ journal }) => journal.entries);
    expect(runs.map((run) => (run.kind === "run" ? [run.first, run.next, run.count] : run))).toEqual([
      [0n, 3n, 3],
      [3n, 6n, 3],
      [6n, 9n, 3],
      [9n, 10n, 1],
    ]);
    const ids = bed.publisher.records.map(({ headers }) =>
      String(headers.find(([name]) => name === "lockstep-id")![1]),
    );
    expect(new Set(ids).size).toBe(10);
    bed.expectExactlyOnce();
    expect(bed.lines("halted")).toEqual([]);
  });
});

test("L1: while a Kafka transaction is open Postgres is not called, whatever is due", async () => {
  const bed = new Bed();
  let open = false;
  const meanwhile: string[] = [];
  bed.store.before = (call) => {
    if (open) meanwhile.push(call);
  };
  bed.publisher.before = async (call) => {
    if (call !== "publish") return;
    open = true;
    bed.clock.nowMs += 60_000; // confirm and the look at the row are due
    bed.append(meanwhile.length === 0 && bed.store.row.seq < 3 ? 1 : 0);
    for (let i = 0; i < 20; i += 1) await turn();
    open = false;
  };
  const shard = bed.start();
  await soon(() => bed.store.rows.length === 3, "three rows");
  expect(await shard.revoke("test")).toBe(true);
  expect(meanwhile).toEqual([]);
  bed.expectExactlyOnce();
});

describe("a snapshot", () => {
  test("S1, S2, S3: holds the state of its moment though commits go on, counts only once published, and never moves back", async () => {
    const bed = new Bed();
    let open: () => void = () => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    let held = false;
    bed.store.before = async (call) => {
      if (call !== "writeSnapshotPiece" || held) return;
      held = true;
      await gate;
    };
    const shard = bed.start({ snapshotCommits: 1 });
    bed.append(1);
    await soon(() => held, "the first piece to be written");
    for (let n = 2; n <= 4; n += 1) {
      bed.append(1);
      await soon(() => bed.store.row.seq === n, `commit ${n}`);
    }
    expect(await bed.store.loadSnapshot()).toBeNull();
    open();
    await soon(() => bed.store.row.snapshotSeq > 0, "the snapshot to be published");
    const pointers = bed.lines("snapshotPublished").map((line) => (line as { seq: number }).seq);
    expect(pointers[0]).toBe(1);

    bed.store.takeOver();
    bed.append(1);
    await soon(() => shard.state === "lost", "the shard to be lost");
    await shard.revoke("test");
    await goOn(bed, 5);
    await turn();
    const all = bed.lines("snapshotPublished").map((line) => (line as { seq: number }).seq);
    expect(all).toEqual([...all].sort((a, b) => a - b));
    bed.expectExactlyOnce();
  });
});
