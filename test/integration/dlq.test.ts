/** `lockstep dlq`: what an operator sees of dead letters, and how one is taken again, once its cause is cured. */
import { expect, test } from "vitest";

import { createKafkaClient } from "../../src/kafka/client.ts";
import { readTopic } from "../../src/kafka/read-topic.ts";
import { lockstep } from "../support/command.ts";
import { type Deployment, withDeployment } from "../support/harness.ts";

const INPUT = "hostile.commands";
const LETTERS = `${INPUT}.dlq`;
const KEY = "a1";
const at = Date.now() - 60_000;

function command(fields: object, more: { headers?: Record<string, string>; value?: string } = {}) {
  const value = more.value ?? JSON.stringify({ v: 1, key: KEY, do: "add", n: 1, at, ...fields });
  const headers = { trace: "t-1", ...more.headers };
  return { topic: INPUT, partition: 1, key: Buffer.from(KEY), value: Buffer.from(value), headers, timestampMs: at };
}

const refused = { n: 5, qty: "-1", note: "refused" };

test("letters are listed, shown and, their cause cured, sent again: each takes effect once, however often it is asked for", async () => {
  await withDeployment({ app: "hostile", workers: 1 }, async (deployment) => {
    const dlq = (...args: string[]) => lockstep(["dlq", ...args], deployment.env);
    deployment.start("one");
    await deployment.untilRunning();
    await deployment.send([
      command({ note: "first" }),
      command(refused, { headers: { "x-retry-count": "2" } }),
      command({}, { value: "{\u0001" }),
      command({ do: "throw" }),
      command({ do: "arm", what: "throw", n: 10 }),
      command({ note: "last", at: at + 5_000 }),
    ]);
    await deployment.untilDrained();

    // list
    const all = JSON.parse((await dlq("list", "--json")).stdout) as {
      matched: number;
      letters: Record<string, unknown>[];
    };
    expect(all.matched).toBe(4);
    expect(all.letters.map(({ code, source, timer, retries }) => [code, source, timer, retries])).toEqual([
      ["ROW_REFUSED", `${INPUT}/1/1`, null, 2],
      ["RECORD_UNDECODABLE", `${INPUT}/1/2`, null, 0],
      ["MACHINE_THREW", `${INPUT}/1/3`, null, 0],
      ["MACHINE_THREW", null, "bomb", 0],
    ]);
    const [first] = all.letters;
    expect(first).toMatchObject({
      topic: LETTERS,
      partition: 1,
      key: KEY,
      time: new Date(at).toISOString(),
      omitted: false,
    });
    expect(first!["message"]).toMatch(/^23514 .*qty_not_negative/);
    const table = await dlq("list", "--topic", INPUT, "--code", "ROW_REFUSED", "--since", "1h");
    expect(table.stdout).toContain(String(first!["letter"]));
    expect(table.stdout).not.toContain("MACHINE_THREW");
    expect(JSON.parse((await dlq("list", "--json", "--limit", "1")).stdout)).toMatchObject({
      matched: 4,
      letters: [{ timer: "bomb" }],
    });
    expect(JSON.parse((await dlq("list", "--json", "--since", "10s")).stdout)).toEqual({ matched: 0, letters: [] });
    expect(await dlq("list", "--topic", "nobody's")).toMatchObject({
      code: 78,
      stderr: expect.stringContaining(LETTERS),
    });
    expect(await dlq("list", "--since", "soon")).toMatchObject({ code: 78 });

    // show
    const place = String(first!["letter"]);
    const shown = await dlq("show", place);
    expect(shown.stdout).toContain('"note": "refused"');
    expect(shown.stdout).toMatch(/header trace\s.*t-1/);
    expect((await dlq("show", String(all.letters[1]!["letter"]))).stdout).toContain("0x7b01");
    const json = JSON.parse((await dlq("show", place, "--json")).stdout) as { valueBase64: string };
    expect(JSON.parse(Buffer.from(json.valueBase64, "base64").toString())).toMatchObject(refused);
    expect(await dlq("show", `${LETTERS}/1/999`)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("no dead letter"),
    });

    // replay: nothing is sent unless it is said twice
    const ends = await deployment.lag();
    expect(ends).toBe(0);
    expect(await dlq("replay", "--yes")).toMatchObject({ code: 78 });
    expect(await dlq("replay", "--all")).toMatchObject({
      code: 2,
      stdout: expect.stringContaining("nothing sent; 3 would be, 1 left out"),
    });
    expect(await dlq("replay", "--all", "--dry-run", "--yes")).toMatchObject({ code: 0 });
    expect(await deployment.query("SELECT 1 FROM hostile.sums WHERE note = 'refused'")).toEqual([]);

    // replay, before the cause is cured: a new record, refused again, with its count
    expect(JSON.parse((await dlq("replay", place, "--yes", "--json")).stdout)).toMatchObject({ sent: 1 });
    await deployment.untilDrained();
    const again = JSON.parse((await dlq("list", "--json", "--code", "ROW_REFUSED")).stdout) as typeof all;
    expect(again.letters).toMatchObject([{ retries: 2 }, { retries: 3, source: `${INPUT}/1/6` }]);

    // replay, after it
    await deployment.query("ALTER TABLE hostile.sums DROP CONSTRAINT qty_not_negative");
    const second = String(again.letters[1]!["letter"]);
    expect(JSON.parse((await dlq("replay", "--code", "ROW_REFUSED", "--yes", "--json")).stdout)).toMatchObject({
      sent: 1,
      letters: [
        { letter: place, skipped: expect.stringContaining("already") },
        { letter: second, to: `${INPUT}/1`, skipped: null },
      ],
    });
    expect(JSON.parse((await dlq("replay", "--code", "ROW_REFUSED", "--yes", "--json")).stdout)).toMatchObject({
      sent: 0,
    });
    await deployment.untilDrained();
    const rows = await deployment.query("SELECT n::int, sum::int FROM hostile.sums WHERE note = 'refused'");
    expect(rows).toEqual([{ n: 5, sum: 7 }]);

    const sent = await lastInput(deployment);
    expect(sent.value?.toString()).toBe(command(refused).value.toString());
    expect(sent.key?.toString()).toBe(KEY);
    expect(Number(sent.timestampMs)).toBe(at);
    expect(sent.headers.map(([name, value]) => [name, value?.toString()])).toEqual([
      ["trace", "t-1"],
      ["x-retry-count", "4"],
      ["lockstep-replay-of", second],
    ]);
    await deployment.stopAll();
    expect((await deployment.audit()).findings).toEqual([]);
  });
});

async function lastInput(deployment: Deployment) {
  const client = createKafkaClient({ brokers: deployment.stack.brokers, clientId: "lockstep-test" });
  let last = null;
  for await (const record of readTopic({ client, topic: INPUT, partitions: [1] })) last = record;
  return last!; // records were sent
}
