/**
 * What every PublisherPort and TransactionalWriter does, whatever it stands on: run over a real broker by publisher.test.ts, and over
 * memory by the unit tests of src/testing. T: src/kafka/transactional-writer.ts.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";

import { parseOffsetMetadata } from "../../../src/actors/offset-metadata.ts";
import type { PublisherPort, TransactionalWriter } from "../../../src/actors/ports.ts";
import type { InputRecord, OutputRecord, Positions } from "../../../src/actors/record.ts";
import { until } from "../../support/until.ts";
import { outputRecord, valuesOf } from "./records.ts";

export type PublishPoint = "kafka.begun" | "kafka.produced" | "kafka.offsets-sent" | "kafka.before-end" | "kafka.ended";

/** Two inputs and an output of two partitions each, and a publisher of a group of its own. */
export interface PublisherScene {
  readonly inputs: readonly string[];
  readonly output: string;
  readonly publisher: PublisherPort;
  readonly positionsAt: (a: bigint, b: bigint) => Positions;
  /** Transactional id of shard 1. */
  readonly id: string;
}

export interface PublisherFixture {
  scene(options?: { readonly hook?: (point: PublishPoint) => void | Promise<void> }): Promise<PublisherScene>;
  /** All that a `read_committed` reader gets of a topic. */
  read(topic: string): Promise<InputRecord[]>;
  close(): Promise<void>;
}

const TOKEN = "8f14e45f-ceea-467f-a8f2-0d4d0c5b9b11";
const metadataOf = (seq: number) => ({ instance: "i1", seq, token: TOKEN });

export function publisherContract(open: () => Promise<PublisherFixture>): void {
  let fixture: PublisherFixture;
  const opened: { close(): Promise<void> }[] = [];
  beforeAll(async () => {
    fixture = await open();
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((each) => each.close()));
  });
  afterAll(() => fixture.close());

  /** F2 as the runtime does it: try again while the predecessor's transaction is being completed. */
  async function fence(publisher: PublisherPort, transactionalId: string): Promise<TransactionalWriter> {
    const writer = await until(() => publisher.fence(transactionalId), { what: `fence ${transactionalId}` });
    opened.push(writer);
    return writer;
  }

  describe("publish", () => {
    test("records, offsets and metadata of all inputs appear together", async () => {
      const { inputs, output, publisher, positionsAt, id } = await fixture.scene();
      const writer = await fence(publisher, id);
      expect(await publisher.committed(1)).toEqual({
        [inputs[0]!]: { offset: null, metadata: "" },
        [inputs[1]!]: { offset: null, metadata: "" },
      });

      await writer.publish({
        records: [outputRecord(output, "one"), outputRecord(output, "two", { partition: 1 })],
        positions: positionsAt(5n, 7n),
        metadata: metadataOf(1),
      });

      const metadata = `i1/1/${TOKEN}`;
      expect(await untilCommitted(publisher, inputs[0]!, 5n)).toEqual({
        [inputs[0]!]: { offset: 5n, metadata },
        [inputs[1]!]: { offset: 7n, metadata },
      });
      expect((await publisher.committed(0))[inputs[0]!]).toEqual({ offset: null, metadata: "" });
      expect(parseOffsetMetadata(metadata)).toEqual(metadataOf(1));
      expect(valuesOf(await readAtLeast(fixture, output, 2))).toEqual(["one", "two"]);
    });

    test("a record arrives as it was: nulls, repeated headers, any timestamp", async () => {
      const { output, publisher, positionsAt, id } = await fixture.scene();
      const writer = await fence(publisher, id);
      const records: OutputRecord[] = [
        outputRecord(output, "a", { timestampMs: 1000n, key: null }),
        outputRecord(output, "b", { timestampMs: 999n, value: null }),
        outputRecord(output, "c", {
          timestampMs: 0n,
          headers: [
            ["toString", Buffer.from("x")],
            ["h", Buffer.from("1")],
            ["none", null],
            ["h", Buffer.from("2")],
            ["__proto__", Buffer.from("p")],
            ["empty", Buffer.alloc(0)],
          ],
        }),
      ];
      await writer.publish({ records, positions: positionsAt(1n, 1n), metadata: metadataOf(1) });
      const read = await readAtLeast(fixture, output, records.length);
      expect(read.map(({ offset: _, ...record }) => record)).toEqual(records);
    });

    test("T5: fifty transactions of offsets only, one right after the other", async () => {
      const { inputs, publisher, positionsAt, id } = await fixture.scene();
      const writer = await fence(publisher, id);
      for (let seq = 1; seq <= 50; seq++) {
        await writer.publish({ records: [], positions: positionsAt(BigInt(seq), 3n), metadata: metadataOf(seq) });
      }
      const committed = await untilCommitted(publisher, inputs[0]!, 50n);
      expect(committed[inputs[0]!]).toEqual({ offset: 50n, metadata: `i1/50/${TOKEN}` });
    });

    test("T6: redo that is published again, after an abort over its partitions, is read once, and the writer goes on", async () => {
      let leave = true;
      const { output, publisher, positionsAt, id } = await fixture.scene({
        hook: (point) => {
          if (leave && point === "kafka.produced") throw new Error("gone, with its transaction open");
        },
      });
      const redo = [outputRecord(output, "a"), outputRecord(output, "b", { partition: 1 })];
      const commit = { records: redo, positions: positionsAt(1n, 1n), metadata: metadataOf(1) };
      await expect((await fence(publisher, id)).publish(commit)).rejects.toMatchObject({ code: "PUBLISH_FAILED" });
      leave = false;
      const writer = await fence(publisher, id);
      await writer.publish({ ...commit, again: true });
      await writer.publish({
        records: [outputRecord(output, "c")],
        positions: positionsAt(2n, 2n),
        metadata: metadataOf(2),
      });
      const read = valuesOf(await readAtLeast(fixture, output, 3));
      expect([...read].sort()).toEqual(["a", "b", "c"]);
    });

    test("fail-points are passed in order, and offsets are pending until the end", async () => {
      const points: [PublishPoint, bigint | null][] = [];
      const { inputs, output, publisher, positionsAt, id } = await fixture.scene({
        hook: async (point) => {
          points.push([point, (await publisher.committed(1))[inputs[0]!]!.offset]);
        },
      });
      const writer = await fence(publisher, id);
      await writer.publish({
        records: [outputRecord(output, "x")],
        positions: positionsAt(4n, 4n),
        metadata: metadataOf(1),
      });
      expect(points.map(([point]) => point)).toEqual([
        "kafka.begun",
        "kafka.produced",
        "kafka.offsets-sent",
        "kafka.before-end",
        "kafka.ended",
      ]);
      expect(points.slice(0, 4).map(([, offset]) => offset)).toEqual([null, null, null, null]);
    });
  });

  describe("failures", () => {
    for (const point of ["kafka.begun", "kafka.produced", "kafka.offsets-sent", "kafka.before-end"] as const) {
      test(`T2: a transaction broken off at ${point} leaves nothing, and the next owner publishes it once`, async () => {
        let broken = false;
        const { inputs, output, publisher, positionsAt, id } = await fixture.scene({
          hook: (reached) => {
            if (reached !== point || broken) return;
            broken = true;
            throw new Error("broken off");
          },
        });
        const commit = {
          records: [outputRecord(output, "one")],
          positions: positionsAt(9n, 9n),
          metadata: metadataOf(1),
        };
        const first = await fence(publisher, id);
        await expect(first.publish(commit)).rejects.toMatchObject({
          code: "PUBLISH_FAILED",
          details: { fenced: false },
        });
        await expect(first.publish(commit)).rejects.toMatchObject({ code: "INVARIANT_BROKEN" });

        const second = await fence(publisher, id);
        expect((await publisher.committed(1))[inputs[0]!]!.offset).toBeNull();
        expect(await readAll(fixture, output)).toEqual([]);
        await second.publish(commit);
        await untilCommitted(publisher, inputs[0]!, 9n);
        expect(valuesOf(await readAtLeast(fixture, output, 1))).toEqual(["one"]);
      });
    }

    for (const records of [0, 1]) {
      test(`a fenced writer with ${records} records fails as fenced and leaves nothing`, async () => {
        const { inputs, output, publisher, positionsAt, id } = await fixture.scene();
        const zombie = await fence(publisher, id);
        await zombie.publish({
          records: [outputRecord(output, "before")],
          positions: positionsAt(1n, 1n),
          metadata: metadataOf(1),
        });
        const owner = await fence(publisher, id);
        const late = Array.from({ length: records }, () => outputRecord(output, "late"));
        await expect(
          zombie.publish({ records: late, positions: positionsAt(2n, 2n), metadata: metadataOf(2) }),
        ).rejects.toMatchObject({ code: "PUBLISH_FAILED", remedy: "restore", details: { fenced: true } });

        expect((await publisher.committed(1))[inputs[0]!]!.offset).toBe(1n);
        await owner.publish({
          records: [outputRecord(output, "after")],
          positions: positionsAt(3n, 3n),
          metadata: metadataOf(2),
        });
        expect(valuesOf(await readAtLeast(fixture, output, 2))).toEqual(["before", "after"]);
      });
    }

    test("Z3: a writer fenced between its offsets and its end commits neither", async () => {
      let owner: TransactionalWriter | undefined;
      const { inputs, output, publisher, positionsAt, id } = await fixture.scene({
        hook: async (point) => {
          if (point === "kafka.before-end" && owner === undefined) owner = await fence(publisher, id);
        },
      });
      const zombie = await fence(publisher, id);
      await expect(
        zombie.publish({
          records: [outputRecord(output, "late")],
          positions: positionsAt(2n, 2n),
          metadata: metadataOf(1),
        }),
      ).rejects.toMatchObject({ code: "PUBLISH_FAILED", details: { fenced: true, stage: "end" } });
      expect((await publisher.committed(1))[inputs[0]!]!.offset).toBeNull();
      await owner!.publish({
        records: [outputRecord(output, "x")],
        positions: positionsAt(1n, 1n),
        metadata: metadataOf(1),
      });
      expect(valuesOf(await readAtLeast(fixture, output, 1))).toEqual(["x"]);
    });

    test("a partition beyond the topic's is refused", async () => {
      const { output, publisher, positionsAt, id } = await fixture.scene();
      const writer = await fence(publisher, id);
      await expect(
        writer.publish({
          records: [outputRecord(output, "x", { partition: 9 })],
          positions: positionsAt(1n, 1n),
          metadata: metadataOf(1),
        }),
      ).rejects.toMatchObject({ code: "PUBLISH_REFUSED", details: { topics: [output] } });
    });
  });

  test("watermarks are the log's begin and its last stable offset", async () => {
    const { inputs, publisher, positionsAt, id, output } = await fixture.scene();
    expect(await publisher.watermarks(1)).toEqual({
      [inputs[0]!]: { low: 0n, high: 0n },
      [inputs[1]!]: { low: 0n, high: 0n },
    });
    const writer = await fence(publisher, id);
    // Two records and the marker of their transaction.
    await writer.publish({
      records: [
        outputRecord(inputs[0]!, "a", { partition: 1 }),
        outputRecord(inputs[0]!, "b", { partition: 1 }),
        outputRecord(output, "c"),
      ],
      positions: positionsAt(0n, 0n),
      metadata: metadataOf(1),
    });
    await until(async () => (await publisher.watermarks(1))[inputs[0]!]!.high === 3n, { what: "the marker" });
    expect((await publisher.watermarks(1))[inputs[0]!]).toEqual({ low: 0n, high: 3n });
  });
}

/** A commit is answered before its markers are written: offsets show a moment later, unless a fence came between. */
async function untilCommitted(publisher: PublisherPort, topic: string, offset: bigint) {
  return until(
    async () => {
      const committed = await publisher.committed(1);
      return committed[topic]!.offset === offset && committed;
    },
    { what: `${topic} committed at ${offset}` },
  );
}

function readAll(fixture: PublisherFixture, topic: string): Promise<InputRecord[]> {
  return fixture.read(topic);
}

/** The markers of what was just published may still be under way. */
function readAtLeast(fixture: PublisherFixture, topic: string, count: number): Promise<InputRecord[]> {
  return until(
    async () => {
      const records = await fixture.read(topic);
      return records.length >= count && records;
    },
    { what: `${count} records on ${topic}` },
  );
}
