/**
 * What a row of the outbox table becomes (docs/relay.md, "What a row becomes"). Pure; the same row always gives the same bytes.
 *
 * Invariants
 *   RI7  Values are the bytes that Postgres printed: a decimal keeps its digits, a time its microseconds.
 *   RI8  A row that its topic can never take goes to the dead letters, and always fits there: no row stops the relay.
 */
import { cutToFit } from "../actors/dead-letters.ts";
import { partitionFor } from "../actors/partition.ts";
import type { Headers, OutputRecord } from "../actors/record.ts";
import { outputBytes } from "../actors/routes.ts";
import { type ErrorCode, LockstepError } from "../errors.ts";
import type { LoggedValues } from "../storage/pgoutput.ts";
import type { OutboxRecord } from "./cutter.ts";

export interface OutboxTarget {
  readonly topic: string;
  readonly partitions: number;
  readonly bytesMax: number;
  /** Timestamps further ahead of the broker's clock are refused (`message.timestamp.after.max.ms`). */
  readonly aheadMsMax: number;
  /** And those further behind it (`message.timestamp.before.max.ms`). */
  readonly behindMsMax: number;
}

export interface OutboxTargets {
  /** `schema.table`, for dead letters. */
  readonly table: string;
  readonly events: OutboxTarget;
  readonly deadLetters: OutboxTarget;
}

const COLUMNS = ["event_id", "aggregate_type", "aggregate_id", "type", "payload", "occurred_at"] as const;
type Column = (typeof COLUMNS)[number];

const ERROR = "__streams.errors.";
/** On a dead letter: the table whose row it is. */
export const TABLE_HEADER = "__lockstep.outbox.table";

/** Half of what the broker allows is left to the difference of two clocks. */
const CLOCKS = 0.5;

/** @throws {LockstepError} RELAY_SET_UP_CHANGED a column is gone, or the time is none with a zone */
export function toOutboxRecord(values: LoggedValues, committedMs: number, targets: OutboxTargets): OutboxRecord {
  const { table, events, deadLetters } = targets;
  const column = (name: Column): Buffer | null => {
    const value = values.get(name);
    if (value === undefined)
      throw new LockstepError(
        "RELAY_SET_UP_CHANGED",
        `A row of ${table} was written while the table had no column "${name}"; the relay needs ${COLUMNS.join(", ")}. Give the table that column again, fill it, then \`lockstep relay resync\` publishes what the topic lacks and goes on from there.`,
      );
    return value;
  };
  const key = column("aggregate_id");
  const occurred = occurredAt(column("occurred_at"), table);
  const headers: Headers = [
    ["event_id", column("event_id")],
    ["event_type", column("type")],
    ["aggregate_type", column("aggregate_type")],
    ["aggregate_id", key],
    ["occurred_at", occurred && Buffer.from(occurred.iso)],
  ];
  const record: OutputRecord = {
    topic: events.topic,
    partition: key === null ? 0 : partitionFor(key, events.partitions),
    key,
    value: column("payload"),
    headers: headers.filter(([, value]) => value !== null),
    timestampMs: BigInt(timestampOf(occurred?.ms ?? null, committedMs, events)),
  };
  const fault = faultOf(record, values, events);
  if (fault === null) return { record, dead: false };
  const timestamp = BigInt(timestampOf(occurred?.ms ?? null, committedMs, deadLetters));
  return {
    record: deadLetter({ ...record, timestampMs: timestamp }, fault, { table, target: deadLetters }),
    dead: true,
  };
}

interface Fault {
  readonly code: ErrorCode;
  readonly message: string;
}

function faultOf(record: OutputRecord, values: LoggedValues, { topic, bytesMax }: OutboxTarget): Fault | null {
  if (values.get("event_id") === null)
    return { code: "RECORD_REFUSED", message: "The row has no event_id, by which it could be known." };
  if (record.key === null)
    return { code: "RECORD_WITHOUT_KEY", message: "The row has no aggregate_id, which would be the record's key." };
  const bytes = outputBytes(record);
  if (bytes > bytesMax)
    return {
      code: "OUTPUT_TOO_LARGE",
      message: `A record of ${bytes} bytes for "${topic}" exceeds the ${bytesMax} bytes that the topic takes.`,
    };
  return null;
}

function deadLetter(
  record: OutputRecord,
  { code, message }: Fault,
  { table, target }: { table: string; target: OutboxTarget },
): OutputRecord {
  const cause: Headers = Object.entries({
    [`${ERROR}exception`]: code,
    [`${ERROR}message`]: message,
    [`${ERROR}stacktrace`]: "",
    [`${ERROR}topic`]: record.topic,
    [`${ERROR}partition`]: String(record.partition),
    [`${ERROR}offset`]: "-1", // it never had one
    [TABLE_HEADER]: table,
  }).map(([name, text]) => [name, Buffer.from(text)] as const);
  const letter = {
    ...record,
    topic: target.topic,
    partition: record.partition % target.partitions,
    headers: [...record.headers, ...cause],
  };
  // By its id a resync knows that the row is here.
  const id = record.headers.filter(([name]) => name === "event_id");
  const cut = cutToFit(letter, [...id, ...cause], target.bytesMax);
  return outputBytes(cut) <= target.bytesMax ? cut : cutToFit(letter, cause, target.bytesMax);
}

/** A time that the broker would refuse must not stop the relay: the record then has the commit's. */
function timestampOf(
  occurredMs: number | null,
  committedMs: number,
  { aheadMsMax, behindMsMax }: OutboxTarget,
): number {
  if (occurredMs === null || occurredMs < 0) return Math.max(0, committedMs);
  const taken = occurredMs <= committedMs + aheadMsMax * CLOCKS && occurredMs >= committedMs - behindMsMax * CLOCKS;
  return taken ? occurredMs : Math.max(0, committedMs);
}

/** As Postgres prints a timestamptz in UTC. */
const TIMESTAMP = /^(\d{4,6})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?\+00$/;

/** What else a timestamptz can be. */
const TIMELESS = /\+00 BC$|^-?infinity$/;

/** @returns null for NULL; a time before Christ, and infinity, keep Postgres' text and have no ms */
function occurredAt(text: Buffer | null, table: string): { iso: string; ms: number | null } | null {
  if (text === null) return null;
  const printed = text.toString("latin1");
  if (!TIMESTAMP.test(printed) && !TIMELESS.test(printed))
    throw new LockstepError(
      "RELAY_SET_UP_CHANGED",
      `A row of ${table} has occurred_at "${printed.slice(0, 40)}", which is no timestamptz: nobody can tell which moment it means. Make the column a timestamptz (ALTER TABLE ... TYPE timestamptz USING occurred_at AT TIME ZONE '...'), then \`lockstep relay resync\` publishes what the topic lacks and goes on from there.`,
    );
  const match = TIMESTAMP.exec(printed);
  if (!match) return { iso: printed, ms: null };
  const [, year, month, day, hour, minute, second, fraction = ""] = match as unknown as string[];
  const micros = fraction.padEnd(6, "0");
  const wholeMs = Date.UTC(Number(year), Number(month) - 1, Number(day), Number(hour), Number(minute), Number(second));
  return {
    iso: `${year}-${month}-${day}T${hour}:${minute}:${second}.${micros}Z`,
    // Half a millisecond is rounded up, as Postgres rounds occurred_at_ms.
    ms: Number.isNaN(wholeMs) ? null : wholeMs + Math.floor(Number(micros) / 1000 + 0.5),
  };
}
