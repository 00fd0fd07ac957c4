/**
 * Dead letters as a person deals with them: what they are, which are meant, and what is sent when one is to be taken again.
 */
import { deadLetterTopic, outboxOf } from "../actors/app.ts";
import { ERROR, OMITTED_HEADER, TIMER_HEADER } from "../actors/dead-letters.ts";
import { SOURCE_HEADER } from "../actors/judge.ts";
import type { Headers, InputRecord, OutputRecord } from "../actors/record.ts";
import { LockstepError } from "../errors.ts";
import { createKafkaClient } from "../kafka/client.ts";
import { readTopic } from "../kafka/read-topic.ts";
import { describeTopics } from "../kafka/topics.ts";
import { TABLE_HEADER } from "../relay/outbox-record.ts";
import type { LoadedApp } from "../runtime/code.ts";

/** How often a record was sent again. */
export const RETRY_HEADER = "x-retry-count";
/** On a record that was sent again: the dead letter that it comes from, `<topic>/<partition>/<offset>`. */
export const REPLAY_HEADER = "lockstep-replay-of";

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
  /** Exactly these, as far as they fit the rest. */
  readonly places?: readonly string[] | undefined;
}

/**
 * The committed letters that a selection means, by topic and partition, each in the order of its log, and places where there is none.
 * @throws {LockstepError} CONFIG_INVALID a topic or place that cannot be; KAFKA_UNAVAILABLE
 */
export async function readLetters(
  brokers: readonly string[],
  loaded: LoadedApp,
  selection: Selection,
): Promise<{ letters: Letter[]; matched: number; missing: readonly string[] }> {
  const client = createKafkaClient({ brokers, clientId: "lockstep-dlq" });
  const { limit = Number.POSITIVE_INFINITY } = selection;
  const wanted = selection.places?.map(placeOf);
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
        if (places && !selection.places!.includes(letter.place)) break; // the first one is it, or it is gone
        if (!fits(letter, selection)) continue;
        matched += 1;
        letters.push(letter);
        if (letters.length > 2 * limit) letters = latestOf(letters, limit);
        if (places) break;
      }
    }
  }
  const missing = (selection.places ?? []).filter((place) => !letters.some((letter) => letter.place === place));
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

/** What is sent to take a letter again, or why it cannot be. */
export function replayOf(letter: Letter): OutputRecord | { readonly reason: string } {
  const { record, source, timer, outboxTable, omittedBytes, retries, place } = letter;
  if (outboxTable !== null)
    return {
      reason: `it is a row of ${outboxTable}, not a record of an input; insert it there again, mended and with an event_id of its own, and the relay publishes it`,
    };
  if (timer !== null) return { reason: `it is a timer ("${timer}"), not a record of an input` };
  if (source === null) return { reason: "it does not say which record it was" };
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

/** Places of letters that stand on their inputs again already. */
export async function replayedBefore(brokers: readonly string[], letters: readonly Letter[]): Promise<Set<string>> {
  const client = createKafkaClient({ brokers, clientId: "lockstep-dlq" });
  const from = new Map<string, Map<number, bigint>>();
  for (const { source } of letters) {
    if (source === null) continue;
    const partitions = from.get(source.topic) ?? new Map<number, bigint>();
    const lowest = partitions.get(source.partition);
    if (lowest === undefined || source.offset < lowest) partitions.set(source.partition, source.offset);
    from.set(source.topic, partitions);
  }
  const places = new Set<string>();
  for (const [topic, partitions] of from) {
    for await (const { headers } of readTopic({
      client,
      topic,
      partitions: [...partitions.keys()],
      from: partitions,
    })) {
      const place = textOf(headers, REPLAY_HEADER);
      if (place !== null) places.add(place);
    }
  }
  return places;
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
function textOf(headers: Headers, name: string): string | null {
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

function placeOf(text: string): { topic: string; partition: number; offset: bigint } {
  const match = /^(.+)\/(\d{1,9})\/(\d{1,19})$/.exec(text);
  if (!match)
    throw new LockstepError("CONFIG_INVALID", `"${text}" is no place: <topic>/<partition>/<offset> is wanted.`);
  return { topic: match[1]!, partition: Number(match[2]), offset: BigInt(match[3]!) };
}
