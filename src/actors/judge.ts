/**
 * Judges one record: what event it is, at which time, or why it can never be one. A function of the record alone, so that
 * it may be called ahead, when the record is queued, and again in a replay.
 *
 * Messages go into dead letters, whose bytes a replay must repeat: JSON.parse's own text, which differs between versions of
 * Node, is left out. Every kind of bad record, and where it ends: docs/bad-input.md.
 */
import { isUtf8 } from "node:buffer";

import type { ErrorCode } from "../errors.ts";
import type { App, InputDefinition, Schema } from "./app.ts";
import { parseJson } from "./json-text.ts";
import type { MachineEvent } from "./machine-host.ts";
import type { InputRecord } from "./record.ts";
import type { StepWatch } from "./step-target.ts";

/** How far event time may be beyond Kafka's timestamp: one such record would make all that follow late. */
export const TIME_AHEAD_MS_MAX = 60_000;

/**
 * Bytes of a value, at most. Kafka's limit is on the compressed batch, so a record can come out far larger than its topic
 * seems to allow; parsed, it takes about ten times as much again. 16 times Kafka's default limit.
 */
export const VALUE_BYTES_MAX = 16 * 1_048_576;

/** Header of records that commits of an app published: `<instance>/<shard>/<seq>/<ordinal>`. */
export const SOURCE_HEADER = "lockstep-source";

/** The latest moment that a JavaScript date can hold. */
const TIME_MS_MAX = 8.64e15;
const MESSAGE_CHARACTERS_MAX = 1_000;
/** About what Kafka adds to a record, so that many tiny ones are not taken for nothing. */
const RECORD_OVERHEAD_BYTES = 70;

export interface Rejection {
  readonly code: string;
  readonly message: string;
}

export interface Judged {
  readonly record: InputRecord;
  readonly definition: InputDefinition & { readonly topic?: string };
  /** Event time, ms since the Unix epoch; -Infinity for a rejected record, so that it is taken first. */
  readonly timeMs: number;
  /** The value with the definition's event as its type; null for a rejected record. */
  readonly event: MachineEvent | null;
  readonly rejection: Rejection | null;
  readonly bytes: number;
  /** Which commit published the record: `key` is instance and shard. */
  readonly source: { readonly key: string; readonly seq: number; readonly ordinal: number } | null;
}

/** @param watch is told of it: a schema is code of the app, and may run for ever as any other */
export function judge(_app: App, definition: Judged["definition"], record: InputRecord, watch?: StepWatch): Judged {
  watch?.begin({ kind: "record", topic: record.topic, offset: record.offset });
  const verdict = judgeValue(definition, record);
  watch?.end();
  const common = { record, definition, bytes: recordBytes(record), source: sourceOf(record) };
  return "code" in verdict
    ? { ...common, timeMs: Number.NEGATIVE_INFINITY, event: null, rejection: verdict }
    : { ...common, timeMs: verdict.timeMs, event: verdict.event, rejection: null };
}

/** A record that has its verdict: nothing of the app looks at it. */
export function judgedBefore(definition: Judged["definition"], record: InputRecord, rejection: Rejection): Judged {
  const { code, message } = rejection;
  return {
    record,
    definition,
    timeMs: Number.NEGATIVE_INFINITY,
    event: null,
    rejection: { code, message },
    bytes: recordBytes(record),
    source: sourceOf(record),
  };
}

function judgeValue(
  definition: InputDefinition,
  record: InputRecord,
): Rejection | { event: MachineEvent; timeMs: number } {
  const { key, value: bytes } = record;
  if (bytes === null) return reject("RECORD_UNDECODABLE", "The record has no value.");
  if (bytes.length > VALUE_BYTES_MAX) {
    return reject("RECORD_TOO_LARGE", `The value has ${bytes.length} bytes; ${VALUE_BYTES_MAX} are taken at most.`);
  }
  if (!isUtf8(bytes)) return reject("RECORD_UNDECODABLE", "The value is not UTF-8.");
  const parsed = parseJson(bytes.toString("utf8"));
  if ("fault" in parsed) return reject("RECORD_UNDECODABLE", `The value ${parsed.fault}.`);
  if (key === null || key.length === 0) return reject("RECORD_WITHOUT_KEY", "The record has no key.");

  const checked = check(definition.schema, parsed.value);
  if ("issues" in checked) return reject("RECORD_REFUSED", checked.issues);
  const { value } = checked;
  if (typeof value !== "object" || value === null) return reject("RECORD_REFUSED", "The value is not an object.");
  try {
    const expected = definition.key?.(value);
    if (expected !== undefined && !key.equals(Buffer.from(expected))) {
      return reject("RECORD_KEY_MISMATCH", `The key should be "${expected}".`);
    }
  } catch (error) {
    return reject("RECORD_REFUSED", `The key cannot be computed: ${textOf(error)}.`);
  }
  return judgeTime(definition, record, value);
}

function judgeTime(
  definition: InputDefinition,
  record: InputRecord,
  value: object,
): Rejection | { event: MachineEvent; timeMs: number } {
  let timeMs: number;
  try {
    timeMs = definition.time(value);
  } catch (error) {
    return reject("RECORD_TIME_INVALID", `The event time cannot be computed: ${textOf(error)}.`);
  }
  if (!Number.isInteger(timeMs) || timeMs < 0 || timeMs > TIME_MS_MAX) {
    return reject(
      "RECORD_TIME_INVALID",
      `The event time ${String(timeMs)} is not a whole number of milliseconds of 0 or more.`,
    );
  }
  const { timestampMs } = record;
  if (timestampMs >= 0n && timeMs > Number(timestampMs) + TIME_AHEAD_MS_MAX) {
    return reject(
      "RECORD_TIME_INVALID",
      `The event time ${timeMs} is more than ${TIME_AHEAD_MS_MAX} ms beyond Kafka's timestamp ${timestampMs}.`,
    );
  }
  return { event: { ...value, type: definition.event }, timeMs };
}

/** Applies a schema. A schema that throws or answers later refuses. */
export function check(schema: Schema<unknown>, input: unknown): { value: unknown } | { issues: string } {
  let result: ReturnType<Schema<unknown>["~standard"]["validate"]>;
  try {
    result = schema["~standard"].validate(input);
  } catch (error) {
    return { issues: `The schema threw: ${textOf(error)}.` };
  }
  if (result instanceof Promise) {
    // Its outcome is of no use, and an unhandled rejection would end the process.
    result.catch(() => undefined);
    return { issues: "The schema is asynchronous." };
  }
  if (!result.issues) return { value: result.value };
  return { issues: result.issues.map(({ path, message }) => `${pathText(path)}${message}`).join("; ") };
}

function pathText(path: ReadonlyArray<unknown> | undefined): string {
  if (!path || path.length === 0) return "";
  const steps = path.map((step) =>
    String(typeof step === "object" && step !== null && "key" in step ? step.key : step),
  );
  return `${steps.join(".")}: `;
}

function sourceOf({ headers }: InputRecord): Judged["source"] {
  // The last one: a record that was passed on keeps the headers of its former life.
  const header = headers.findLast(([name]) => name === SOURCE_HEADER)?.[1];
  const match = header && /^([^/]+\/\d+)\/(\d+)\/(\d+)$/.exec(header.toString("utf8"));
  return match ? { key: match[1]!, seq: Number(match[2]), ordinal: Number(match[3]) } : null;
}

function recordBytes({ key, value, headers }: InputRecord): number {
  let bytes = RECORD_OVERHEAD_BYTES + (key?.length ?? 0) + (value?.length ?? 0);
  for (const [name, content] of headers) bytes += name.length + (content?.length ?? 0);
  return bytes;
}

function reject(code: ErrorCode, message: string): Rejection {
  return { code, message: message.slice(0, MESSAGE_CHARACTERS_MAX) };
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
