/**
 * What is on a topic, as Kafka's own Java consumer sees it: the independent reader of the tests.
 */
import { type ConsoleRecord, readCommitted } from "../../src/stack/console-consumer.ts";
import { testStack } from "./stack.ts";

export type { ConsoleRecord } from "../../src/stack/console-consumer.ts";

/** The committed records of a topic, in order of partition and offset. For topics that fit in memory. */
export async function committedRecords(
  topic: string,
  options: { brokers?: readonly string[]; idleMs?: number; ends?: ReadonlyMap<number, bigint> } = {},
): Promise<ConsoleRecord[]> {
  const { brokers, kafkaLibs } = testStack();
  const records: ConsoleRecord[] = [];
  for await (const record of readCommitted({ libs: kafkaLibs, brokers, topic, ...options })) records.push(record);
  return records.sort((a, b) => a.partition - b.partition || Number(a.offset - b.offset));
}
