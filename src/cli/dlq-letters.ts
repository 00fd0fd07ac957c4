/**
 * Dead letters as a person deals with them: what they are, which are meant, and what is sent when one is to be taken again.
 */
import { type App, deadLetterTopic, outboxOf } from "../actors/app.ts";
import { ERROR, OMITTED_HEADER, TIMER_HEADER } from "../actors/dead-letters.ts";
import { SOURCE_HEADER } from "../actors/judge.ts";
import type { Headers, InputRecord, OutputRecord } from "../actors/record.ts";
import { LockstepError } from "../errors.ts";
import { createKafkaClient } from "../kafka/client.ts";
import { readTopic } from "../kafka/read-topic.ts";
import { REPLAY_HEADER } from "../kafka/resend.ts";
import { describeTopics } from "../kafka/topics.ts";
import { TABLE_HEADER } from "../relay/outbox-record.ts";
import type { LoadedApp } from "../runtime/code.ts";

/** How often a record was sent again. */
export const RETRY_HEADER = "x-retry-count";

export interface Letter {
  /** `<topic>/<partition>/<offset>` of the dead letter itself. */
  readonly place: string;
  readonly record: InputRecord;
  readonly code: string;
  readonly message: string;
  /** Where the record came from; null for a timer. */
  readonly source: { readonly topic: string; readonly partition: number; readonly offset: bigint } | null;
  readonly timer: string | null;
  /** Of which outbox table it is a row that the relay could not publish; null for all that a shard set aside. */
  readonly outboxTable: string | null;
  /** Bytes of a value that was left out because it did not fit. */
  readonly omittedBytes: number | null;
  readonly retries: number;
}

export interface Selection {
  /** An input, the outbox topic, or the dead letters of one; default: those of all. */
  readonly topic?: string | undefined;
  readonly code?: string | undefined;
  /** By Kafka's timestamp, which is the original's; ms since the Unix epoch. */
  readonly sinceMs?: number | undefined;
  /** Of those that fit, the last so many by Kafka's timestamp. */
  readonly limit?: number | undefined;
  /** Exactly these, as far as they fit the rest; one that is named twice is meant once. */
  readonly places?: readonly string[] | undefined;
}

/**
 * The committed letters that a selection means, by topic and partition, each in the order of its log, and places where there is none.
 * @throws {LockstepError} CONFIG_INVALID a topic or place that cannot be; KAFKA_UNAVAILABLE
 */
export async function readLetters(
  brokers: readonly string[],
  loaded: Pick<LoadedApp, "app">,
  selection: Selection,
): Promise<{ letters: Letter[]; matched: number; missing: readonly string[] }> {
  const client = createKafkaClient({ brokers, clientId: "lockstep-dlq" });
  const { limit = Number.POSITIVE_INFINITY } = selection;
  const wanted = selection.places && unique(selection.places.map(placeOf));
  const named = wanted ? wanted.map(({ topic }) => topic) : [selection.topic];
  const topics = new Set(named.flatMap((name) => lettersOf(loaded, name)));
  // Who does not run the relay may have no topic for what it sets aside.
  const outbox = outboxOf(loaded.app);
  if (outbox && wanted === undefined && selection.topic === undefined) {
    if (!(await describeTopics(client, [outbox.deadLetters])).has(outbox.deadLetters))
      topics.delete(outbox.deadLetters);
  }
  let letters: Letter[] = [];
  let matched = 0;
  for (const topic of topics) {
    const places = wanted?.filter((place) => place.topic === topic);
    const read = places
      ? places.map((place) => ({
          client,
          topic,
          partitions: [place.partition],
          from: new Map([[place.partition, place.offset]]),
        }))
      : [{ client, topic }];
    for (const options of read) {
      for await (const record of readTopic(options)) {
        const letter = letterOf(record);
        if (places && !places.some(({ name }) => name === letter.place)) break; // the first one is it, or it is gone
        if (!fits(letter, selection)) continue;
        matched += 1;
        letters.push(letter);
        if (letters.length > 2 * limit) letters = latestOf(letters, limit);
        if (places) break;
      }
    }
  }
  const missing = (wanted ?? []).flatMap(({ name }) => (letters.some(({ place }) => place === name) ? [] : [name]));
  return { letters: latestOf(letters, limit), matched, missing };
}

/** The last so many by time, of equal ones those read last; in the order in which they were read. */
export function latestOf<L extends { readonly record: Pick<InputRecord, "timestampMs"> }>(
  letters: readonly L[],
  limit: number,
): L[] {
  if (letters.length <= limit) return [...letters];
  const ascending = [...letters].sort((a, b) => Number(a.record.timestampMs - b.record.timestampMs));
  const kept = new Set(ascending.slice(ascending.length - limit));
  return letters.filter((letter) => kept.has(letter));
}

/**
 * What is sent to take a letter again, or why it cannot be. Where it goes is what the letter says, and whoever may write to its topic
 * may have written it: so it goes to no topic but the input that these dead letters are of.
 */
export function replayOf(
  letter: Letter,
  { app }: { readonly app: Pick<App, "name" | "inputs"> },
): OutputRecord | { readonly reason: string } {
  const { record, source, timer, outboxTable, omittedBytes, retries, place } = letter;
  if (outboxTable !== null)
    return {
      reason: `it is a row of ${outboxTable}, not a record of an input; insert it there again, mended and with an event_id of its own, and the relay publishes it`,
    };
  if (timer !== null) return { reason: `it is a timer ("${timer}"), not a record of an input` };
  if (source === null) return { reason: "it does not say which record it was" };
  if (!app.inputs.some(({ topic }) => topic === source.topic))
    return { reason: `it says that it came from ${source.topic}, which is no input of "${app.name}"` };
  if (deadLetterTopic(source.topic) !== record.topic)
    return {
      reason: `it says that it came from ${source.topic}, whose dead letters are on ${deadLetterTopic(source.topic)}`,
    };
  if (omittedBytes !== null) {
    const { topic, partition, offset } = source;
    return {
      reason: `its value of ${omittedBytes} bytes was left out; the original is at ${topic}/${partition}/${offset}`,
    };
  }
  const own = record.headers.filter(
    ([name]) => !name.startsWith(ERROR) && ![SOURCE_HEADER, RETRY_HEADER, REPLAY_HEADER].includes(name),
  );
  const headers: Headers = [
    ...own,
    [RETRY_HEADER, Buffer.from(String(retries + 1))],
    [REPLAY_HEADER, Buffer.from(place)],
  ];
  const { key, value, timestampMs } = record;
  return { topic: source.topic, partition: source.partition, key, value, headers, timestampMs };
}

export function letterOf(record: InputRecord): Letter {
  const { topic, partition, offset, headers } = record;
  const error = (name: string) => textOf(headers, ERROR + name);
  const [from, number, at] = [error("topic"), error("partition"), error("offset")];
  const omitted = textOf(headers, OMITTED_HEADER);
  return {
    place: `${topic}/${partition}/${offset}`,
    record,
    code: error("exception") ?? "(none)",
    message: error("message") ?? "",
    source:
      from !== null && /^\d+$/.test(number ?? "") && /^\d+$/.test(at ?? "")
        ? { topic: from, partition: Number(number), offset: BigInt(at!) }
        : null,
    timer: textOf(headers, TIMER_HEADER),
    outboxTable: textOf(headers, TABLE_HEADER),
    omittedBytes: omitted === null ? null : Number(omitted),
    retries: Math.max(0, Math.trunc(Number(textOf(headers, RETRY_HEADER) ?? 0)) || 0),
  };
}

/** Of several headers of one name the last is ours. */
export function textOf(headers: Headers, name: string): string | null {
  return headers.findLast(([each]) => each === name)?.[1]?.toString("utf8") ?? null;
}

function fits({ code, record }: Letter, selection: Selection): boolean {
  if (selection.code !== undefined && code !== selection.code) return false;
  return selection.sinceMs === undefined || Number(record.timestampMs) >= selection.sinceMs;
}

/** Dead-letter topics that a name means. */
export function lettersOf({ app }: Pick<LoadedApp, "app">, name: string | undefined): string[] {
  const outbox = outboxOf(app);
  const topics = [...app.inputs, ...(outbox ? [outbox] : [])].map(({ topic }) => topic);
  if (name === undefined) return topics.map(deadLetterTopic);
  const topic = topics.find((each) => each === name || deadLetterTopic(each) === name);
  if (topic === undefined) {
    throw new LockstepError(
      "CONFIG_INVALID",
      `"${name}" is neither an input of "${app.name}" nor its outbox topic, nor the dead letters of one: ${topics.map(deadLetterTopic).join(", ")}.`,
    );
  }
  return [deadLetterTopic(topic)];
}

interface Place {
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  /** As `Letter.place` has it. */
  readonly name: string;
}

function placeOf(text: string): Place {
  const match = /^(.+)\/(\d{1,9})\/(\d{1,19})$/.exec(text);
  if (!match)
    throw new LockstepError("CONFIG_INVALID", `"${text}" is no place: <topic>/<partition>/<offset> is wanted.`);
  const [topic, partition, offset] = [match[1]!, Number(match[2]), BigInt(match[3]!)];
  return { topic, partition, offset, name: `${topic}/${partition}/${offset}` };
}

function unique(places: readonly Place[]): Place[] {
  return [...new Map(places.map((place) => [place.name, place])).values()];
}
