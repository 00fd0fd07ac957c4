/**
 * Row Z7 of docs/protocol.md: requests of an owner that is gone, held back by the network until the next owner has a transaction of its own
 * open under the same transactional id. Its producer epoch is what they are refused by: without F2's new one, a late EndTxn would
 * end the next owner's transaction.
 */
import { afterAll, beforeAll, expect } from "vitest";

import { FaultBed } from "../support/fault-bed.ts";
import { withKafkaProxy } from "../support/fault-proxies.ts";
import { longTest, publishedSeq, storedSeq } from "../support/fault-rows.ts";
import { INVALID_PRODUCER_EPOCH, lateAnswer, untilHeld } from "../support/late-requests.ts";
import { recordCheck } from "../support/proof.ts";
import { isLongRun } from "../support/stack.ts";
import { until } from "../support/until.ts";

let bed: FaultBed;

beforeAll(async () => {
  if (isLongRun()) bed = await FaultBed.open({ app: "trading" });
});

afterAll(async () => {
  await bed?.finish();
});

for (const [api, point] of [
  ["EndTxn", "kafka.before-end"],
  ["Produce", "kafka.begun"],
] as const) {
  longTest(
    `Z7: ${api} of a dead owner arrives inside the next owner's transaction: refused, nothing of it shows`,
    async () => {
      await withKafkaProxy(bed.deployment, async ({ proxy, env }) => {
        await bed.stopSteady();
        const old = bed.startVictim(`${point}:3:stop`, { env });
        const { shard } = await old.untilHit();
        const seq = await storedSeq(bed, shard);
        proxy.toxics.holdRequests = true;
        old.letRun();
        const late = await untilHeld(proxy, api, `${bed.deployment.groupId}-${shard}`);
        old.process.signal("SIGKILL");
        await old.process.exited;

        // Its first transaction publishes redo of what the old owner had committed; the second is a commit of its own.
        const next = bed.startVictim(`kafka.before-end:2:stop@${shard}`);
        await next.untilHit();
        expect(next.events("redo-published", shard)).toMatchObject([{ from: seq, to: seq }]);
        recordCheck("the next owner published redo once, and has its own transaction open");
        proxy.release();
        expect(await lateAnswer(late)).toBe(INVALID_PRODUCER_EPOCH);
        expect(await publishedSeq(bed, shard)).toBe(seq);
        recordCheck(`Kafka refuses the late ${api} with INVALID_PRODUCER_EPOCH, and the open transaction stays open`);

        next.letRun();
        await until(async () => ((await publishedSeq(bed, shard)) ?? 0) > seq, {
          what: `commit ${seq + 1} to be published`,
        });
        bed.startSteady();
        await bed.deployment.untilRunning();
        await bed.deployment.retire(next.name);
      });
      await bed.expectClean();
    },
  );
}
