/**
 * Reads the journal's text, version 1, by the form that the journal itself documents:
 *   {"v":1,"topics":["a","b"],
 *    "entries":[[0,"5","8",3,2882400001], ["t",1700000000000,2]],   run: topic index, first, next, count, CRC32C; tick: stream time in ms, timers fired
 *    "verdicts":[["r",0,"6",code,message], ["i",actorType,key,timerId,dueMs,code,message]]}
 * The audit has its own reader, so that a fault of the system's reader cannot hide itself.
 */

export interface JournalRun {
  readonly kind: "run";
  readonly topic: string;
  readonly first: bigint;
  readonly next: bigint;
  readonly count: number;
  readonly crc: number;
}

export interface JournalTick {
  readonly kind: "tick";
  /** Stream time after the tick, ms since the Unix epoch. */
  readonly streamTimeMs: number;
  /** Timers that it fired, those set aside included. */
  readonly timers: number;
}

export interface RecordVerdict {
  readonly kind: "record";
  readonly topic: string;
  readonly offset: bigint;
  readonly code: string;
  readonly message: string;
}

export interface TimerVerdict {
  readonly kind: "timer";
  readonly actorType: string;
  readonly key: string;
  readonly timerId: string;
  readonly dueMs: number;
  readonly code: string;
  readonly message: string;
}

export interface JournalBody {
  readonly entries: ReadonlyArray<JournalRun | JournalTick>;
  readonly verdicts: ReadonlyArray<RecordVerdict | TimerVerdict>;
}

/** @throws {Error} with a sentence, when the text is not of the form */
export function readJournalBody(text: string): JournalBody {
  const body = JSON.parse(text) as { v?: unknown; topics?: unknown; entries?: unknown; verdicts?: unknown };
  if (body?.v !== 1) throw new Error(`the version is ${JSON.stringify(body?.v)}, not 1`);
  const topics = list(body.topics, "topics").map((topic) => textOf(topic, "a topic"));
  return {
    entries: list(body.entries, "entries").map((entry) => readEntry(list(entry, "an entry"), topics)),
    verdicts: list(body.verdicts ?? [], "verdicts").map((verdict) => readVerdict(list(verdict, "a verdict"), topics)),
  };
}

function readEntry(entry: unknown[], topics: readonly string[]): JournalRun | JournalTick {
  if (entry[0] === "t") {
    return {
      kind: "tick",
      streamTimeMs: whole(entry[1], "a tick's time"),
      timers: whole(entry[2] ?? 0, "timers fired"),
    };
  }
  return {
    kind: "run",
    topic: topicAt(topics, entry[0]),
    first: offset(entry[1]),
    next: offset(entry[2]),
    count: whole(entry[3], "a run's count"),
    crc: whole(entry[4], "a run's checksum"),
  };
}

function readVerdict(verdict: unknown[], topics: readonly string[]): RecordVerdict | TimerVerdict {
  if (verdict[0] === "r") {
    return {
      kind: "record",
      topic: topicAt(topics, verdict[1]),
      offset: offset(verdict[2]),
      code: textOf(verdict[3], "a verdict's code"),
      message: textOf(verdict[4], "a verdict's message"),
    };
  }
  if (verdict[0] !== "i") throw new Error(`a verdict begins with ${JSON.stringify(verdict[0])}`);
  return {
    kind: "timer",
    actorType: textOf(verdict[1], "a verdict's actor type"),
    key: textOf(verdict[2], "a verdict's key"),
    timerId: textOf(verdict[3], "a verdict's timer"),
    dueMs: whole(verdict[4], "a verdict's due time"),
    code: textOf(verdict[5], "a verdict's code"),
    message: textOf(verdict[6], "a verdict's message"),
  };
}

function topicAt(topics: readonly string[], index: unknown): string {
  const topic = typeof index === "number" ? topics[index] : undefined;
  if (topic === undefined) throw new Error(`there is no topic ${JSON.stringify(index)} among ${topics.length}`);
  return topic;
}

function list(value: unknown, what: string): unknown[] {
  if (!Array.isArray(value)) throw new Error(`${what}: ${JSON.stringify(value)} is not a list`);
  return value;
}

function textOf(value: unknown, what: string): string {
  if (typeof value !== "string") throw new Error(`${what}: ${JSON.stringify(value)} is not text`);
  return value;
}

function whole(value: unknown, what: string): number {
  if (!Number.isSafeInteger(value)) throw new Error(`${what}: ${JSON.stringify(value)} is not a whole number`);
  return value as number;
}

function offset(value: unknown): bigint {
  if (typeof value !== "string" || !/^\d+$/.test(value)) throw new Error(`${JSON.stringify(value)} is not an offset`);
  return BigInt(value);
}
