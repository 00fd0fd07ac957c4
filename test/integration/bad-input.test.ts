/**
 * Input that can never succeed: set aside with its bytes and its cause, in the commit that passes it, while its shard goes on.
 */
import { expect, test } from "vitest";

import { createKafkaClient } from "../../src/kafka/client.ts";
import { readTopic } from "../../src/kafka/read-topic.ts";
import { withDeployment } from "../support/harness.ts";

const CAUSE = "__streams.errors.";

test("bad records go to the dead letters with bytes, headers and cause, and those behind them are taken", async () => {
  await withDeployment({ app: "visits", workers: 1 }, async (deployment) => {
    const at = Date.now() - 10_000;
    const json = (value: object) => Buffer.from(JSON.stringify(value));
    const good = (kind: string, more = {}) => json({ visitor: "a1", kind, at, ...more });
    const bad: ReadonlyArray<readonly [key: string | null, value: Buffer | null, code: string]> = [
      ["a1", Buffer.from([0xff, 0x00, 0xfe]), "RECORD_UNDECODABLE"],
      ["a1", Buffer.from("{"), "RECORD_UNDECODABLE"],
      ["a1", null, "RECORD_UNDECODABLE"],
      [null, good("ping"), "RECORD_WITHOUT_KEY"],
      ["b1", good("ping"), "RECORD_KEY_MISMATCH"],
      ["a1", good("stumble"), "RECORD_REFUSED"],
      ["a1", good("ping", { at: at + 3_600_000 }), "RECORD_TIME_INVALID"],
      ["a1", good("poison"), "MACHINE_THREW"],
    ];
    const record = (key: string | null, value: Buffer | null) => ({
      topic: "visits.events",
      partition: 1,
      key: key === null ? null : Buffer.from(key),
      value,
      headers: { trace: "t-1" },
      timestampMs: at,
    });
    deployment.start("one");
    await deployment.untilRunning();
    await deployment.send([
      record("a1", good("enter")),
      ...bad.map(([key, value]) => record(key, value)),
      record("a1", good("leave", { at: at + 1 })),
    ]);
    await deployment.untilDrained();
    await deployment.stopAll();

    const client = createKafkaClient({ brokers: deployment.stack.brokers, clientId: "lockstep-test" });
    const letters = [];
    for await (const letter of readTopic({ client, topic: "visits.events.dlq" })) {
      const headers = Object.fromEntries(letter.headers.map(([name, value]) => [name, value?.toString("utf8")]));
      letters.push({
        key: letter.key?.toString("utf8") ?? null,
        value: letter.value?.toString("hex") ?? null,
        timestampMs: Number(letter.timestampMs),
        trace: headers["trace"],
        code: headers[`${CAUSE}exception`],
        from: ["topic", "partition", "offset"].map((name) => headers[CAUSE + name]).join("/"),
      });
      expect(headers[`${CAUSE}message`]).not.toBe("");
    }
    const expected = bad.map(([key, value, code], index) => ({
      key,
      value: value?.toString("hex") ?? null,
      timestampMs: at,
      trace: "t-1",
      code,
      from: `visits.events/1/${index + 1}`,
    }));
    expect(letters).toEqual(expected);
    expect(await deployment.query("SELECT visitor, pings, reason FROM visits.visits")).toEqual([
      { visitor: "a1", pings: 0, reason: "left" },
    ]);
    const report = await deployment.audit();
    expect(report.findings).toEqual([]);
    expect(report.figures).toMatchObject({ events: 10, deadLetters: 8, distinct: 2 });
  });
});
