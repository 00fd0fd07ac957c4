/**
 * Every kind of bad input that docs/bad-input.md lists, each sent between two good records of its shard: where it ended, with which
 * cause, that the records around it took effect, and that a replay of everything gives the same. Prints the table.
 */
import { setTimeout as sleep } from "node:timers/promises";
import Table from "cli-table3";
import { describe, expect, test } from "vitest";

import type { InputRecord } from "../../src/actors/record.ts";
import { createKafkaClient } from "../../src/kafka/client.ts";
import { readTopic } from "../../src/kafka/read-topic.ts";
import { type Deployment, withDeployment } from "../support/harness.ts";
import { until } from "../support/until.ts";

const INPUT = "hostile.commands";
const CAUSE = "__streams.errors.";
const SHARD = 1;
const KEY = "a1";

/** Sent as it is; the others of the same kind, where one of them alone is nothing. */
interface Bad {
  readonly what: string;
  readonly key?: string | Buffer | null;
  readonly value: Buffer | string | null;
  readonly headers?: Record<string, string>;
  readonly timestampMs?: number;
  /** Code of its dead letter; or it is late, or ignored as a repeat, or taken. */
  readonly ends: string;
}

const at = Date.now() - 60_000;
const command = (fields: object) => JSON.stringify({ v: 1, key: KEY, do: "add", n: 0, at, ...fields });
/** JSON written by hand, where JSON.stringify would not write it. */
const raw = (fields: string) => `{"v":1,"key":"${KEY}","do":"add","at":${at},${fields}}`;
const nested = (levels: number) => `${"[".repeat(levels)}${"]".repeat(levels)}`;

const BAD: readonly Bad[] = [
  // undecodable
  { what: "bytes that are no UTF-8", value: Buffer.from([0xff, 0x00, 0xfe]), ends: "RECORD_UNDECODABLE" },
  { what: "text that is no JSON", value: "{", ends: "RECORD_UNDECODABLE" },
  { what: "an empty value", value: "", ends: "RECORD_UNDECODABLE" },
  { what: "a tombstone", value: null, ends: "RECORD_UNDECODABLE" },
  { what: "NaN", value: raw('"n":NaN'), ends: "RECORD_UNDECODABLE" },
  { what: "a byte order mark", value: `\ufeff${command({})}`, ends: "RECORD_UNDECODABLE" },
  // hostile JSON
  { what: "1e999", value: raw('"n":1e999'), ends: "RECORD_UNDECODABLE" },
  { what: "a whole number beyond 2^53", value: raw('"n":9007199254740993'), ends: "RECORD_UNDECODABLE" },
  { what: "__proto__ as a key", value: raw('"n":1,"__proto__":{"sum":7}'), ends: "RECORD_UNDECODABLE" },
  { what: "100,000 levels of nesting", value: raw(`"n":${nested(100_000)}`), ends: "RECORD_UNDECODABLE" },
  // wrong schema, type, version
  { what: "a value that is no object", value: "[]", ends: "RECORD_REFUSED" },
  { what: "null", value: "null", ends: "RECORD_REFUSED" },
  { what: "an unknown type of event", value: command({ do: "explode" }), ends: "RECORD_REFUSED" },
  { what: "an unknown version", value: command({ v: 2 }), ends: "RECORD_REFUSED" },
  { what: "a field of another type", value: command({ n: "1" }), ends: "RECORD_REFUSED" },
  // keys
  { what: "no key", key: null, value: command({ n: 1 }), ends: "RECORD_WITHOUT_KEY" },
  { what: "an empty key", key: "", value: command({ n: 1 }), ends: "RECORD_WITHOUT_KEY" },
  { what: "another's key", key: "b1", value: command({ n: 1 }), ends: "RECORD_KEY_MISMATCH" },
  {
    what: "a key that is no UTF-8",
    key: Buffer.from([0xc3, 0x28]),
    value: command({ n: 1 }),
    ends: "RECORD_KEY_MISMATCH",
  },
  // time
  { what: "a negative event time", value: command({ at: -1 }), ends: "RECORD_TIME_INVALID" },
  { what: "an event time with a fraction", value: command({ at: at + 0.5 }), ends: "RECORD_TIME_INVALID" },
  { what: "an event time beyond every date", value: command({ at: 9e15 }), ends: "RECORD_TIME_INVALID" },
  {
    what: "an event time 1 h beyond Kafka's",
    value: command({ at: at + 3_600_000 }),
    timestampMs: at,
    ends: "RECORD_TIME_INVALID",
  },
  { what: "no event time", value: JSON.stringify({ v: 1, key: KEY, do: "add", n: 1 }), ends: "RECORD_REFUSED" },
  { what: "no Kafka timestamp", value: command({ n: 1, note: "without" }), timestampMs: -1, ends: "taken" },
  { what: "a late record", value: command({ at: at - 20_000 }), ends: "late" },
  {
    what: "a producer's clock that is 9 s behind",
    value: command({ n: 1, at: at - 9_000, note: "skewed" }),
    ends: "taken",
  },
  // size
  { what: "a value as large as its topic takes", value: Buffer.alloc(4_193_950, "x"), ends: "RECORD_UNDECODABLE" },
  {
    what: "output larger than its topic takes",
    value: command({ do: "bulk", n: 2_000_000 }),
    ends: "OUTPUT_TOO_LARGE",
  },
  // headers
  { what: "5,000 headers", value: "{", headers: manyHeaders(5_000), ends: "RECORD_UNDECODABLE" },
  {
    what: "headers with names of every object's",
    value: "{",
    headers: { toString: "1", constructor: "2", ["__proto__"]: "3" },
    ends: "RECORD_UNDECODABLE",
  },
  {
    what: "a source header that is none",
    value: command({ n: 1, note: "sourced" }),
    headers: { "lockstep-source": "a/b/c" },
    ends: "taken",
  },
  {
    what: "forged cause headers",
    value: "{",
    headers: { [`${CAUSE}exception`]: "FORGED", [`${CAUSE}offset`]: "0" },
    ends: "RECORD_UNDECODABLE",
  },
  // the machine
  { what: "a machine that throws", value: command({ do: "throw" }), ends: "MACHINE_THREW" },
  { what: "a context that does not survive JSON", value: command({ do: "undefined" }), ends: "CONTEXT_NOT_JSON" },
  // Postgres
  { what: "a number that overflows its column", value: command({ n: 1, qty: "1e30" }), ends: "ROW_REFUSED 22003" },
  { what: "text for a numeric column", value: command({ n: 1, qty: "many" }), ends: "ROW_REFUSED 22P02" },
  { what: "NUL in text", value: command({ n: 1, note: "a\u0000b" }), ends: "ROW_REFUSED 22P05" },
  { what: "half of a surrogate pair", value: raw('"n":1,"note":"\\ud800"'), ends: "ROW_REFUSED 22P02" },
  { what: "a CHECK that it violates", value: command({ n: 1, qty: "-1" }), ends: "ROW_REFUSED 23514" },
  { what: "the same id a second time", value: command({ n: 1, id: "once" }), ends: "repeat" },
];

function manyHeaders(count: number): Record<string, string> {
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [`h${i}`, "v"]));
}

describe("every bad input", () => {
  test("ends where docs/bad-input.md says, its neighbours unharmed, and a replay gives the same", async () => {
    await withDeployment({ app: "hostile", workers: 1 }, async (deployment) => {
      const sent = BAD.map((bad, index) => ({ ...bad, offset: 2 * index + 1 }));
      const goodCount = BAD.length + 1;
      deployment.start("one");
      await deployment.untilRunning();
      for (const bad of sent) await deployment.send([good(bad.offset - 1), asRecord(bad)]);
      await deployment.send([good(2 * BAD.length)]);
      await deployment.untilDrained();

      const before = await outcome(deployment);
      const sums = await deployment.query<{ n: string; note: string }>(
        "SELECT n, note FROM hostile.sums ORDER BY sum, id",
      );
      const letters = new Map(before.letters.map((letter) => [Number(header(letter, `${CAUSE}offset`)), letter]));

      // Killed, with no snapshot yet: the next owner replays every record, and what was set aside by verdict is not run again.
      await deployment.kill("one");
      deployment.start("two");
      await deployment.untilRunning();
      const replayed = deployment.eventsOf("running", "two").find(({ shard }) => shard === SHARD)?.["replayed"];
      expect(replayed).toBe(sent.length + goodCount);
      expect(deployment.eventsOf("verdict", "two")).toEqual([]);
      await deployment.send([good(2 * BAD.length + 1)]);
      await deployment.untilDrained();
      await deployment.stopAll();
      const after = await outcome(deployment);
      const audit = await deployment.audit();

      const table = new Table({
        head: ["offset", "what was sent", "where it ended", "cause", "neighbours", "after a replay"],
        style: { head: [], border: [] },
      });
      const faults: string[] = [];
      for (const bad of sent) {
        const letter = letters.get(bad.offset);
        const late = before.late.find((each) => header(each, "__lockstep.late.offset") === String(bad.offset));
        const where = letter
          ? `${INPUT}.dlq`
          : late
            ? "hostile.late"
            : bad.ends === "repeat"
              ? "counted, ignored"
              : "taken";
        const cause = letter ? causeOf(letter) : "";
        const around = [bad.offset - 1, bad.offset + 1].every((offset) => before.goods.has(`g${offset}`));
        const same =
          JSON.stringify(after.lettersBySource.get(bad.offset)) ===
          JSON.stringify(before.lettersBySource.get(bad.offset));
        table.push([bad.offset, bad.what, where, cause, around ? "unharmed" : "HARMED", same ? "the same" : "CHANGED"]);
        const ended = letter ? cause : late ? "late" : bad.ends === "repeat" ? "repeat" : "taken";
        if (ended !== bad.ends) faults.push(`${bad.what}: ended as ${ended}, not ${bad.ends}`);
        if (!around || !same) faults.push(`${bad.what}: neighbours ${around}, same after the replay ${same}`);
        if (letter) faults.push(...letterFaults(bad, letter));
      }
      console.log(table.toString());
      expect(faults).toEqual([]);
      expect(sums.filter(({ note }) => note.startsWith("g"))).toHaveLength(goodCount);
      expect(sums.filter(({ note }) => ["without", "skewed", "sourced"].includes(note))).toHaveLength(3);
      expect(after.letters).toHaveLength(before.letters.length);
      expect(audit.findings).toEqual([]);
      expect(audit.figures).toMatchObject({ lost: 0, doubled: 0, outOfOrder: 0, repeats: 1, late: 1 });
    });
  });
});

test("records of a codec that is not there halt their shard in words, and the other shards go on", async () => {
  await withDeployment({ app: "hostile", workers: 1 }, async (deployment) => {
    deployment.start("one");
    await deployment.untilRunning();
    await deployment.send([good(0)]);
    await deployment.untilDrained();
    await recompress(deployment, "zstd");
    await deployment.send([good(1)]);
    const halted = await deployment.untilEvent("halted");
    expect(halted).toMatchObject({ shard: SHARD, err: { code: "INPUT_UNREADABLE" } });
    expect(JSON.stringify(halted["err"])).toContain("compressed with zstd");
    await recompress(deployment, "producer");
    await deployment.send([{ ...good(2), partition: 2 }]);
    const sums = () => deployment.query("SELECT note FROM hostile.sums WHERE note = 'g2'");
    await until(async () => (await sums()).length === 1, { what: "the record of another shard" });
    // The offset stays before the batch that cannot be read: nothing was passed over, and nothing runs in circles.
    const committed = await deployment.committed(SHARD);
    expect(committed[INPUT]?.offset).toBe(1n);
    expect(deployment.eventsOf("halted")).toHaveLength(1);
    await deployment.kill("one");
  });
});

/** From now on the broker keeps what comes in with this codec. */
async function recompress(deployment: Deployment, codec: string): Promise<void> {
  const handle = createKafkaClient({ brokers: deployment.stack.brokers, clientId: "lockstep-test" }).open();
  const admin = handle.kafka.admin();
  await admin.connect();
  const configEntries = [
    { name: "compression.type", value: codec },
    { name: "max.message.bytes", value: "4194304" },
  ];
  await admin.alterConfigs({ validateOnly: false, resources: [{ type: 2, name: INPUT, configEntries }] });
  await until(
    async () => {
      const { resources } = await admin.describeConfigs({
        resources: [{ type: 2, name: INPUT }],
        includeSynonyms: false,
      });
      return resources[0]?.configEntries.some(
        ({ configName, configValue }) => configName === "compression.type" && configValue === codec,
      );
    },
    { what: `the topic to have ${codec}` },
  );
  await sleep(1_000); // its logs take it over a moment after the broker knows of it, and nothing tells when
  await admin.disconnect();
  handle.destroy();
}

function good(offset: number) {
  // The id that a later record repeats is among the ten latest of its actor: it rides on the good record before.
  const id = offset === 2 * (BAD.length - 1) ? { id: "once" } : {};
  return record({ value: command({ n: 1, note: `g${offset}`, ...id }) });
}

function asRecord(bad: Bad) {
  return record(bad);
}

function record({ key = KEY, value, headers = {}, timestampMs = Date.now() }: Omit<Bad, "what" | "ends">) {
  const bytes = (content: Buffer | string | null) => (content === null ? null : Buffer.from(content as string));
  return {
    topic: INPUT,
    partition: SHARD,
    key: bytes(key),
    value: bytes(value),
    headers: { trace: "t-1", ...headers },
    timestampMs,
  };
}

async function outcome(deployment: Deployment) {
  const client = createKafkaClient({ brokers: deployment.stack.brokers, clientId: "lockstep-test" });
  const read = async (topic: string) => {
    const records: InputRecord[] = [];
    for await (const each of readTopic({ client, topic, partitions: [SHARD] })) records.push(each);
    return records;
  };
  const letters = await read(`${INPUT}.dlq`);
  const goods = await deployment.query<{ note: string }>("SELECT note FROM hostile.sums");
  const lettersBySource = new Map<number, string[]>();
  for (const letter of letters) {
    const offset = Number(header(letter, `${CAUSE}offset`));
    lettersBySource.set(offset, [
      ...(lettersBySource.get(offset) ?? []),
      `${letter.offset} ${letter.value?.toString("hex")}`,
    ]);
  }
  return { letters, lettersBySource, late: await read("hostile.late"), goods: new Set(goods.map(({ note }) => note)) };
}

/** Of several headers of one name the last: a forged one stands before ours. */
function header({ headers }: InputRecord, name: string): string | undefined {
  return headers.findLast(([each]) => each === name)?.[1]?.toString("utf8");
}

function causeOf(letter: InputRecord): string {
  const code = header(letter, `${CAUSE}exception`);
  return code === "ROW_REFUSED" ? `${code} ${header(letter, `${CAUSE}message`)?.slice(0, 5)}` : String(code);
}

/** What a dead letter must be, against what was sent: Kafka Streams' names, and the original otherwise. */
function letterFaults(bad: Bad, letter: InputRecord): string[] {
  const original = asRecord(bad);
  const faults: string[] = [];
  const own = letter.headers.filter(([name]) => name !== "lockstep-source");
  const names = ["exception", "message", "stacktrace", "topic", "partition", "offset"].map((name) => CAUSE + name);
  const omitted = header(letter, "__lockstep.omitted.bytes");
  const last = own.filter(([name]) => name !== "__lockstep.omitted.bytes").slice(-6);
  if (JSON.stringify(last.map(([name]) => name)) !== JSON.stringify(names)) faults.push("headers of the cause");
  if (header(letter, `${CAUSE}message`) === "") faults.push("no message");
  if (header(letter, `${CAUSE}stacktrace`) !== "") faults.push("a stack trace");
  if (header(letter, `${CAUSE}topic`) !== INPUT || header(letter, `${CAUSE}partition`) !== String(SHARD))
    faults.push("source");
  for (const [name, value] of Object.entries(original.headers))
    if (!own.some(([each, bytes]) => each === name && bytes?.toString() === value))
      faults.push(`lost the header ${name}`);
  if (omitted === undefined ? !same(letter.value, original.value) : Number(omitted) !== original.value?.length)
    faults.push("value");
  if (!same(letter.key, original.key)) faults.push("key");
  if (bad.timestampMs !== undefined && Number(letter.timestampMs) !== bad.timestampMs) faults.push("timestamp");
  return faults.map((fault) => `${bad.what}: ${fault}`);
}

function same(a: Buffer | null, b: Buffer | null): boolean {
  return a === null || b === null ? a === b : a.equals(b);
}
