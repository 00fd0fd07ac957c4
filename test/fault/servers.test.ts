/**
 * Servers that restart, or stay away, under load (docs/protocol.md, rows B1 to B5). On servers of this file's own: other tests would
 * miss them.
 */
import { afterAll, beforeAll, describe, expect } from "vitest";

import { type Stack, startStack } from "../../src/stack/index.ts";
import { FaultBed } from "../support/fault-bed.ts";
import { expectAuditClean, longTest, stableEnd, storedSeq } from "../support/fault-rows.ts";
import { endNode, restartPostgres, stopPostgres } from "../support/fault-servers.ts";
import { Victim } from "../support/fault-victim.ts";
import { type ProcessEvent, withDeployment } from "../support/harness.ts";
import { recordCheck, recordHit } from "../support/proof.ts";
import type { TestStack } from "../support/stack.ts";
import { until } from "../support/until.ts";

/** A back-off that has grown so far: the server has been away for more than 6 s. */
const LONG_BACK_OFF_MS = 3_200;

let stack: Stack;
let servers: TestStack;

beforeAll(async () => {
  stack = await startStack({
    kafkaConfig: {
      "group.min.session.timeout.ms": "1000",
      // How often the coordinator looks for transactions that have timed out; Kafka's default is 10 s.
      "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    },
  });
  servers = { brokers: stack.kafka!.brokers, postgresUrl: stack.postgres!.url, kafkaLibs: stack.kafka!.libs! };
});

afterAll(async () => {
  await stack?.stop();
});

const ALONE = {
  LOCKSTEP_TRANSACTION_TIMEOUT_MS: "2000",
  LOCKSTEP_SESSION_TIMEOUT_MS: "30000",
  LOCKSTEP_BATCH_RECORDS_MAX: "20",
  LOCKSTEP_IDLE_MS: "3600000",
};

longTest("B1: the transaction times out while its owner is stopped: the owner acquires again and publishes redo", () =>
  withDeployment({ app: "trading", stack: servers, env: ALONE }, async (deployment) => {
    const manifest = await deployment.load({ total: 900 });
    const victim = new Victim(deployment, { name: "victim", points: "kafka.offsets-sent:3:stop" });
    const { shard } = await victim.untilHit();
    const [row] = await deployment.query<{ seq: number }>("SELECT seq::int FROM lockstep.shard WHERE shard = $1", [
      shard,
    ]);
    const before = await stableEnd(deployment, deployment.topics);
    await until(async () => (await stableEnd(deployment, deployment.topics)) > before, {
      what: "the coordinator to abort what the stopped owner had begun",
    });
    recordHit("the transaction timed out", "readers' stable end moved on while its owner was stopped");
    victim.letRun();

    const seq = row!.seq;
    expect(await victim.untilEvent("running", shard, 2)).toMatchObject({ seq, reused: true });
    expect(victim.events("redo-published", shard)).toMatchObject([{ from: seq, to: seq }]);
    recordCheck("the same owner acquires again, keeps its memory, and publishes redo once");
    await deployment.untilDrained();
    await deployment.stopAll();
    await expectAuditClean(deployment, manifest);
  }),
);

describe("under load", () => {
  let bed: FaultBed;

  beforeAll(async () => {
    bed = await FaultBed.open({ app: "trading", stack: servers, env: { LOCKSTEP_TRANSACTION_TIMEOUT_MS: "6000" } });
  });

  afterAll(async () => {
    await bed?.finish();
  });

  for (const [where, point] of [
    ["in a Postgres transaction", "pg.updated"],
    ["whose COMMIT was just sent", "pg.commit-sent"],
    ["between COMMIT and Kafka", "pg.committed"],
  ] as const) {
    longTest(`B3: Postgres crashes and comes back, with a commit ${where}`, async () => {
      const victim = bed.startVictim(`${point}:3:stop`);
      const { shard } = await victim.untilHit();
      const seq = await storedSeq(bed, shard);
      await restartPostgres(stack, { immediate: true });
      victim.letRun();
      await until(async () => (await storedSeq(bed, shard)) > seq + 1, { what: "the shard to go on" });
      recordCheck("the shard commits again after the restart");
      await bed.deployment.untilRunning();
      await bed.deployment.retire(victim.name);
      await bed.expectClean();
    });
  }

  longTest("B3: Postgres restarts in order, under two processes at full load", async () => {
    const other = bed.startVictim("");
    await until(() => bed.deployment.running(other.name).length > 0, { what: "both processes to run shards" });
    const from = bed.deployment.events.length;
    await restartPostgres(stack, { immediate: false });
    await until(() => since(from).some(({ event }) => event === "retrying" || event === "restoring"), {
      what: "somebody to notice",
    });
    await bed.deployment.untilRunning();
    recordCheck("every shard runs again");
    await bed.deployment.retire(other.name);
    await bed.expectClean();
  });

  longTest("B4: Postgres stays away: the shards try again with growing pauses, and stay in the group", async () => {
    const from = bed.deployment.events.length;
    await stopPostgres(stack, { immediate: true });
    const lag = await bed.deployment.lag();
    await until(() => retriesSince(from, "STORE_UNAVAILABLE").some(({ inMs }) => Number(inMs) >= LONG_BACK_OFF_MS), {
      what: `a shard to back off for ${LONG_BACK_OFF_MS} ms`,
    });
    await until(async () => (await bed.deployment.lag()) > lag, { what: "the lag to grow under load" });
    recordCheck("shards back off with growing pauses while the lag grows");
    await stack.postgres!.start();
    await bed.settle();
    recordCheck("all that waited is taken when it is back");
    expect(since(from).filter(({ event }) => event === "rebalancing" || event === "assigned")).toEqual([]);
    expect(since(from).filter(({ event }) => event === "lost")).toEqual([]);
    recordCheck("nobody left the group, and no shard was lost");
    await bed.expectClean();
  });

  longTest(
    "B5: Kafka goes away after a Postgres commit: nothing further is taken, and redo is published once it is back",
    async () => {
      const [node] = stack.kafka!.nodes;
      const victim = bed.startVictim("pg.committed:3:stop", {
        // Nobody is to take the shard over while it is stopped.
        env: { LOCKSTEP_SESSION_TIMEOUT_MS: "60000" },
      });
      const { shard } = await victim.untilHit();
      const seq = await storedSeq(bed, shard);
      await bed.load.pause();
      // No transaction is under way when its only broker goes: Kafka 4.3 may lose the decision about one (KAFKA-20734).
      await until(
        async () => (await settledShards()) === bed.deployment.shardCount - bed.deployment.running(victim.name).length,
        {
          what: "the other process to have nothing left to do",
        },
      );
      const from = bed.deployment.events.length;
      await endNode(node!, "stop");
      victim.letRun();
      await victim.untilEvent("restoring", shard);
      expect(await victim.untilEvent("retrying", shard)).toMatchObject({ err: { code: "KAFKA_UNAVAILABLE" } });
      expect(await storedSeq(bed, shard)).toBe(seq);
      recordCheck("while Kafka is away nothing further is committed to Postgres");
      await node!.start();
      bed.load.resume();
      await until(() => since(from).some((line) => line.event === "redo-published" && line.shard === shard), {
        what: "redo to be published",
        timeoutMs: 120_000,
      });
      await bed.deployment.untilRunning({ timeoutMs: 120_000 });
      await bed.deployment.retire(victim.name);
      await bed.expectClean();
      expect(since(from).filter((line) => line.event === "redo-published" && line.shard === shard)).toMatchObject([
        { from: seq, to: seq },
      ]);
      recordCheck("redo is published once, when Kafka is back");
    },
  );

  async function settledShards(): Promise<number> {
    return (await bed.deployment.query("SELECT FROM lockstep.shard WHERE confirmed = seq")).length;
  }

  function since(from: number): ProcessEvent[] {
    return bed.deployment.events.slice(from);
  }

  function retriesSince(from: number, code: string): ProcessEvent[] {
    return since(from).filter((line) => line.event === "retrying" && (line["err"] as { code?: string }).code === code);
  }
});
