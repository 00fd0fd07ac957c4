/** Sending again, as `lockstep dlq replay` does: what Kafka will not take is said by name, with what to do. */
import { expect, test } from "vitest";

import { REPLAY_HEADER, resend } from "../../../src/kafka/resend.ts";
import { freshTopic, outputRecord, readAll, testClient, valuesOf } from "./kafka.ts";

const client = testClient();

function again(
  topic: string,
  letter: number,
  fields: { value?: string; timestampMs?: bigint; partition?: number } = {},
) {
  const { value = String(letter), timestampMs = BigInt(Date.now()), partition = 0 } = fields;
  const headers = [[REPLAY_HEADER, Buffer.from(`in.dlq/0/${letter}`)]] as const;
  return outputRecord(topic, value, { headers, timestampMs, partition });
}

test("SA1: a record that is too old for its topic is refused by name, with the setting to raise; what came before it is sent, nothing after it", async () => {
  const topic = await freshTopic(client, "old", { config: { "message.timestamp.before.max.ms": "3600000" } });
  const old = BigInt(Date.now() - 7_200_000);
  const records = [1, 2, 3, 4, 5].map((letter) => again(topic, letter, letter === 4 ? { timestampMs: old } : {}));
  await expect(resend(client, records)).rejects.toMatchObject({
    code: "PUBLISH_REFUSED",
    message: expect.stringMatching(
      /refuses in\.dlq\/0\/4, to be sent to .*old\/0 \(INVALID_TIMESTAMP.*message\.timestamp\.before\.max\.ms.*3 of 5 were sent before/,
    ),
    details: { sent: 3, record: "in.dlq/0/4", topic, partition: 0, type: "INVALID_TIMESTAMP" },
  });
  expect(valuesOf(await readAll(client, topic))).toEqual(["1", "2", "3"]);
});

test("SA2: a record above the limit of its topic is refused by name; a batch above it, of records that are not, is sent in parts", async () => {
  const topic = await freshTopic(client, "small", { partitions: 2, config: { "max.message.bytes": "2000" } });
  const value = "x".repeat(900);
  const fits = Array.from({ length: 9 }, (_, letter) => again(topic, letter, { value, partition: letter % 2 }));
  await resend(client, fits);
  expect(await readAll(client, topic)).toHaveLength(9);

  await expect(
    resend(client, [again(topic, 20), again(topic, 21, { value: "x".repeat(3_000) })]),
  ).rejects.toMatchObject({
    code: "PUBLISH_REFUSED",
    message: expect.stringContaining("Raise max.message.bytes"),
    details: { sent: 1, record: "in.dlq/0/21", type: "MESSAGE_TOO_LARGE" },
  });
  expect(await readAll(client, topic)).toHaveLength(10);
});

test("no broker: KAFKA_UNAVAILABLE, and how many are there", async () => {
  const { createKafkaClient } = await import("../../../src/kafka/client.ts");
  // Port 1 of the loopback interface refuses at once.
  const nowhere = createKafkaClient({ brokers: ["127.0.0.1:1"], clientId: "contract" });
  await expect(resend(nowhere, [again("t", 1)], { batchMs: 300 })).rejects.toMatchObject({
    code: "KAFKA_UNAVAILABLE",
    message: expect.stringContaining("0 of 1 were sent before"),
    details: { sent: 0 },
  });
});
