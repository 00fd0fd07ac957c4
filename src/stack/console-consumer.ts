/**
 * Reads a topic with Kafka's own console consumer, `isolation.level=read_committed`: a reader that shares no code with
 * the client that wrote. What it shows is what is there.
 *
 * Where a topic ends cannot be told from its offsets alone: transaction markers and aborted records take offsets too.
 * So the reading ends when nothing has come for `idleMs`, counted from the moment in which the consumer took up its
 * partitions (it says so in its log), so that a slow start is never taken for an empty topic.
 *
 * Keys, headers and values are decoded as UTF-8; bytes that are not UTF-8 come out as U+FFFD.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { LockstepError } from "../errors.ts";
import { CONSOLE_FORMAT, type ConsoleRecord, parseConsoleLine } from "./console-format.ts";

export type { ConsoleRecord } from "./console-format.ts";

export interface ReadCommittedOptions {
  /** Folder of Kafka's jars. */
  readonly libs: string;
  readonly brokers: readonly string[];
  readonly topic: string;
  readonly java?: string;
  /** Ends when nothing has come for so long; default 3000. */
  readonly idleMs?: number;
  /**
   * End offset of each partition, as far as the caller knows them: a topic without any record is then not read at all,
   * and one whose every partition was seen up to its last offset is not waited for.
   */
  readonly ends?: ReadonlyMap<number, bigint>;
  readonly env?: NodeJS.ProcessEnv;
}

const IDLE_MS = 3_000;
/** A cold JVM and the first assignment, on a machine under load. */
const START_MS = 60_000;
const STDERR_KEPT = 8_192;
const LINE_END = Buffer.from(CONSOLE_FORMAT.lineEnd);

/**
 * The committed records of a topic, from the earliest on: in order of offset within a partition. It holds one chunk of
 * output at a time, so the size of the topic does not matter.
 * @throws {LockstepError} KAFKA_UNAVAILABLE the consumer ended by itself, or did not get its partitions in time
 */
export async function* readCommitted(options: ReadCommittedOptions): AsyncGenerator<ConsoleRecord> {
  const unseen = new Map([...(options.ends ?? [])].filter(([, end]) => end > 0n));
  if (options.ends !== undefined && unseen.size === 0) return;
  const folder = await mkdtemp(join(tmpdir(), "lockstep-console-"));
  let child: ChildProcess | null = null;
  try {
    child = await startConsumer(options, folder);
    for await (const chunk of chunksUntilIdle(child, options)) {
      for (const line of chunk) {
        const record = parseConsoleLine(options.topic, line);
        if (unseen.get(record.partition) === record.offset + 1n) unseen.delete(record.partition);
        yield record;
      }
      if (options.ends !== undefined && unseen.size === 0) return;
    }
  } finally {
    child?.kill("SIGKILL"); // it belongs to no group that would have to be left in order
    await rm(folder, { recursive: true, force: true });
  }
}

async function startConsumer(options: ReadCommittedOptions, folder: string): Promise<ChildProcess> {
  const log4jFile = join(folder, "log4j2.properties");
  await writeFile(log4jFile, LOG4J);
  const child = spawn(
    options.java ?? "java",
    [
      "-Xmx256m",
      "-XX:+UseSerialGC",
      "-XX:TieredStopAtLevel=1", // most topics are read within the time that the optimizing compiler would take
      `-Dlog4j2.configurationFile=file:${log4jFile}`,
      "-cp",
      join(options.libs, "*"),
      "org.apache.kafka.tools.consumer.ConsoleConsumer",
      ...["--bootstrap-server", options.brokers.join(",")],
      ...["--topic", options.topic],
      "--from-beginning",
      ...["--isolation-level", "read_committed"],
      ...Object.entries(CONSOLE_FORMAT.properties).flatMap(([name, value]) => [
        "--formatter-property",
        `${name}=${value}`,
      ]),
    ],
    { stdio: ["ignore", "pipe", "pipe"], ...(options.env === undefined ? {} : { env: options.env }) },
  );
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (cause) => {
      reject(
        new LockstepError("STACK_UNAVAILABLE", `the console consumer cannot be started: ${cause.message}`, { cause }),
      );
    });
  });
  return child;
}

/** Whole lines, as they come; ends when none came for `idleMs` after the consumer took up its partitions. */
async function* chunksUntilIdle(child: ChildProcess, options: ReadCommittedOptions): AsyncGenerator<string[]> {
  const idleMs = options.idleMs ?? IDLE_MS;
  let stderr = "";
  let started = false;
  let wake = (): void => {};
  child.stderr!.on("data", (chunk: Buffer) => {
    const text = stderr + chunk.toString("utf8");
    // Written once for each partition, when its first offset is known and the fetching begins.
    if (text.includes("Resetting offset for partition")) started = true;
    stderr = text.slice(-STDERR_KEPT);
    wake();
  });
  const output = child.stdout![Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  let rest: Buffer = Buffer.alloc(0);
  let next = output.next();
  for (;;) {
    const outcome = await withinMs(next, started ? idleMs : START_MS, (onWake) => {
      wake = onWake;
    });
    if (outcome === "woken") continue;
    if (outcome === "silent" && started) return;
    if (outcome === "silent" || outcome.done) {
      const what = outcome === "silent" ? `got no partition within ${START_MS} ms` : "ended by itself";
      throw new LockstepError("KAFKA_UNAVAILABLE", `the console consumer of ${options.topic} ${what}:\n${stderr}`);
    }
    started = true;
    next = output.next();
    const bytes = rest.length === 0 ? outcome.value : Buffer.concat([rest, outcome.value]);
    const lines = wholeLines(bytes);
    rest = bytes.subarray(lines.bytes);
    if (lines.texts.length > 0) yield lines.texts;
  }
}

/** The clock runs only while we wait for the consumer, not while the caller works on what it got. */
async function withinMs<T>(
  promise: Promise<T>,
  ms: number,
  onWake: (wake: () => void) => void,
): Promise<T | "silent" | "woken"> {
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<"silent" | "woken">((resolve) => {
    timer = setTimeout(() => resolve("silent"), ms);
    onWake(() => resolve("woken"));
  });
  try {
    return await Promise.race([promise, silence]);
  } finally {
    clearTimeout(timer);
  }
}

function wholeLines(bytes: Buffer): { texts: string[]; bytes: number } {
  const texts: string[] = [];
  let start = 0;
  for (let end = bytes.indexOf(LINE_END); end !== -1; end = bytes.indexOf(LINE_END, start)) {
    texts.push(bytes.toString("utf8", start, end));
    start = end + LINE_END.length;
  }
  return { texts, bytes: start };
}

const LOG4J = `rootLogger.level=INFO
rootLogger.appenderRef.stderr.ref=stderr
appender.stderr.type=Console
appender.stderr.name=stderr
appender.stderr.target=SYSTEM_ERR
appender.stderr.layout.type=PatternLayout
appender.stderr.layout.pattern=%p %c{1} %m%n
`;
