/**
 * A process that dies between two steps of a commit, or whose line to a server breaks there (docs/protocol.md, rows C3 to C10, J1):
 * the next owner repairs what it left, and nothing is lost, doubled or out of order.
 */
import { afterAll, beforeAll, expect, test } from "vitest";

import { FaultBed } from "../support/fault-bed.ts";
import { breakLine, withKafkaProxy, withPostgresProxy } from "../support/fault-proxies.ts";
import {
  expectDone,
  expectNotCommitted,
  expectRedoPublished,
  journalRow,
  longTest,
  publishedSeq,
  storedSeq,
} from "../support/fault-rows.ts";
import { recordCheck, recordHit } from "../support/proof.ts";
import { until } from "../support/until.ts";

/** Who is to keep its shards while it is stopped or cut off must not be taken for dead meanwhile. */
const STAYS = { LOCKSTEP_SESSION_TIMEOUT_MS: "20000" };

let bed: FaultBed;

beforeAll(async () => {
  bed = await FaultBed.open({ app: "trading" });
});

afterAll(async () => {
  await bed?.finish();
});

longTest(
  "C3: killed inside the Postgres transaction: nothing of the commit is there, and it is made again",
  async () => {
    expectNotCommitted(bed, await bed.killAt("pg.before-commit:3:kill"));
    await bed.expectClean();
  },
);

for (const [name, point] of [
  ["C1: killed with records taken from the log, before the fold", "fold.before:3"],
  ["C2: killed after the fold", "fold.after:3"],
  ["C3: killed when BEGIN was answered, and the statements are on their way", "pg.begun:3"],
  ["C3: killed when the shard row was updated and the rows of the app were not there yet", "pg.updated:3"],
] as const) {
  longTest(`${name}: nothing is left, the same records are taken again`, async () => {
    expectNotCommitted(bed, await bed.killAt(`${point}:kill`));
    await bed.expectClean();
  });
}

test("C4: killed when COMMIT had been sent: it happened or it did not, and the row's seq decides", async () => {
  const killed = await bed.killAt("pg.commit-sent:3:kill");
  if (bed.said("running", killed)[0]!["seq"] === killed.seq) expectRedoPublished(bed, killed);
  else expectNotCommitted(bed, killed);
  await bed.expectClean();
});

test("C4: COMMIT was executed and its answer lost: the owner finds its commit, keeps its memory, publishes redo once", async () => {
  await withPostgresProxy(bed.deployment, async ({ proxy, env }) => {
    const victim = bed.startVictim("pg.before-commit:3:stop,pg.commit-sent:3:stop", { env: { ...env, ...STAYS } });
    const { shard } = await victim.untilHit();
    const seq = (await storedSeq(bed, shard)) + 1;
    proxy.toxics.dropReplies = true;
    victim.letRun();
    await victim.untilPassed({ point: "pg.commit-sent", shard });
    await until(async () => (await storedSeq(bed, shard)) === seq, { what: `Postgres to have commit ${seq}` });
    recordHit("the answer to COMMIT dropped", `Postgres has commit ${seq} of shard ${shard}, the owner was not told`);
    breakLine(proxy);

    expect(await victim.untilEvent("restoring", shard)).toMatchObject({ err: { code: "COMMIT_UNKNOWN" } });
    expect(await victim.untilEvent("running", shard, 2)).toMatchObject({ seq, reused: true });
    expect(victim.events("redo-published", shard)).toMatchObject([{ from: seq, to: seq }]);
    recordCheck("the owner acquires again, keeps its memory, and publishes redo once");
    await bed.deployment.retire(victim.name);
  });
  await bed.expectClean();
});

longTest(
  "C4: COMMIT never arrived: the owner finds nothing, keeps its memory, makes the same commit again",
  async () => {
    await withPostgresProxy(bed.deployment, async ({ proxy, env }) => {
      const victim = bed.startVictim("pg.before-commit:3:stop,pg.commit-sent:3:stop", { env: { ...env, ...STAYS } });
      const { shard } = await victim.untilHit();
      const seq = (await storedSeq(bed, shard)) + 1;
      proxy.toxics.dropRequests = true;
      victim.letRun();
      await victim.untilPassed({ point: "pg.commit-sent", shard });
      await until(() => proxy.hasSwallowed("COMMIT"), { what: "COMMIT to be swallowed" });
      recordHit("COMMIT dropped", `in the proxy, of shard ${shard}`);
      breakLine(proxy);

      expect(await victim.untilEvent("restoring", shard)).toMatchObject({ err: { code: "COMMIT_UNKNOWN" } });
      expect(await victim.untilEvent("running", shard, 2)).toMatchObject({ seq: seq - 1, reused: true });
      expect(victim.events("redo-published", shard)).toEqual([]);
      recordCheck("the owner acquires again, finds nothing of its commit, keeps its memory, makes it again");
      await bed.deployment.retire(victim.name);
    });
    await bed.expectClean();
  },
);

test("C5: killed after COMMIT, before Kafka: redo is published once", async () => {
  expectRedoPublished(bed, await bed.killAt("pg.committed:3:kill"));
  await bed.expectClean();
});

for (const [name, point] of [
  ["C6: killed when partitions had been added to the transaction", "kafka.begun:3"],
  ["C7: killed when the records had been acknowledged", "kafka.produced:3"],
  ["C8: killed right before EndTxn", "kafka.before-end:3"],
] as const) {
  longTest(`${name}: the transaction is aborted, redo is published once`, async () => {
    expectRedoPublished(bed, await bed.killAt(`${point}:kill`));
    await bed.expectClean();
  });
}

longTest("C8: killed when the offsets were pending: the transaction is aborted, redo is published once", async () => {
  expectRedoPublished(bed, await bed.killAt("kafka.offsets-sent:3:kill"));
  await bed.expectClean();
});

test("C9: EndTxn was executed and its answer lost: the owner finds its commit in Kafka and publishes nothing", async () => {
  await withKafkaProxy(bed.deployment, async ({ proxy, env }) => {
    const victim = bed.startVictim("kafka.before-end:3:stop", { env: { ...env, ...STAYS } });
    const { shard } = await victim.untilHit();
    const seq = await storedSeq(bed, shard);
    proxy.toxics.dropReplies = true;
    victim.letRun();
    await until(async () => (await publishedSeq(bed, shard)) === seq, { what: `Kafka to have commit ${seq}` });
    recordHit("the answer to EndTxn dropped", `Kafka has commit ${seq} of shard ${shard}, the owner was not told`);
    breakLine(proxy);

    expect(await victim.untilEvent("restoring", shard)).toMatchObject({
      err: { code: "PUBLISH_FAILED", details: { stage: "end" } },
    });
    expect(await victim.untilEvent("running", shard, 2)).toMatchObject({ seq, reused: true });
    expect(victim.events("redo-published", shard)).toEqual([]);
    recordCheck("the owner acquires again, finds its commit in Kafka, keeps its memory, publishes nothing");
    await bed.deployment.retire(victim.name);
  });
  await bed.expectClean();
});

longTest("C9: EndTxn never arrived: the transaction is aborted, redo is published once", async () => {
  await withKafkaProxy(bed.deployment, async ({ proxy, env }) => {
    const victim = bed.startVictim("kafka.before-end:3:stop", { env: { ...env, ...STAYS } });
    const { shard } = await victim.untilHit();
    const seq = await storedSeq(bed, shard);
    const transactionalId = `${bed.deployment.groupId}-${shard}`;
    proxy.toxics.dropRequests = true;
    victim.letRun();
    await until(() => proxy.hasSwallowed(transactionalId), { what: "EndTxn to be swallowed" });
    recordHit("EndTxn dropped", `in the proxy, of shard ${shard}`);
    breakLine(proxy);

    expect(await victim.untilEvent("restoring", shard)).toMatchObject({
      err: { code: "PUBLISH_FAILED", details: { stage: "end" } },
    });
    expect(await victim.untilEvent("running", shard, 2)).toMatchObject({ seq, reused: true });
    expect(victim.events("redo-published", shard)).toMatchObject([{ from: seq, to: seq }]);
    recordCheck("the owner acquires again, keeps its memory, and publishes redo once");
    await bed.deployment.retire(victim.name);
  });
  await bed.expectClean();
});

longTest(
  "C10: killed after EndTxn's answer, before it was noted: Kafka has the commit, nothing is published",
  async () => {
    expectDone(bed, await bed.killAt("kafka.ended:3:kill"));
    await bed.expectClean();
  },
);

for (const [point, where, testOf] of [
  ["pg.committed", "after COMMIT", test],
  ["kafka.offsets-sent", "with pending offsets", longTest],
] as const) {
  testOf(
    `J1: one of several inputs moved, killed ${where}: redo goes out with the positions of ALL inputs`,
    async () => {
      await bed.settle();
      const victim = bed.startVictim(`${point}:1:kill`);
      await until(() => bed.deployment.running(victim.name).length > 0, { what: "the victim to run a shard" });
      await bed.deployment.untilRunning();
      while (victim.hits().length === 0) {
        await bed.load.sendOne();
        await until(async () => victim.hits().length > 0 || (await bed.deployment.lag()) === 0, {
          what: "the one record to be taken",
        });
      }
      const { shard } = await victim.untilKilled();
      const seq = victim.seqUnderWay(shard);
      await bed.untilTakenOver();

      expectRedoPublished(bed, { shard, seq, victim });
      const { body, positions, token } = await journalRow(bed, { shard, seq });
      expect(body.entries).toHaveLength(1);
      const instance = await bed.deployment.instanceId();
      expect(await bed.deployment.committed(shard)).toEqual(
        Object.fromEntries(
          Object.entries(positions).map(([topic, offset]) => [
            topic,
            { offset: BigInt(offset), metadata: `${instance}/${seq}/${token}` },
          ]),
        ),
      );
      recordCheck("the commit took one run of one input, and Kafka has its positions of all inputs");
      await bed.expectClean();
    },
  );
}
