/**
 * Faults of whole servers of a stack of our own, each seen to have happened.
 */
import { expect } from "vitest";

import type { KafkaNode, Stack } from "../../src/stack/index.ts";
import { recordHit } from "./proof.ts";

/** @param options.immediate as a crash: the next start recovers from the log */
export async function stopPostgres(stack: Stack, options: { immediate: boolean }): Promise<void> {
  const { pid } = stack.postgres!;
  await stack.postgres!.stop(options);
  expect(stack.postgres!.pid).toBeNull();
  recordHit(`Postgres stopped${options.immediate ? " (immediate)" : ""}`, `postmaster ${pid} is gone`);
}

export async function restartPostgres(stack: Stack, options: { immediate: boolean }): Promise<void> {
  const { pid } = stack.postgres!;
  await stack.postgres!.restart(options);
  expect(stack.postgres!.pid).not.toBeNull();
  expect(stack.postgres!.pid).not.toBe(pid);
  recordHit(
    `Postgres restarted${options.immediate ? " (immediate)" : ""}`,
    `postmaster ${stack.postgres!.pid} in place of ${pid}`,
  );
}

/** @param how kill: SIGKILL; stop: an orderly shutdown */
export async function endNode(node: KafkaNode, how: "kill" | "stop"): Promise<void> {
  const { pid } = node;
  await node[how]();
  expect(node.pid).toBeNull();
  recordHit(how === "kill" ? "Kafka broker killed" : "Kafka broker stopped", `node ${node.id}, process ${pid} is gone`);
}
