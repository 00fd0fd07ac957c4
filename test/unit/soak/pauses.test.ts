import { expect, test } from "vitest";

import { createWaiting } from "../../soak/pauses.ts";

test("a decision takes the arrival of its own signal, and forgets those before it", () => {
  const waiting = createWaiting();
  waiting.add("A", 1_000, 10);
  waiting.add("A", 2_000, 20);
  waiting.add("A", 3_000, 30);
  waiting.add("B", 2_000, 25);
  expect(waiting.take("A", 2_000)).toBe(20);
  expect(waiting.take("A", 1_000)).toBeNull();
  expect(waiting.take("B", 2_000)).toBe(25);
  expect(waiting.take("A", 3_000)).toBe(30);
});

test("a signal that is sent again has arrived when it came first", () => {
  const waiting = createWaiting();
  waiting.add("A", 1_000, 10);
  waiting.add("A", 1_000, 99);
  expect(waiting.take("A", 1_000)).toBe(10);
});

test("a key or time that was never sent has no arrival", () => {
  const waiting = createWaiting();
  waiting.add("A", 1_000, 10);
  expect(waiting.take("A", 500)).toBeNull();
  expect(waiting.take("C", 1_000)).toBeNull();
  expect(waiting.take("A", 1_000)).toBe(10);
});
