/** Records as the contract tests write and compare them. */
import type { OutputRecord } from "../../../src/actors/record.ts";

export function valuesOf(records: readonly { readonly value: Buffer | null }[]): (string | null)[] {
  return records.map(({ value }) => value?.toString() ?? null);
}

export function outputRecord(topic: string, value: string, fields: Partial<OutputRecord> = {}): OutputRecord {
  return {
    topic,
    partition: 0,
    key: Buffer.from("k"),
    value: Buffer.from(value),
    headers: [],
    timestampMs: 1_700_000_000_000n,
    ...fields,
  };
}
