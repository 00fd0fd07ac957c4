/**
 * `lockstep dlq list|show|replay`: the dead letters of an app's inputs, and the outbox rows that could not be published.
 *
 * A replay sends a NEW record to the input: the original key, value, headers and timestamp, to the original partition, without the headers
 * that say why it failed, and with how often it was tried (`x-retry-count`) and which letter it is (`lockstep-replay-of`). The letter stays.
 * Outbox rows are listed and shown beside them; they are not replayed, for they came from no input: what to do instead stands beside each.
 * A letter that stands on its input again already is left out, so a replay that broke off is simply repeated; `--again` sends it anyhow,
 * `--in-doubt` those of which it cannot be told (dlq-replay.ts).
 */
import Table from "cli-table3";

import { loadConfig } from "../config.ts";
import { LockstepError } from "../errors.ts";
import { createKafkaClient } from "../kafka/client.ts";
import { resend } from "../kafka/resend.ts";
import { loadApp } from "../runtime/code.ts";
import { type Letter, readLetters, type Selection } from "./dlq-letters.ts";
import { planReplays } from "./dlq-replay.ts";
import { EXIT, printJson } from "./output.ts";

/** Letters that `list` shows unless told otherwise. */
const LIMIT = 100;
const MESSAGE_SHOWN = 60;
const KEY_SHOWN = 24;

export interface SelectOptions {
  readonly topic?: string;
  readonly code?: string;
  /** A moment (ISO-8601), or how long ago: 90s, 15m, 24h, 7d. */
  readonly since?: string;
  readonly limit?: number;
  readonly json: boolean;
}

export interface ReplayOptions extends SelectOptions {
  readonly all: boolean;
  readonly again: boolean;
  readonly inDoubt: boolean;
  readonly dryRun: boolean;
  readonly yes: boolean;
}

export async function dlqList(options: SelectOptions, env: NodeJS.ProcessEnv): Promise<number> {
  const { letters, matched } = await read(env, { ...selectionOf(options), limit: options.limit ?? LIMIT });
  if (options.json) printJson({ matched, letters: letters.map(summary) });
  else {
    printTable(letters);
    if (matched > letters.length)
      process.stderr.write(
        `the last ${letters.length} of ${matched}; --limit shows more, --topic, --code and --since fewer\n`,
      );
  }
  return EXIT.ok;
}

export async function dlqShow(place: string, options: { json: boolean }, env: NodeJS.ProcessEnv): Promise<number> {
  const { letters, missing } = await read(env, { places: [place] });
  const [letter] = letters;
  if (letter === undefined) return notThere(missing);
  const headers = letter.record.headers.map(([name, value]) => ({ name, value: value === null ? null : shown(value) }));
  const value = letter.record.value;
  if (options.json) {
    printJson({
      ...summary(letter),
      headers,
      value: value?.toString("utf8") ?? null,
      valueBase64: value?.toString("base64") ?? null,
    });
    return EXIT.ok;
  }
  const table = new Table({ style: { head: [], border: [] } });
  for (const [name, content] of Object.entries(summary(letter))) table.push([name, String(content ?? "-")]);
  for (const header of headers) table.push([`header ${header.name}`, header.value ?? "(none)"]);
  process.stdout.write(`${table.toString()}\n${value === null ? "(no value)" : pretty(value)}\n`);
  return EXIT.ok;
}

export async function dlqReplay(
  places: readonly string[],
  options: ReplayOptions,
  env: NodeJS.ProcessEnv,
): Promise<number> {
  if (places.length === 0 && !options.all && options.code === undefined) {
    throw new LockstepError(
      "CONFIG_INVALID",
      "Say which: places as `dlq list` shows them (<topic>/<partition>/<offset>), --code <code>, or --all.",
    );
  }
  const config = loadConfig(env, ["brokers"]);
  const loaded = await loadApp(config.app);
  const selection = { ...selectionOf(options), ...(places.length > 0 ? { places } : {}) };
  const { letters, missing } = await readLetters(config.brokers, loaded, selection);
  if (missing.length > 0) return notThere(missing);
  const client = createKafkaClient({ brokers: config.brokers, clientId: "lockstep-dlq" });
  const { again, inDoubt } = options;
  const plans = await planReplays(letters, { client, app: loaded.app, again, inDoubt });
  const records = plans.flatMap(({ record }) => (record ? [record] : []));
  const sends = options.yes && !options.dryRun;
  if (sends && records.length > 0) await resend(client, records);
  if (options.json) {
    printJson({
      sent: sends ? records.length : 0,
      wouldSend: records.length,
      letters: plans.map(({ letter, record, skipped }) => ({
        ...summary(letter),
        to: record && `${record.topic}/${record.partition}`,
        skipped,
      })),
    });
  } else {
    const table = new Table({ head: ["letter", "code", "key", "goes to", "try"], style: { head: [], border: [] } });
    for (const { letter, record, skipped } of plans) {
      const to = record ? `${record.topic}/${record.partition}` : `left out: ${skipped}`;
      table.push([letter.place, letter.code, keyOf(letter), to, record ? letter.retries + 1 : "-"]);
    }
    process.stdout.write(`${table.toString()}\n`);
    const rest = plans.length - records.length;
    process.stdout.write(
      `${sends ? `sent ${records.length}` : `nothing sent; ${records.length} would be`}${rest > 0 ? `, ${rest} left out` : ""}\n`,
    );
  }
  if (options.dryRun) return EXIT.ok;
  if (sends) return plans.some(({ later }) => later) ? EXIT.temporary : EXIT.ok;
  process.stderr.write("add --yes to send them, or --dry-run to say that looking is all that is wanted\n");
  return EXIT.usage;
}

/** Nothing is sent when one of several is not there: which of them was meant is not for us to guess. */
function notThere(missing: readonly string[]): number {
  process.stderr.write(`no dead letter (that fits the other options) at ${missing.join(", ")}\n`);
  return EXIT.failure;
}

async function read(env: NodeJS.ProcessEnv, selection: Selection): ReturnType<typeof readLetters> {
  const config = loadConfig(env, ["brokers"]);
  return readLetters(config.brokers, await loadApp(config.app), selection);
}

function selectionOf({ topic, code, since, limit }: SelectOptions): Selection {
  return { topic, code, limit, sinceMs: since === undefined ? undefined : momentOf(since, Date.now()) };
}

const UNIT_MS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** @param nowMs ms since the Unix epoch. @throws {LockstepError} CONFIG_INVALID */
export function momentOf(text: string, nowMs: number): number {
  const ago = /^(\d{1,9})([smhd])$/.exec(text);
  const ms = ago
    ? nowMs - Number(ago[1]) * UNIT_MS[ago[2]!]!
    : /^\d{4}-\d\d-\d\d/.test(text)
      ? Date.parse(text)
      : Number.NaN;
  if (Number.isNaN(ms))
    throw new LockstepError(
      "CONFIG_INVALID",
      `"${text}" is no moment: 2026-11-21T09:00:00Z, or 90s, 15m, 24h, 7d ago.`,
    );
  return ms;
}

function summary(letter: Letter) {
  const { place, code, message, source, timer, outboxTable, omittedBytes, retries, record } = letter;
  return {
    letter: place,
    topic: record.topic,
    partition: record.partition,
    offset: String(record.offset),
    time: timeOf(record.timestampMs),
    code,
    message,
    source: source && `${source.topic}/${source.partition}/${source.offset}`,
    timer,
    outboxTable,
    key: record.key === null ? null : shown(record.key),
    valueBytes: omittedBytes ?? record.value?.length ?? null,
    omitted: omittedBytes !== null,
    retries,
  };
}

function printTable(letters: readonly Letter[]): void {
  const head = ["letter", "time", "code", "message", "came from", "key", "tries"];
  const table = new Table({ head, style: { head: [], border: [] } });
  for (const letter of letters) {
    const { code, message, retries, record } = letter;
    const text = message.length > MESSAGE_SHOWN ? `${message.slice(0, MESSAGE_SHOWN)}...` : message;
    table.push([
      letter.place,
      timeOf(record.timestampMs) ?? "-",
      code,
      text,
      originOf(letter),
      keyOf(letter),
      retries + 1,
    ]);
  }
  process.stdout.write(`${table.toString()}\n`);
}

function originOf({ source, timer, outboxTable }: Letter): string {
  if (source) return `${source.topic}/${source.partition}/${source.offset}`;
  if (outboxTable !== null) return `row of ${outboxTable}`;
  return timer === null ? "-" : `timer ${timer}`;
}

function keyOf({ record }: Letter): string {
  if (record.key === null) return "(none)";
  const text = shown(record.key);
  return text.length > KEY_SHOWN ? `${text.slice(0, KEY_SHOWN)}...` : text;
}

/** Kafka's timestamp, which is the original's; null when it had none. */
function timeOf(timestampMs: bigint): string | null {
  return timestampMs < 0n || timestampMs > 8_640_000_000_000_000n ? null : new Date(Number(timestampMs)).toISOString();
}

/** Bytes as text, or in hex where they are none that a terminal should see. */
function shown(bytes: Buffer): string {
  const text = bytes.toString("utf8");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return Buffer.from(text).equals(bytes) && !/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/.test(text)
    ? text
    : `0x${bytes.toString("hex")}`;
}

function pretty(value: Buffer): string {
  try {
    return JSON.stringify(JSON.parse(value.toString("utf8")), null, 2);
  } catch {
    return shown(value); // no JSON: that may be why it is here
  }
}
