/** The read_committed filter against a reference that knows every transaction's fate. F: src/kafka/committed-filter.ts. */
import fc from "fast-check";
import { expect, test } from "vitest";

import { filterCommitted } from "../../../src/kafka/committed-filter.ts";
import type { AbortedTransaction, WireRecord } from "../../../src/kafka/wire.ts";

interface Step {
  readonly producer: number;
  readonly act: "send" | "commit" | "abort" | "plain";
  readonly records: number;
}

/** A log as the broker keeps it: batches and markers, the aborted transactions, and the offsets a reader may see. */
function logOf(steps: readonly Step[]) {
  const batches: WireRecord[][] = [];
  const aborted: (AbortedTransaction & { lastOffset: bigint })[] = [];
  const visible = new Set<bigint>();
  const open = new Map<number, bigint[]>();
  let end = 0n;
  const append = (producer: number, count: number, kind: { inTransaction: boolean; marker?: number }) => {
    const batchContext = {
      firstOffset: end.toString(),
      lastOffsetDelta: count - 1,
      producerId: String(producer),
      inTransaction: kind.inTransaction,
    };
    batches.push(
      Array.from({ length: count }, (_, i) => ({
        offset: (end + BigInt(i)).toString(),
        timestamp: "0",
        key: kind.marker === undefined ? Buffer.alloc(4) : Buffer.from([0, 0, 0, kind.marker]),
        value: null,
        headers: [],
        isControlRecord: kind.marker !== undefined,
        batchContext,
      })),
    );
    const offsets = Array.from({ length: count }, (_, i) => end + BigInt(i));
    end += BigInt(count);
    return offsets;
  };
  for (const { producer, act, records } of steps) {
    if (act === "plain")
      for (const offset of append(100 + producer, records, { inTransaction: false })) visible.add(offset);
    else if (act === "send") {
      const offsets = append(producer, records, { inTransaction: true });
      open.set(producer, [...(open.get(producer) ?? []), ...offsets]);
    } else {
      const offsets = open.get(producer);
      if (offsets === undefined) continue;
      open.delete(producer);
      const [lastOffset] = append(producer, 1, { inTransaction: true, marker: act === "abort" ? 0 : 1 });
      if (act === "commit") for (const offset of offsets) visible.add(offset);
      else aborted.push({ producerId: String(producer), firstOffset: offsets[0]!.toString(), lastOffset: lastOffset! });
    }
  }
  // Open transactions hold the last stable offset back; a broker sends nothing beyond it.
  let stable = end;
  for (const [first] of open.values()) if (first! < stable) stable = first!;
  return { batches, aborted, visible, stable };
}

const steps = fc.array(
  fc.record({
    producer: fc.integer({ min: 1, max: 3 }),
    act: fc.constantFrom("send" as const, "send" as const, "commit" as const, "abort" as const, "plain" as const),
    records: fc.integer({ min: 1, max: 3 }),
  }),
  { maxLength: 40 },
);

test("F1, F2, F3: from any batch on exactly the committed records pass, whatever their keys", () => {
  fc.assert(
    fc.property(steps, fc.nat(), (taken, start) => {
      const { batches, aborted, visible, stable } = logOf(taken);
      const readable = batches.filter(([first]) => BigInt(first!.offset) < stable);
      const answer = readable.slice(readable.length === 0 ? 0 : start % readable.length);
      const from = BigInt(answer[0]?.[0]?.offset ?? 0);
      // As a broker does it: the aborted transactions that overlap with what is read, in the order of their markers.
      const listed = aborted.filter(
        ({ lastOffset, firstOffset }) => lastOffset >= from && BigInt(firstOffset) < stable,
      );
      const passed = filterCommitted(answer.flat(), listed).map(({ offset }) => BigInt(offset));
      expect(passed).toEqual(
        [...visible].filter((offset) => offset >= from && offset < stable).sort((a, b) => Number(a - b)),
      );
    }),
    { numRuns: 500 },
  );
});

test("no list of aborted transactions: only control records are left out", () => {
  const { batches } = logOf([
    { producer: 1, act: "send", records: 2 },
    { producer: 1, act: "commit", records: 1 },
  ]);
  expect(filterCommitted(batches.flat(), null).map(({ offset }) => offset)).toEqual(["0", "1"]);
});
