/**
 * Steps that never end, that eat memory, that end their worker or the whole process: found out, set aside by verdict in a commit, and never
 * run again. The records around them are taken once, in order. W: src/runtime/watchdog.ts and step-seat.ts. V: src/runtime/care.ts.
 */
import Table from "cli-table3";
import { expect } from "vitest";

import type { InputRecord } from "../../src/actors/record.ts";
import { createKafkaClient } from "../../src/kafka/client.ts";
import { readTopic } from "../../src/kafka/read-topic.ts";
import { expectAuditClean, longTest } from "../support/fault-rows.ts";
import { type Deployment, withDeployment } from "../support/harness.ts";
import { recordCheck, recordHit } from "../support/proof.ts";

const INPUT = "hostile.commands";
const CAUSE = "__streams.errors.";
const KEY = "a1";
const SHARD = 1;
const at = Date.now() - 60_000;
// Filling 128 MiB, with a collector that tries its best to prevent it, can take a second on a busy machine.
const WATCHED = { LOCKSTEP_STEP_MS_MAX: "3000", LOCKSTEP_WORKER_HEAP_MB: "128", LOCKSTEP_SESSION_TIMEOUT_MS: "6000" };
const PATIENCE = { timeoutMs: 180_000 };

function command(fields: object) {
  const value = JSON.stringify({ v: 1, key: KEY, do: "add", n: 1, at, ...fields });
  return {
    topic: INPUT,
    partition: SHARD,
    key: Buffer.from(KEY),
    value: Buffer.from(value),
    headers: {},
    timestampMs: at,
  };
}

const KILLERS = [
  { what: "a step that never ends", fields: { do: "hang" }, code: "STEP_TIMEOUT" },
  { what: "a schema that never ends", fields: { note: "hang" }, code: "STEP_TIMEOUT" },
  { what: "a step that eats memory", fields: { do: "allocate" }, code: "STEP_OUT_OF_MEMORY" },
  { what: "a step that ends its thread", fields: { do: "exit" }, code: "STEP_CRASHED" },
] as const;

longTest(
  "S5, W3, W5, V1, V2: a step that does not end is set aside after three attempts; neighbours, other shards and a replay are unharmed",
  async () => {
    await withDeployment({ app: "hostile", workers: 2, env: WATCHED }, async (deployment) => {
      deployment.start("one");
      await deployment.untilRunning();
      const records = KILLERS.flatMap(({ fields }, i) => [command({ note: `g${i}` }), command(fields)]);
      await deployment.send([...records, command({ note: `g${KILLERS.length}` })]);
      await deployment.untilDrained(PATIENCE);
      const letters = await lettersOf(deployment);
      const attempts = deployment.eventsOf("step-ended-worker");
      expect(await deployment.query("SELECT * FROM lockstep.suspect")).toEqual([]);

      for (const { step, code } of attempts) recordHit(String(code), `step ${step} ended its worker`);

      // As if no snapshot covered them: the replay passes each of them, and runs none.
      await deployment.kill("one");
      await forgetSnapshots(deployment);
      deployment.start("two");
      await deployment.untilRunning(PATIENCE);
      await deployment.send([command({ note: "after" })]);
      await deployment.untilDrained();
      expect(deployment.eventsOf("step-ended-worker", "two")).toEqual([]);
      expect(deployment.eventsOf("running", "two").find(({ shard }) => shard === SHARD)?.["replayed"]).toBe(9);
      recordCheck("the replay passes each of them, and runs none");
      await deployment.stopAll();

      const table = new Table({
        head: ["what was sent", "where it ended", "cause", "attempts"],
        style: { head: [], border: [] },
      });
      const found = KILLERS.map(({ what }, i) => {
        const offset = String(2 * i + 1);
        const letter = letters.find((each) => header(each, `${CAUSE}offset`) === offset);
        const tried = attempts.filter(({ step }) => step === JSON.stringify(["r", INPUT, offset])).length;
        const code = letter && header(letter, `${CAUSE}exception`);
        table.push([what, letter ? `${INPUT}.dlq` : "nowhere", code ?? "", tried]);
        return { what, code, tried };
      });
      console.log(table.toString());
      expect(found).toEqual(KILLERS.map(({ what, code }) => ({ what, code, tried: 3 })));
      expect(letters).toHaveLength(KILLERS.length);
      expect(await notes(deployment)).toEqual(["g0", "g1", "g2", "g3", "g4", "after"]);
      const audit = await deployment.audit();
      expect(audit.findings).toEqual([]);
      recordCheck("audit after a drain: no findings");
      expect(audit.figures).toMatchObject({
        commands: 10,
        deadLetters: 4,
        rows: 6,
        lost: 0,
        doubled: 0,
        outOfOrder: 0,
      });
    });
  },
);

for (const when of ["armed before", "armed in the batch in which it is due"]) {
  longTest(
    `V2, V3, V4: a timer that never ends, ${when}, gets a verdict of its own, and the record that made it due takes effect`,
    async () => {
      await withDeployment({ app: "hostile", workers: 1, env: WATCHED }, async (deployment) => {
        deployment.start("one");
        await deployment.untilRunning();
        const arming = [
          command({ do: "arm", what: "hang", n: 1_000, key: "b1" }),
          command({ do: "arm", what: "add", n: 1_500, key: "c1" }),
          command({ note: "before" }),
        ].map((record) => ({ ...record, key: Buffer.from(JSON.parse(record.value.toString()).key) }));
        // It is due when this record comes, or when a tick does before.
        const last = command({ note: "behind", at: at + 5_000 });
        if (when === "armed before") {
          await deployment.send(arming);
          await deployment.untilDrained(PATIENCE);
          await deployment.send([last]);
        } else await deployment.send([...arming, last]);
        await deployment.untilDrained(PATIENCE);
        const [letter, ...more] = await lettersOf(deployment);
        expect(more).toEqual([]);
        expect(header(letter!, "__lockstep.timer")).toBe("bomb");
        expect(header(letter!, `${CAUSE}exception`)).toBe("STEP_TIMEOUT");
        expect(JSON.parse(String(letter!.value))).toMatchObject({
          key: "b1",
          dueMs: at + 1_000,
          event: { what: "hang" },
        });
        expect(await notes(deployment)).toEqual(["fired", "before", "behind"]);
        await deployment.kill("one");
        await forgetSnapshots(deployment);
        deployment.start("two");
        await deployment.untilRunning(PATIENCE);
        expect(deployment.eventsOf("step-ended-worker", "two")).toEqual([]);
        await deployment.stopAll();
        expect((await deployment.audit()).findings).toEqual([]);
      });
    },
  );
}

longTest(
  "C2, V1: a record that kills the whole process is found by the attempts that were written before it, and its neighbours are not blamed",
  async () => {
    await withDeployment({ app: "hostile", workers: 1, env: WATCHED }, async (deployment) => {
      deployment.start("p0");
      await deployment.untilRunning();
      await deployment.send([command({ note: "g0" }), command({ do: "kill" }), command({ note: "g1" })]);
      let deaths = 0;
      for (; deaths < 10; deaths += 1) {
        const process = deployment.process(`p${deaths}`);
        const done = deployment.untilDrained(PATIENCE).then(
          () => "drained",
          () => "given up",
        );
        const ended = await Promise.race([process.exited.then(() => "died"), done]);
        if (ended !== "died") break;
        recordHit("the process ends in a step", `p${deaths} ended by ${(await process.exited).signal}`);
        deployment.forget(`p${deaths}`);
        deployment.start(`p${deaths + 1}`);
        await done;
      }
      // Three that nobody could explain, and three that were counted.
      expect(deaths).toBe(6);
      const letters = await lettersOf(deployment);
      expect(letters.map((letter) => [header(letter, `${CAUSE}offset`), header(letter, `${CAUSE}exception`)])).toEqual([
        ["1", "STEP_CRASHED"],
      ]);
      expect(await notes(deployment)).toEqual(["g0", "g1"]);
      recordCheck("its neighbours took effect once, and it is set aside by verdict after three counted attempts");
      await deployment.stopAll();
      await expectAuditClean(deployment);
    });
  },
);

/** The journal is kept from the first commit on, so the next owner replays all of it. */
async function forgetSnapshots(deployment: Deployment): Promise<void> {
  await deployment.query("UPDATE lockstep.shard SET snapshot_seq = 0, snapshot_token = NULL");
}

async function lettersOf(deployment: Deployment): Promise<InputRecord[]> {
  const client = createKafkaClient({ brokers: deployment.stack.brokers, clientId: "lockstep-test" });
  const letters: InputRecord[] = [];
  for await (const letter of readTopic({ client, topic: `${INPUT}.dlq` })) letters.push(letter);
  return letters;
}

async function notes(deployment: Deployment): Promise<string[]> {
  const rows = await deployment.query<{ note: string }>("SELECT note FROM hostile.sums ORDER BY sum, note");
  return rows.map(({ note }) => note);
}

function header({ headers }: InputRecord, name: string): string | undefined {
  return headers.findLast(([each]) => each === name)?.[1]?.toString("utf8");
}
