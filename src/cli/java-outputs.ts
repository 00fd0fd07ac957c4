/**
 * What was published, as Kafka's own console consumer reads it: one Java process a topic.
 *
 * A process takes a second to start, and knows the end of its topic only by some seconds of silence. So the first read starts
 * those of all topics at once, each reads ahead while it is not its turn, and all are silent together. A topic to which nothing
 * was ever written has no process.
 */
import type { OutputSource, PublishedRecord } from "../audit/sources.ts";
import type { KafkaClient } from "../kafka/client.ts";
import { topicEnds } from "../kafka/read-topic.ts";
import { readCommitted } from "../stack/index.ts";

/** Records read ahead of a topic; of 500 bytes each, 10 MB. */
const AHEAD_MAX = 20_000;

export interface JavaOutputs extends OutputSource {
  /** Ends processes whose topic was not read to its end. */
  close(): Promise<void>;
}

export function openJavaOutputs(options: {
  libs: string;
  brokers: readonly string[];
  client: KafkaClient;
  /** Topics that will be read. */
  topics: readonly string[];
  env: NodeJS.ProcessEnv;
}): JavaOutputs {
  const { libs, brokers, client, topics, env } = options;
  const opened: ReadAhead<PublishedRecord>[] = [];
  let waiting: Map<string, ReadAhead<PublishedRecord>> | null = null;

  async function* recordsOf(topic: string): AsyncGenerator<PublishedRecord> {
    const ends = await topicEnds(client, topic);
    yield* readCommitted({ libs, brokers, topic, ends, env });
  }

  function open(topic: string): ReadAhead<PublishedRecord> {
    const reading = readAhead(recordsOf(topic), AHEAD_MAX);
    opened.push(reading);
    return reading;
  }

  return {
    read(topic) {
      waiting ??= new Map(topics.map((each) => [each, open(each)]));
      // A second reading of a topic begins anew.
      const reading = waiting.get(topic) ?? open(topic);
      waiting.delete(topic);
      return reading.items;
    },
    async close() {
      await Promise.all(opened.map((reading) => reading.stop()));
    },
  };
}

interface ReadAhead<T> {
  readonly items: AsyncIterable<T>;
  stop(): Promise<void>;
}

/** Begins to read at once, and goes on while fewer than `max` items wait. An error of the source comes after what it gave. */
function readAhead<T>(source: AsyncIterable<T>, max: number): ReadAhead<T> {
  let waiting: T[] = [];
  let end: { error?: unknown } | null = null;
  let stopped = false;
  let wakeReader = (): void => {};
  let wakeSource = (): void => {};

  const reading = (async () => {
    for await (const item of source) {
      waiting.push(item);
      wakeReader();
      while (waiting.length >= max && !stopped) await new Promise<void>((resolve) => (wakeSource = resolve));
      if (stopped) return;
    }
  })().then(
    () => (end = {}),
    (error: unknown) => (end = { error }),
  );
  void reading.then(() => wakeReader());

  async function* items(): AsyncGenerator<T> {
    for (;;) {
      const batch = waiting;
      waiting = [];
      wakeSource();
      yield* batch;
      if (waiting.length > 0) continue;
      if (end !== null) {
        if ("error" in end) throw end.error;
        return;
      }
      await new Promise<void>((resolve) => (wakeReader = resolve));
    }
  }
  return {
    items: items(),
    async stop() {
      stopped = true;
      wakeSource();
      await reading;
    },
  };
}
