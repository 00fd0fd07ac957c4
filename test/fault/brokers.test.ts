/**
 * Row B2 of docs/protocol.md on a cluster of three that replicates (min.insync.replicas 2): the broker that coordinates a shard's
 * transaction dies in the middle of it, and comes back later. On servers of this file's own: other tests would miss them.
 */
import { afterAll, beforeAll, expect } from "vitest";

import { createKafkaClient } from "../../src/kafka/client.ts";
import { openConnection } from "../../src/kafka/connection.ts";
import { type KafkaNode, type Stack, startStack } from "../../src/stack/index.ts";
import { FaultBed } from "../support/fault-bed.ts";
import { breakLine, withKafkaProxy } from "../support/fault-proxies.ts";
import { longTest, publishedSeq, storedSeq } from "../support/fault-rows.ts";
import { endNode } from "../support/fault-servers.ts";
import { recordCheck, recordHit } from "../support/proof.ts";
import { isLongRun } from "../support/stack.ts";
import { until } from "../support/until.ts";

/** A failover takes the broker's session time-out (4 s here) and what two busy cores add. */
const FAILOVER_MS = 120_000;

let stack: Stack;
let bed: FaultBed;

beforeAll(async () => {
  if (!isLongRun()) return;
  stack = await startStack({
    brokers: 3,
    kafkaConfig: { "group.min.session.timeout.ms": "1000" },
  });
  bed = await FaultBed.open({
    app: "trading",
    stack: { brokers: stack.kafka!.brokers, postgresUrl: stack.postgres!.url, kafkaLibs: stack.kafka!.libs! },
    env: { LOCKSTEP_TRANSACTION_TIMEOUT_MS: "30000" },
  });
});

afterAll(async () => {
  await bed?.finish();
  await stack?.stop();
});

for (const [where, point] of [
  ["C6: partitions had been added", "kafka.begun"],
  ["C7: the records had been acknowledged", "kafka.produced"],
  ["C8: the offsets were pending", "kafka.offsets-sent"],
  ["C9: EndTxn was about to be sent", "kafka.before-end"],
] as const) {
  longTest(`B2: the transaction's coordinator is killed when ${where}: no commit is lost or doubled`, async () => {
    const victim = bed.startVictim(`${point}:3:stop`);
    const { shard } = await victim.untilHit();
    const node = await coordinatorOf(`${bed.deployment.groupId}-${shard}`);
    const seq = await storedSeq(bed, shard);
    await endNode(node, "kill");
    victim.letRun();
    await until(async () => (await storedSeq(bed, shard)) > seq + 1, {
      what: `shard ${shard} to go on with two brokers of three`,
      timeoutMs: FAILOVER_MS,
    });
    recordCheck("the shard goes on with two brokers of three");
    await bed.deployment.untilRunning({ timeoutMs: FAILOVER_MS });
    await node.start();
    await bed.deployment.retire(victim.name);
    await bed.expectClean();
  });
}

longTest(
  "B2: the coordinator executes EndTxn and is killed before it answers (C9): the commit is found, nothing published",
  async () => {
    const shard = 0;
    const transactionalId = `${bed.deployment.groupId}-${shard}`;
    const node = await coordinatorOf(transactionalId);
    await withKafkaProxy(
      bed.deployment,
      async ({ proxy, env }) => {
        await bed.stopSteady();
        const victim = bed.startVictim(`kafka.before-end:3:stop@${shard}`, {
          env: { ...env, LOCKSTEP_SESSION_TIMEOUT_MS: "30000" },
        });
        await victim.untilHit();
        const seq = await storedSeq(bed, shard);
        proxy.toxics.dropReplies = true;
        victim.letRun();
        await until(async () => (await publishedSeq(bed, shard)) === seq, { what: `Kafka to have commit ${seq}` });
        recordHit("the answer to EndTxn dropped", `Kafka has commit ${seq} of shard ${shard}, the owner was not told`);
        await endNode(node, "kill");
        breakLine(proxy);

        const running = await until(() => victim.events("running", shard)[1], {
          what: "the owner to run the shard again",
          timeoutMs: FAILOVER_MS,
        });
        expect(running).toMatchObject({ seq, reused: true });
        expect(victim.events("redo-published", shard)).toEqual([]);
        recordCheck("the owner finds its commit at the new coordinator, keeps its memory, publishes nothing");
        await node.start();
        bed.startSteady();
        await bed.deployment.untilRunning({ timeoutMs: FAILOVER_MS });
        await bed.deployment.retire(victim.name);
      },
      { broker: node.address },
    );
    await bed.expectClean();
  },
);

/** The node that coordinates this transactional id now. */
async function coordinatorOf(transactionalId: string): Promise<KafkaNode> {
  const connection = openConnection(
    createKafkaClient({ brokers: stack.kafka!.brokers, clientId: "lockstep-test-coordinator" }),
  );
  try {
    const broker = await connection.coordinator("transaction", transactionalId);
    const { nodeId } = broker as unknown as { nodeId: number }; // kafkajs has it, our port does not need it
    const node = stack.kafka!.nodes.find(({ id }) => id === Number(nodeId));
    expect(node, `node ${nodeId}`).toBeDefined();
    return node!;
  } finally {
    connection.destroy();
  }
}
