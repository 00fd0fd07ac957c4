import { describe, expect, test } from "vitest";

import type { JournalEntry } from "../../../src/actors/journal.ts";
import { Notebook } from "../../../src/actors/notes.ts";
import { advance, assertBalanced } from "../../../src/runtime/books.ts";

function notes(of: Partial<Pick<Notebook, "stepped">> & { late?: string[]; dropped?: string[]; setAside?: number }) {
  const book = new Notebook();
  book.stepped = of.stepped ?? 0;
  book.late.push(...(of.late ?? []));
  book.dropped.push(...(of.dropped ?? []));
  for (let n = 0; n < (of.setAside ?? 0); n += 1)
    book.setAside.push({ kind: "record", topic: "in", code: "MACHINE_THREW", verdict: false });
  return book;
}
const timer = { kind: "timer", topic: "in", code: "MACHINE_THREW", verdict: false } as const;

describe("the books of a commit", () => {
  const balance = (book: Notebook, taken: number, counted = taken, times = [5, 5]) =>
    assertBalanced(
      { counts: { taken: counted }, notes: book },
      { taken, streamTimeBefore: times[0]!, streamTimeMs: times[1]! },
    );

  test("balance when every record taken was stepped, late, dropped or set aside", () => {
    const book = notes({ stepped: 3, late: ["in"], dropped: ["in"], setAside: 2 });
    book.setAside.push(timer); // no record
    expect(() => balance(book, 7)).not.toThrow();
    expect(() => assertBalanced({ counts: {}, notes: notes({}) }, zero)).not.toThrow();
  });
  const zero = { taken: 0, streamTimeBefore: 0, streamTimeMs: 0 };

  test.each([
    ["a record is missing", notes({ stepped: 2 }), 3, 3],
    ["a record ended twice", notes({ stepped: 3, late: ["in"] }), 3, 3],
    ["the model counted another number", notes({ stepped: 3 }), 3, 2],
  ])("do not when %s", (_what, book, taken, counted) => {
    expect(() => balance(book, taken, counted)).toThrow(expect.objectContaining({ code: "RECORDS_UNACCOUNTED" }));
  });

  test("do not when stream time fell", () => {
    expect(() => balance(notes({ stepped: 1 }), 1, 1, [6, 5])).toThrow(
      expect.objectContaining({ code: "STREAM_TIME_FELL" }),
    );
  });
});

test("positions move to the end of each run, and a run below its position is a bug", () => {
  const run = (first: bigint, next: bigint): JournalEntry => ({
    kind: "run",
    topic: "in",
    first,
    next,
    count: 1,
    crc: 0,
  });
  expect(advance({ in: 4n, other: 1n }, [run(4n, 6n), run(8n, 9n)])).toEqual({ in: 9n, other: 1n });
  expect(() => advance({ in: 4n }, [run(3n, 6n)])).toThrow(expect.objectContaining({ code: "POSITION_FELL" }));
});
