/**
 * What was published, held against what had to be: nothing lost, doubled or out of order, and every record equal.
 */
import { partitionFor } from "../../../src/actors/partition.ts";
import type { InputRecord } from "../../../src/actors/record.ts";
import type { OrderRecord } from "./outbox-rows.ts";

export interface Verdict {
  readonly records: number;
  /** Events of the table that are not on the topic. */
  readonly lost: number;
  /** Records beyond the first of an event. */
  readonly doubled: number;
  /** Records of no event of the table. */
  readonly foreign: number;
  /** Records that come after one of the same key that was committed later. */
  readonly outOfOrder: number;
  /** A sentence for each record that differs from what it had to be, or is in another partition. */
  readonly differing: readonly string[];
}

const SHOWN_CHARS = 200;

/**
 * @param records  in order of partition and offset
 * @param expected by event id, all that the table has
 * @param order    event ids in the order in which they were committed
 */
export function judge(
  records: readonly InputRecord[],
  expected: ReadonlyMap<string, OrderRecord>,
  options: { order: readonly string[]; partitions: number },
): Verdict {
  const places = new Map(options.order.map((eventId, index) => [eventId, index]));
  const seen = new Map<string, number>();
  const lastOfKey = new Map<string, number>();
  const differing: string[] = [];
  let foreign = 0;
  let outOfOrder = 0;
  for (const record of records) {
    const found = orderRecord(record);
    const eventId = headerOf(found, "event_id");
    const wanted = expected.get(eventId);
    if (wanted === undefined) {
      foreign += 1;
      continue;
    }
    seen.set(eventId, (seen.get(eventId) ?? 0) + 1);
    differing.push(...differences(found, wanted).map((text) => `${eventId}: ${text}`));
    const partition = partitionFor(Buffer.from(wanted.key), options.partitions);
    if (record.partition !== partition) differing.push(`${eventId}: partition ${record.partition}, not ${partition}`);
    const place = places.get(eventId)!;
    if (place < (lastOfKey.get(found.key) ?? -1)) outOfOrder += 1;
    lastOfKey.set(found.key, Math.max(place, lastOfKey.get(found.key) ?? -1));
  }
  return {
    records: records.length,
    lost: [...expected.keys()].filter((eventId) => !seen.has(eventId)).length,
    doubled: [...seen.values()].reduce((sum, times) => sum + times - 1, 0),
    foreign,
    outOfOrder,
    differing,
  };
}

/** Bytes as they are: what is not UTF-8 is shown by its bytes, so that it equals no text. */
export function orderRecord(record: InputRecord): OrderRecord {
  return {
    key: textOf(record.key),
    value: textOf(record.value),
    headers: record.headers
      .map(([name, value]) => [name, textOf(value)] as const)
      .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)),
  };
}

export function headerOf(record: OrderRecord, name: string): string {
  return record.headers.find(([each]) => each === name)?.[1] ?? "";
}

function differences(found: OrderRecord, wanted: OrderRecord): string[] {
  const pairs = [
    ["key", found.key, wanted.key],
    ["value", found.value, wanted.value],
    ["headers", JSON.stringify(found.headers), JSON.stringify(wanted.headers)],
  ] as const;
  return pairs.filter(([, a, b]) => a !== b).map(([what, a, b]) => `${what} ${short(a)}, not ${short(b)}`);
}

function textOf(bytes: Buffer | null): string {
  if (bytes === null) return "(null)";
  const text = bytes.toString("utf8");
  return Buffer.from(text, "utf8").equals(bytes) ? text : `(bytes) ${bytes.toString("hex")}`;
}

function short(text: string): string {
  return text.length > SHOWN_CHARS ? `${text.slice(0, SHOWN_CHARS)}... (${text.length} characters)` : text;
}
