/**
 * The hostile app as the audit knows it. A record with a verdict is set aside with the verdict's code; of the others the fold says
 * itself what they must have done. A command that misbehaves and has no verdict cannot have been committed.
 */
import {
  type AppRules,
  type EffectSink,
  type PublishedRecord,
  readStrictJson,
  type ShardFold,
  type SourceRecord,
  type StreamRules,
} from "lockstep";

import { COMMANDS_TOPIC, DEAD_LETTERS_TOPIC, LATE_TOPIC, SUMS_TOPIC } from "./topics.ts";

const CAUSE = "__streams.errors.";
const LATE = "__lockstep.late.";
const LATE_MS = 10_000;
const AHEAD_MS = 60_000;
const DEEDS = ["add", "bulk", "arm", "throw", "undefined", "hang", "allocate", "exit", "kill"];

export const hostileRules: AppRules = {
  app: "hostile",
  inputs: [COMMANDS_TOPIC],
  streams: [
    stream(SUMS_TOPIC, "sums", ({ value }) => sumOf(JSON.parse(value ?? "null"))),
    stream(LATE_TOPIC, "late", (record) => letterOf(record, LATE)),
    stream(DEAD_LETTERS_TOPIC, "deadLetters", (record) => {
      const effect = record.headers["__lockstep.timer"] === undefined ? letterOf(record, CAUSE) : timerOf(record);
      return effect && { ...effect, label: record.headers[`${CAUSE}exception`] ?? "" };
    }),
    {
      kind: "table",
      name: "hostile.sums",
      figure: "rows",
      keyColumn: "id",
      columns: { id: "id::text", key: "key", n: "n::text", sum: "sum::text", note: "note" },
      effectOf: (row) => sumOf({ ...row, n: Number(row["n"]), sum: Number(row["sum"]) }),
    },
  ],
  start: (_shard, sink) => createFold(sink),
  conclude: ({ figures }) => ({
    commands: figures["inputRecords"] ?? 0,
    sums: figures["sums"] ?? 0,
    rows: figures["rows"] ?? 0,
    late: figures["late"] ?? 0,
    deadLetters: figures["deadLetters"] ?? 0,
    repeats: figures["repeats"] ?? 0,
  }),
};

/** What counts of a sum: not its id, which no fold can know without the rules of ids. Its place in the order of its key does. */
function sumOf(fields: Record<string, unknown>) {
  const { key, n, sum, note } = fields as { key: string; n: number; sum: number; note: string };
  const content = { key, n, sum, note: note.length > 100 ? `${note.length} characters` : note };
  return { id: JSON.stringify([key, sum, n, content.note]), content };
}

function createFold(sink: EffectSink): ShardFold {
  const sums = new Map<string, number>();
  const ids = new Map<string, string[]>();
  let armed: { key: string; what: string; dueMs: number }[] = [];
  let nowMs: number | null = null;
  const counts = { late: 0, quarantined: 0, repeatsIgnored: 0, timersFired: 0 };

  return {
    record(record, verdict) {
      const { codes, fields } = judge(record);
      if (verdict !== null) return setAside(record, [verdict.code]);
      if (codes.length > 0) return setAside(record, codes);
      const { key, at, n } = fields as { key: string; at: number; n: number };
      if (nowMs !== null && at < nowMs - LATE_MS) {
        counts.late += 1;
        sink.expect(LATE_TOPIC, letter(record));
        return;
      }
      if (fields["do"] === "throw") return setAside(record, ["MACHINE_THREW"]);
      if (fields["do"] === "undefined") return setAside(record, ["CONTEXT_NOT_JSON"]);
      fire(Math.max(nowMs ?? at, at), Number.POSITIVE_INFINITY, []);
      nowMs = Math.max(nowMs ?? at, at);
      if (fields["do"] === "arm") {
        armed = armed.filter((timer) => timer.key !== key);
        armed.push({ key, what: String(fields["what"] ?? "add"), dueMs: nowMs + Math.max(1, Math.ceil(n)) });
      } else if (fields["do"] === "bulk") {
        tell({ key, n: 0, sum: sums.get(key) ?? 0, note: "x".repeat(n) });
      } else if (fields["do"] !== "add") {
        throw new Error(`${record.topic} ${record.offset} was committed, and it says "${String(fields["do"])}"`);
      } else if (typeof fields["id"] === "string" && ids.get(key)?.includes(fields["id"])) {
        counts.repeatsIgnored += 1;
      } else {
        if (typeof fields["id"] === "string") ids.set(key, [...(ids.get(key) ?? []), fields["id"]].slice(-10));
        const sum = (sums.get(key) ?? 0) + n;
        sums.set(key, sum);
        tell({ key, n, sum, note: String(fields["note"] ?? "") });
      }
    },
    tick({ streamTimeMs, timers, verdicts }) {
      fire(streamTimeMs, timers, verdicts);
      nowMs = Math.max(nowMs ?? streamTimeMs, streamTimeMs);
    },
    streamTimeMs: () => nowMs,
    counters: () => counts,
    figures: () => ({ repeats: counts.repeatsIgnored }),
  };

  function tell(sum: { key: string; n: number; sum: number; note: string }): void {
    sink.expect(SUMS_TOPIC, { ...sumOf(sum), key: sum.key });
    sink.expect("hostile.sums", { ...sumOf(sum), key: sum.key });
  }

  function fire(untilMs: number, max: number, verdicts: readonly { key: string; dueMs: number; code: string }[]): void {
    armed.sort((a, b) => a.dueMs - b.dueMs || (a.key < b.key ? -1 : 1));
    for (let fired = 0; fired < max && (armed[0]?.dueMs ?? Number.POSITIVE_INFINITY) <= untilMs; fired += 1) {
      const { key, what, dueMs } = armed.shift()!; // there is one, by the condition
      counts.timersFired += 1;
      const verdict = verdicts.find((each) => each.key === key && each.dueMs === dueMs);
      if (verdict === undefined && what === "add") {
        tell({ key, n: 0, sum: sums.get(key) ?? 0, note: "fired" });
        continue;
      }
      if (verdict === undefined && what !== "throw") throw new Error(`a timer was committed, and it says "${what}"`);
      counts.quarantined += 1;
      const id = JSON.stringify(["timer", key, dueMs]);
      sink.expect(DEAD_LETTERS_TOPIC, { id, key, content: { what }, labels: [verdict?.code ?? "MACHINE_THREW"] });
    }
  }

  function setAside(record: SourceRecord, codes: readonly string[]): void {
    counts.quarantined += 1;
    sink.expect(DEAD_LETTERS_TOPIC, { ...letter(record), labels: codes });
  }
}

function judge({ key, value, timestampMs }: SourceRecord): { codes: string[]; fields: Record<string, unknown> } {
  const read = readStrictJson(value);
  const none = key === null || key.length === 0 ? ["RECORD_WITHOUT_KEY"] : [];
  if (read === "too large") return { codes: ["RECORD_TOO_LARGE"], fields: {} };
  if (read === "undecodable") return { codes: ["RECORD_UNDECODABLE", ...none], fields: {} };
  const fields = (read.value ?? {}) as Record<string, unknown>;
  const optional = (name: string) => fields[name] === undefined || typeof fields[name] === "string";
  const fits =
    fields["v"] === 1 &&
    typeof fields["key"] === "string" &&
    /^[a-z][0-9]{1,4}$/.test(fields["key"]) &&
    DEEDS.includes(String(fields["do"])) &&
    typeof fields["n"] === "number" &&
    typeof fields["at"] === "number" &&
    ["id", "qty", "note"].every(optional) &&
    (fields["what"] === undefined || DEEDS.includes(String(fields["what"])));
  if (!fits) return { codes: ["RECORD_REFUSED", ...none], fields };
  if (none.length > 0) return { codes: none, fields };
  if (key?.toString("utf8") !== fields["key"]) return { codes: ["RECORD_KEY_MISMATCH"], fields };
  const at = fields["at"] as number;
  const ahead = timestampMs >= 0n && at > Number(timestampMs) + AHEAD_MS;
  const codes = !Number.isSafeInteger(at) || at < 0 || ahead ? ["RECORD_TIME_INVALID"] : [];
  return { codes, fields };
}

function letter({ topic, partition, offset, key, value, timestampMs }: SourceRecord) {
  const content = { key: key?.toString() ?? null, timestampMs: Number(timestampMs), bytes: value?.length ?? null };
  return { id: `${topic}/${partition}/${offset}`, key: content.key, content };
}

function letterOf({ headers, key, timestampMs, value }: PublishedRecord, prefix: string) {
  const origin = ["topic", "partition", "offset"].map((name) => headers[prefix + name]);
  if (origin.includes(undefined)) return null;
  const omitted = headers["__lockstep.omitted.bytes"];
  // Bytes that are no UTF-8 are three each when they were read as text.
  const bytes = omitted !== undefined ? Number(omitted) : value === null ? null : byteLength(value);
  return { id: origin.join("/"), content: { key, timestampMs, bytes } };
}

const byteLength = (text: string) => Buffer.byteLength(text) - 2 * (text.match(/\ufffd/g)?.length ?? 0);

function timerOf({ value }: PublishedRecord) {
  const { key, dueMs, event } = JSON.parse(value ?? "null") as { key: string; dueMs: number; event: { what: string } };
  return { id: JSON.stringify(["timer", key, dueMs]), content: { what: event.what } };
}

function stream(
  name: string,
  figure: string,
  effectOf: Extract<StreamRules, { kind: "topic" }>["effectOf"],
): StreamRules {
  return { kind: "topic", name, figure, sourced: true, effectOf };
}
