/** What `lockstep dlq replay` sends and what it leaves out, on real logs: trimmed, held up by transactions, with letters that lie. */
import { expect, test } from "vitest";

import { type Letter, readLetters } from "../../../src/cli/dlq-letters.ts";
import { planReplays } from "../../../src/cli/dlq-replay.ts";
import { resend } from "../../../src/kafka/resend.ts";
import { anAppOf } from "../../support/an-app.ts";
import { testStack } from "../../support/stack.ts";
import { freshTopic, readAll, testClient, trim, withKafka, withTransactions, writePlain } from "../kafka/kafka.ts";

const client = testClient();
const { brokers } = testStack();

/** An input of one partition with some records, its dead letters, and the app that has it. */
async function scene(inputs: readonly string[]) {
  const input = await freshTopic(client, "in");
  const lettersTopic = `${input}.dlq`;
  await withKafka(client, async (kafka) => {
    const admin = kafka.admin();
    await admin.connect();
    await admin.createTopics({ waitForLeaders: true, topics: [{ topic: lettersTopic, numPartitions: 1 }] });
    await admin.disconnect();
  });
  await writePlain(client, input, inputs);
  const app = anAppOf(input);
  return {
    input,
    lettersTopic,
    /** A dead letter of the record at an offset, or one that says so. */
    async setAside(offset: number, of: { topic?: string; partition?: number } = {}): Promise<void> {
      const { topic = input, partition = 0 } = of;
      const says = { exception: "MACHINE_THREW", message: "no", topic, partition: `${partition}`, offset: `${offset}` };
      const headers = Object.fromEntries(
        Object.entries(says).map(([name, value]) => [`__streams.errors.${name}`, value]),
      );
      await withKafka(client, async (kafka) => {
        const producer = kafka.producer();
        await producer.connect();
        await producer.send({ topic: lettersTopic, messages: [{ key: "k", value: `v${offset}`, headers }] });
        await producer.disconnect();
      });
    },
    letters: async (...places: string[]): Promise<Letter[]> =>
      (await readLetters(brokers, { app }, places.length > 0 ? { places } : {})).letters,
    async plan(options: { again?: boolean; inDoubt?: boolean; waitMs?: number } = {}) {
      const { letters } = await readLetters(brokers, { app }, {});
      return planReplays(letters, { client, app, again: false, inDoubt: false, waitMs: 500, ...options });
    },
  };
}

function outcome(plans: Awaited<ReturnType<typeof planReplays>>) {
  return plans.map(({ record, skipped, later }) => (record ? "sent" : later ? `later: ${skipped}` : skipped));
}

async function sendAll(plans: Awaited<ReturnType<typeof planReplays>>): Promise<void> {
  await resend(
    client,
    plans.flatMap(({ record }) => (record ? [record] : [])),
  );
}

const STANDS = expect.stringContaining("stands on its input again already");
const IN_DOUBT = expect.stringMatching(/cannot be told whether it was sent before.*--in-doubt/);

test("a place that is named twice, in whatever spelling, is one letter", async () => {
  const { lettersTopic, letters, setAside } = await scene(["a"]);
  await setAside(0);
  const place = `${lettersTopic}/0/0`;
  expect((await letters(place, place, `${lettersTopic}/00/000`)).map((letter) => letter.place)).toEqual([place]);
});

test("R1: once its input has lost records in which its replay may have been, a letter is left out, and only then", async () => {
  const it = await scene(["a", "b", "c", "d"]);
  await it.setAside(1);
  await it.setAside(3);
  await sendAll(await it.plan()); // at 4 and 5
  expect(outcome(await it.plan())).toEqual([STANDS, STANDS]);

  // Up to and with its record nothing of what was appended later is gone.
  await trim(client, it.input, 2n);
  expect(outcome(await it.plan())).toEqual([STANDS, STANDS]);

  // The first replay is gone, the second stands.
  await trim(client, it.input, 5n);
  expect(outcome(await it.plan())).toEqual([IN_DOUBT, STANDS]);
  expect(outcome(await it.plan({ inDoubt: true }))).toEqual(["sent", STANDS]);
  expect(outcome(await it.plan({ again: true }))).toEqual(["sent", "sent"]);

  // Both are gone; a letter of a record after them was never sent.
  await writePlain(client, it.input, ["e"]); // 6
  await it.setAside(6);
  await trim(client, it.input, 7n);
  expect(outcome(await it.plan())).toEqual([IN_DOUBT, IN_DOUBT, "sent"]);
});

test("R1: a log that does not have the letter's record yet is another one: whether it was sent cannot be told", async () => {
  const it = await scene(["a"]);
  await it.setAside(1_000);
  expect(outcome(await it.plan())).toEqual([IN_DOUBT]);
});

test("R1: a replay behind an open transaction of someone else is not sent a second time", async () => {
  const it = await scene(["a", "b"]);
  await it.setAside(1);
  const first = await it.plan();
  await withTransactions(client, it.input, async ({ send, abort }) => {
    await send("other", "under way");
    await sendAll(first);
    expect(outcome(await it.plan())).toEqual([expect.stringMatching(/^later: a transaction is open on .*try again/)]);
    expect(outcome(await it.plan({ again: true }))).toEqual(["sent"]);
    await abort("other");
  });
  // The marker is written after the abort is answered: what is under way is waited for.
  expect(outcome(await it.plan({ waitMs: 20_000 }))).toEqual([STANDS]);
  expect(await readAll(client, it.input)).toHaveLength(3);
});

test("R2: a letter that names another topic, or a partition that is not there, is left out, and the others are sent", async () => {
  const it = await scene(["a", "b"]);
  const elsewhere = await freshTopic(client, "payments");
  await it.setAside(0, { topic: elsewhere });
  await it.setAside(0, { partition: 7 });
  await it.setAside(1);
  const plans = await it.plan();
  expect(outcome(plans)).toEqual([
    expect.stringContaining(`came from ${elsewhere}, which is no input`),
    `${it.input} has no partition 7`,
    "sent",
  ]);
  await sendAll(plans);
  expect(await readAll(client, elsewhere)).toEqual([]);
  expect(await readAll(client, it.input)).toHaveLength(3);
});
