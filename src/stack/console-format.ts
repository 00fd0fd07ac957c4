/**
 * How the console consumer is told to print a record, and how that is read back.
 *
 * A line is `<timestamp> <partition> <offset> <headers> <key> <value>`, split by marks that do not occur in text: JSON
 * escapes control characters, and two in a row, differing, are not what bytes that are no text begin or end with either.
 */
import { LockstepError } from "../errors.ts";

export interface ConsoleRecord {
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  /** Kafka's timestamp of the record, ms since the Unix epoch; -1 when it has none. */
  readonly timestampMs: number;
  readonly key: string | null;
  /** Of several headers of one name, the last. A header without a value has "". */
  readonly headers: Readonly<Record<string, string>>;
  /** null: a tombstone. */
  readonly value: string | null;
}

const FIELD = "\u001f\u001c";
const HEADER = "\u001d\u001f";
const LINE = "\u001e\u001c\n";
const NULL = "\u001a\u0018";

export const CONSOLE_FORMAT = {
  lineEnd: LINE,
  properties: {
    "print.timestamp": "true",
    "print.partition": "true",
    "print.offset": "true",
    "print.headers": "true",
    "print.key": "true",
    "print.value": "true",
    "key.separator": FIELD,
    "headers.separator": HEADER,
    "line.separator": LINE,
    "null.literal": NULL,
  },
} as const;

/** @throws {LockstepError} KAFKA_UNAVAILABLE the line is not of that form */
export function parseConsoleLine(topic: string, line: string): ConsoleRecord {
  const fields = line.split(FIELD);
  const [timestamp, partition, offset, headers, key, value] = fields;
  const partitionNumber = after("Partition:", partition);
  const offsetNumber = after("Offset:", offset);
  if (fields.length !== 6 || partitionNumber === null || offsetNumber === null) {
    throw new LockstepError("KAFKA_UNAVAILABLE", `the console consumer printed a line that is no record: ${line}`);
  }
  return {
    topic,
    partition: Number(partitionNumber),
    offset: BigInt(offsetNumber),
    timestampMs: timestamp === "NO_TIMESTAMP" ? -1 : Number(timestamp!.slice(timestamp!.indexOf(":") + 1)),
    key: key === NULL ? null : key!,
    headers: parseHeaders(headers!),
    value: value === NULL ? null : value!,
  };
}

function after(label: string, field: string | undefined): string | null {
  return field?.startsWith(label) ? field.slice(label.length) : null;
}

function parseHeaders(text: string): Record<string, string> {
  if (text === "NO_HEADERS") return {};
  const headers: Record<string, string> = {};
  for (const header of text.split(HEADER)) {
    const colon = header.indexOf(":");
    const value = header.slice(colon + 1);
    headers[header.slice(0, colon)] = value === NULL ? "" : value;
  }
  return headers;
}
