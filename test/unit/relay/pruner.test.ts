/**
 * When rows are deleted, step by step: what stands in Kafka against what was seen in the table.
 */
import { expect, test } from "vitest";

import type { Clock } from "../../../src/clock.ts";
import { LockstepError } from "../../../src/errors.ts";
import { createPruner } from "../../../src/relay/pruner.ts";
import type { Ask } from "../../../src/storage/relay-store.ts";

const END = 0x2000n;

/** A table of two old rows, seen before the log ended at END. */
function prunerOf({ fails = false } = {}) {
  const asked: string[] = [];
  let ms = 0;
  const ask = (async (text: string) => {
    const verb = /^\s*(\w+)/.exec(text)![1]!;
    asked.push(text.includes("insert_lsn") ? "end" : verb);
    if (fails) throw new LockstepError("STORE_UNAVAILABLE", "canceling statement due to statement timeout");
    if (text.includes("insert_lsn")) return [{ lsn: "0/2000" }];
    return [{ id: "a" }, { id: "b" }];
  }) as Ask;
  const clock: Pick<Clock, "monotonicMs" | "wallMs"> = { monotonicMs: () => ms, wallMs: () => ms };
  const log = { debug() {}, info() {}, warn() {}, error() {}, child: () => log };
  const counted: number[] = [];
  const observer = { count: (_: string, by = 1) => void counted.push(by) };
  const pruner = createPruner({ ask, table: "app.outbox", keepMs: 1_000, clock: clock as Clock, observer, log });
  const run = async (position: bigint) => {
    pruner.run(position);
    await pruner.settled();
  };
  return {
    asked,
    counted,
    run,
    pass: (by: number) => {
      ms += by;
    },
  };
}

test("RI9: candidates are deleted when E has reached the end of the log as read after them, and no sooner", async () => {
  const { asked, counted, run, pass } = prunerOf();
  await run(END);
  expect(asked).toEqual([]); // it is not time
  pass(1_000);
  await run(END - 1n);
  expect(asked).toEqual(["SELECT", "end"]);
  await run(END - 1n);
  expect(asked).toEqual(["SELECT", "end"]);
  await run(END);
  expect(asked).toEqual(["SELECT", "end", "DELETE"]);
  expect(counted).toEqual([2]);
});

test("a round that fails is skipped: the next one looks again", async () => {
  const { asked, counted, run, pass } = prunerOf({ fails: true });
  pass(1_000);
  await run(END);
  await run(END);
  expect(asked).toEqual(["SELECT"]);
  pass(1_000);
  await run(END);
  expect(asked).toEqual(["SELECT", "SELECT"]);
  expect(counted).toEqual([]);
});
