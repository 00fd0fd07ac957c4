/**
 * Dead letters and late records: the original bytes, and why. They are published in the same commit as the position that
 * passes them, so nothing is lost between the two.
 *
 * Invariants
 *   D1  A dead letter always fits its topic: what is too large loses its value, then its headers, and says so. Otherwise a
 *       record that must be set aside could stop its shard.
 *   D2  No stack trace is kept: paths differ between machines, and a replay must give the same bytes.
 */
import { deadLetterTopic } from "./app.ts";
import { eventId, type IdOrigin } from "./ids.ts";
import type { Rejection } from "./judge.ts";
import type { Headers, InputRecord, OutputRecord } from "./record.ts";
import { assertFits, outputBytes, type RouteContext } from "./routes.ts";
import type { Timer } from "./timers.ts";

/** Of the headers that say why, as Kafka Streams names them. */
export const ERROR = "__streams.errors.";
const LATE = "__lockstep.late.";
/** On a dead letter that lost its value: the bytes it had. */
export const OMITTED_HEADER = "__lockstep.omitted.bytes";
/** On the dead letter of a timer, which has no topic and offset of its own. */
export const TIMER_HEADER = "__lockstep.timer";

const MESSAGE_CHARACTERS_MAX = 1_000;
/** Ordinal, in ids, of the record that tells of a record or timer itself. */
const SELF = -1;

export interface SetAside {
  readonly id: string;
  readonly record: OutputRecord;
}

/** The dead letter of a record. */
export function deadLetter(context: RouteContext, record: InputRecord, cause: Rejection): SetAside {
  const topic = deadLetterTopic(record.topic);
  const headers: Headers = [
    ...causeHeaders(cause),
    text(`${ERROR}topic`, record.topic),
    text(`${ERROR}partition`, String(record.partition)),
    text(`${ERROR}offset`, String(record.offset)),
  ];
  const { key, value, timestampMs } = record;
  const partition = record.partition % context.partitionsOf(topic);
  const letter = { topic, partition, key, value, headers: [...record.headers, ...headers], timestampMs };
  return {
    id: eventId(context.app.name, originOf(record), SELF),
    record: cutToFit(letter, headers, context.outputBytesMax(topic)),
  };
}

/** The dead letter of a timer: a record made up of what is known of it, on the dead letters of the app's first input. */
export function timerDeadLetter(
  context: RouteContext,
  timer: Timer,
  at: { shard: number; cause: Rejection },
): SetAside {
  const input = context.app.inputs[0]!; // An app has an input: appFaults.
  const topic = deadLetterTopic(input.topic);
  const { actorType, key, timerId, dueMs, event } = timer;
  const headers: Headers = [...causeHeaders(at.cause), text(TIMER_HEADER, timerId)];
  const letter: OutputRecord = {
    topic,
    partition: at.shard % context.partitionsOf(topic),
    key: Buffer.from(key),
    value: Buffer.from(JSON.stringify({ actorType, key, timerId, dueMs, event })),
    headers,
    timestampMs: BigInt(dueMs),
  };
  return {
    id: eventId(context.app.name, timerOrigin(timer), SELF),
    record: cutToFit(letter, headers, context.outputBytesMax(topic)),
  };
}

/**
 * A late record, as it came, with how far it was behind stream time.
 * @throws {LockstepError} OUTPUT_TOO_LARGE
 */
export function lateRecord(
  context: RouteContext,
  record: InputRecord,
  late: { topic: string; byMs: number },
): SetAside {
  const { key, value, timestampMs } = record;
  const published: OutputRecord = {
    topic: late.topic,
    partition: record.partition % context.partitionsOf(late.topic),
    key,
    value,
    headers: [
      ...record.headers,
      text(`${LATE}topic`, record.topic),
      text(`${LATE}partition`, String(record.partition)),
      text(`${LATE}offset`, String(record.offset)),
      text(`${LATE}by-ms`, String(late.byMs)),
    ],
    timestampMs,
  };
  assertFits(published, context.effectBytesMax(late.topic));
  return { id: eventId(context.app.name, originOf(record), SELF), record: published };
}

export function originOf({ topic, partition, offset }: InputRecord): Extract<IdOrigin, { kind: "record" }> {
  return { kind: "record", topic, partition, offset };
}

export function timerOrigin({ actorType, key, timerId, dueMs }: Timer): Extract<IdOrigin, { kind: "timer" }> {
  return { kind: "timer", actorType, key, timerId, dueMs };
}

function causeHeaders({ code, message }: Rejection): Headers {
  return [
    text(`${ERROR}exception`, code),
    text(`${ERROR}message`, message.slice(0, MESSAGE_CHARACTERS_MAX)),
    text(`${ERROR}stacktrace`, ""),
  ];
}

/** D1. @param own headers that are kept whatever is left out */
export function cutToFit(letter: OutputRecord, own: Headers, bytesMax: number): OutputRecord {
  if (outputBytes(letter) <= bytesMax) return letter;
  const omitted = text(OMITTED_HEADER, String(letter.value?.length ?? 0));
  const withoutValue = { ...letter, value: null, headers: [...letter.headers, omitted] };
  if (outputBytes(withoutValue) <= bytesMax) return withoutValue;
  const withoutHeaders = { ...withoutValue, headers: [...own, omitted] };
  return outputBytes(withoutHeaders) <= bytesMax ? withoutHeaders : { ...withoutHeaders, key: null };
}

function text(name: string, value: string): readonly [string, Buffer] {
  return [name, Buffer.from(value)];
}
