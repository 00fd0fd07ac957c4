/**
 * The journal as JSON text, in the form that journal.ts gives, and back. Decoding is strict: a journal that is not exactly
 * of that form would be replayed as something else.
 */
import { LockstepError } from "../errors.ts";
import type { Journal, JournalEntry, Verdict } from "./journal.ts";

const VERSION = 1;

export function encodeJournal(journal: Journal): string {
  const topics: string[] = [];
  const indexOf = (topic: string): number => {
    const index = topics.indexOf(topic);
    return index >= 0 ? index : topics.push(topic) - 1;
  };
  const entries = journal.entries.map((entry) =>
    entry.kind === "run"
      ? [indexOf(entry.topic), String(entry.first), String(entry.next), entry.count, entry.crc]
      : ["t", entry.streamTimeMs, entry.timers],
  );
  const verdicts = journal.verdicts.map((verdict) =>
    verdict.kind === "record"
      ? ["r", indexOf(verdict.topic), String(verdict.offset), verdict.code, verdict.message]
      : ["i", verdict.actorType, verdict.key, verdict.timerId, verdict.dueMs, verdict.code, verdict.message],
  );
  return JSON.stringify({ v: VERSION, topics, entries, verdicts });
}

/** @throws {LockstepError} JOURNAL_BROKEN the text is not a journal of version 1 */
export function decodeJournal(text: string): Journal {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw broken("it is not JSON", error);
  }
  const { v, topics, entries, verdicts } = (parsed ?? {}) as Record<string, unknown>;
  if (v !== VERSION) throw broken(`its version is ${JSON.stringify(v)}, not ${VERSION}`);
  const names = asList(topics, "topics").map((topic) => asString(topic, "a topic"));
  return {
    entries: asList(entries, "entries").map((entry) => decodeEntry(asList(entry, "an entry"), names)),
    verdicts: asList(verdicts, "verdicts").map((verdict) => decodeVerdict(asList(verdict, "a verdict"), names)),
  };
}

function decodeEntry(fields: readonly unknown[], topics: readonly string[]): JournalEntry {
  if (fields[0] === "t") {
    const [, streamTimeMs, timers] = exactly(fields, 3);
    return {
      kind: "tick",
      streamTimeMs: asNumber(streamTimeMs, "a stream time"),
      timers: asCount(timers, "a count of timers"),
    };
  }
  const [topic, first, next, count, crc] = exactly(fields, 5);
  const run = {
    kind: "run" as const,
    topic: asTopic(topic, topics),
    first: asOffset(first),
    next: asOffset(next),
    count: asCount(count, "a count of records"),
    crc: asCount(crc, "a checksum"),
  };
  if (run.count < 1 || run.next - run.first < BigInt(run.count)) {
    throw broken(`a run of ${run.count} records cannot reach from ${run.first} to ${run.next}`);
  }
  if (run.crc > 0xffffffff) throw broken(`the checksum ${run.crc} has more than 32 bits`);
  return run;
}

function decodeVerdict(fields: readonly unknown[], topics: readonly string[]): Verdict {
  if (fields[0] === "r") {
    const [, topic, offset, code, message] = exactly(fields, 5);
    const reason = { code: asString(code, "a code"), message: asString(message, "a message") };
    return { kind: "record", topic: asTopic(topic, topics), offset: asOffset(offset), ...reason };
  }
  if (fields[0] !== "i") throw broken(`a verdict begins with ${JSON.stringify(fields[0])}`);
  const [, actorType, key, timerId, dueMs, code, message] = exactly(fields, 7);
  return {
    kind: "timer",
    actorType: asString(actorType, "an actor type"),
    key: asString(key, "a key"),
    timerId: asString(timerId, "a timer id"),
    dueMs: asNumber(dueMs, "a due time"),
    code: asString(code, "a code"),
    message: asString(message, "a message"),
  };
}

function exactly(fields: readonly unknown[], count: number): readonly unknown[] {
  if (fields.length !== count) throw broken(`${JSON.stringify(fields)} has ${fields.length} fields, not ${count}`);
  return fields;
}

function asList(value: unknown, what: string): readonly unknown[] {
  if (!Array.isArray(value)) throw broken(`${what} is not a list`);
  return value;
}

function asString(value: unknown, what: string): string {
  if (typeof value !== "string") throw broken(`${what} is not a string`);
  return value;
}

function asNumber(value: unknown, what: string): number {
  if (typeof value !== "number") throw broken(`${what} is not a number`);
  return value;
}

function asCount(value: unknown, what: string): number {
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw broken(`${what} is not a whole number of 0 or more`);
  return value as number;
}

function asTopic(value: unknown, topics: readonly string[]): string {
  const topic = topics[asCount(value, "the number of a topic")];
  if (topic === undefined) throw broken(`topic number ${String(value)} is not in its list`);
  return topic;
}

function asOffset(value: unknown): bigint {
  const text = asString(value, "an offset");
  if (!/^(0|[1-9][0-9]{0,18})$/.test(text)) throw broken(`"${text}" is not an offset`);
  return BigInt(text);
}

function broken(reason: string, cause?: unknown): LockstepError {
  return new LockstepError("JOURNAL_BROKEN", `A journal row cannot be read: ${reason}.`, { cause });
}
