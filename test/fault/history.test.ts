/**
 * Histories that no longer fit together (docs/protocol.md, rows S4 to S6, B6 to B10): offsets deleted, input trimmed or made anew,
 * Postgres restored, other code. What can be put right is; else the shard halts, and says what was found.
 */
import { describe, expect } from "vitest";

import {
  backUp,
  bringBack,
  deleteGroupOffsets,
  expectHalt,
  stopAfterHalt,
  trim,
  withOtherBuild,
} from "../support/fault-history.ts";
import { expectAuditClean, longTest } from "../support/fault-rows.ts";
import { Victim } from "../support/fault-victim.ts";
import { type Deployment, type DeploymentOptions, withDeployment } from "../support/harness.ts";
import { recordCheck, recordHit } from "../support/proof.ts";
import { recreateTopics, withAdmin } from "../support/recreate-topics.ts";
import { until } from "../support/until.ts";

const EVENTS = "visits.events";
/** Small commits, so that each shard has several, and no tick after them. */
const VISITS: DeploymentOptions = {
  app: "visits",
  env: { LOCKSTEP_BATCH_RECORDS_MAX: "10", LOCKSTEP_IDLE_MS: "3600000" },
};

describe("replay", () => {
  longTest(
    "S4: the input is trimmed above the snapshot: the replay halts with INPUT_TRIMMED and names the offsets",
    () =>
      withDeployment(VISITS, async (deployment) => {
        await takeAll(deployment, "killed");
        await deployment.kill("killed");
        const position = await positionOf(deployment, 0);
        await trim(deployment, { topic: EVENTS, partition: 0, offset: position });
        deployment.start("next");
        const text = new RegExp(
          `${EVENTS}/0 begins at ${position}; replay needs \\[0, \\d+\\).*before a snapshot covered`,
        );
        expect(await expectHalt(deployment, "INPUT_TRIMMED", text)).toMatchObject({ shard: 0 });
        await until(() => deployment.running().length === deployment.shardCount - 1, {
          what: "the other shards to run",
        });
        recordCheck("the other shards run");
      }),
  );

  longTest("S5: a replay runs over a verdict: what Postgres refused is set aside again, and nothing else", () =>
    withDeployment({ app: "trading", env: { LOCKSTEP_IDLE_MS: "3600000" } }, async (deployment) => {
      await deployment.query(
        "ALTER TABLE app.orders ADD CONSTRAINT not_these CHECK (get_byte(decode(md5(id::text), 'hex'), 0) >= 64)",
      );
      await takeAll(deployment, "killed");
      await deployment.kill("killed");
      expect(deployment.eventsOf("verdict").length).toBeGreaterThan(0);
      const verdicts = deployment.eventsOf("verdict").length;
      recordHit("owner killed", `${verdicts} verdicts in the journal, no snapshot that covers them`);

      deployment.start("next");
      await deployment.untilRunning();
      expect(deployment.eventsOf("replaying", "next").length).toBeGreaterThan(0);
      await deployment.stopAll();
      expect(deployment.eventsOf("verdict")).toHaveLength(verdicts);
      recordCheck("the replay passes the verdicts and makes no other");
      await expectAuditClean(deployment);
    }),
  );

  longTest("S6: other code between snapshot and P halts with CODE_CHANGED, and the way on that it names works", () =>
    withDeployment(VISITS, (deployment) =>
      withOtherBuild(async (other) => {
        await takeAll(deployment, "old");
        await deployment.kill("old");
        deployment.start("new", { env: { LOCKSTEP_APP: other } });
        await expectHalt(deployment, "CODE_CHANGED", /Start the old build once and stop it with SIGTERM/);
        recordHit("other code started between S and P", "it halted with CODE_CHANGED");
        await stopAfterHalt(deployment, "new");

        deployment.start("old");
        await deployment.untilRunning();
        await deployment.stop("old");
        deployment.start("new", { env: { LOCKSTEP_APP: other } });
        await deployment.untilRunning();
        expect(deployment.eventsOf("replaying", "new")).toEqual([]);
        recordCheck("the old build, started once and drained, lets the new one go on");
        await deployment.stopAll();
        await expectAuditClean(deployment);
      }),
    ),
  );

  longTest("B10: other code is deployed between COMMIT and recovery: the old bytes are published, then it halts", () =>
    withDeployment(VISITS, (deployment) =>
      withOtherBuild(async (other) => {
        const { shard, seq } = await killedAfterCommit(deployment);
        deployment.start("new", { env: { LOCKSTEP_APP: other } });
        await until(() => deployment.eventsOf("halted", "new").some((line) => line.shard === shard), {
          what: "the shard to halt",
        });
        const ofShard = deployment.events.filter((line) => line.process === "new" && line.shard === shard);
        expect(ofShard.filter(({ event }) => event === "redo-published")).toMatchObject([{ from: seq, to: seq }]);
        expect(ofShard.at(-1)).toMatchObject({ event: "halted", err: { code: "CODE_CHANGED" } });
        recordCheck("other code publishes the bytes of redo as they were stored, then halts with CODE_CHANGED");
        await stopAfterHalt(deployment, "new");

        deployment.start("old");
        await deployment.untilRunning();
        await deployment.untilDrained();
        await deployment.stopAll();
        await expectAuditClean(deployment);
      }),
    ),
  );
});

describe("Kafka's side", () => {
  longTest("B6: the group's offsets are gone and c = P: they are written again, with a warning", () =>
    withDeployment(VISITS, async (deployment) => {
      await takeAll(deployment, "drained");
      await deployment.stop("drained");
      await deleteGroupOffsets(deployment);
      await takeAll(deployment, "next", 2);
      expect(deployment.eventsOf("offsets-rewritten", "next")).toHaveLength(deployment.shardCount);
      expect(deployment.eventsOf("offsets-rewritten", "next")[0]).toMatchObject({ level: "warn" });
      recordCheck("P's offsets are written again, with a warning");
      await deployment.stopAll();
      await expectAuditClean(deployment);
    }),
  );

  longTest(
    "B6: the group's offsets are gone and c < P: whether Kafka had the commit cannot be known, and it halts",
    () =>
      withDeployment(VISITS, async (deployment) => {
        const { shard, seq } = await killedAfterCommit(deployment);
        await deleteGroupOffsets(deployment);
        deployment.start("next");
        await until(() => deployment.eventsOf("halted").some((line) => line.shard === shard), { what: "it to halt" });
        expect(deployment.eventsOf("halted").find((line) => line.shard === shard)).toMatchObject({
          err: {
            code: "POSITIONS_CONTRADICT",
            message: expect.stringMatching(new RegExp(`no offsets, and commits \\d+\\.\\.${seq} are not known`)),
          },
        });
        recordCheck("the shard halts with POSITIONS_CONTRADICT, and names the commits");
      }),
  );

  longTest("B8: an input is made anew: it halts with INPUT_CHANGED, also when the new log has grown past the old", () =>
    withDeployment(VISITS, async (deployment) => {
      await takeAll(deployment, "drained");
      await deployment.stop("drained");
      const topic = deployment.topics.find(({ name }) => name === EVENTS)!;
      await recreateTopics(deployment.stack.brokers, [topic]);
      recordHit("the input made anew", `${EVENTS} has ${await recordsIn(deployment)} records`);
      deployment.start("next");
      await expectHalt(deployment, "INPUT_CHANGED", /ends at offset 0, below \d+.*truncated or made anew/);
      await stopAfterHalt(deployment, "next");

      await deployment.load({ total: 1_000, seed: 7 });
      deployment.start("later");
      await expectHalt(deployment, "INPUT_CHANGED", /are not the records that were taken: the checksum differs/);
    }),
  );

  longTest("B8: an input is trimmed above the position of a shard: it halts with INPUT_TRIMMED, the others go on", () =>
    withDeployment(VISITS, async (deployment) => {
      await takeAll(deployment, "drained");
      await deployment.stop("drained");
      const position = await positionOf(deployment, 0);
      await deployment.load({ total: 400, seed: 2 });
      await trim(deployment, { topic: EVENTS, partition: 0, offset: position + 1n });
      deployment.start("next");
      const text = new RegExp(
        `${EVENTS} begins at offset ${position + 1n}, but ${position} is the next to take: 1 offset`,
      );
      expect(await expectHalt(deployment, "INPUT_TRIMMED", text)).toMatchObject({ shard: 0 });
      await until(() => deployment.running().length === deployment.shardCount - 1, { what: "the other shards to run" });
      recordCheck("the other shards run");
    }),
  );

  longTest("B9: partitions are added to an input: the next process refuses to start, the running one goes on", () =>
    withDeployment(VISITS, async (deployment) => {
      await takeAll(deployment, "running");
      const count = deployment.shardCount + 2;
      await withAdmin(deployment.stack.brokers, (admin) =>
        admin.createPartitions({ topicPartitions: [{ topic: EVENTS, count }] }),
      );
      await withAdmin(deployment.stack.brokers, (admin) =>
        until(
          async () => (await admin.fetchTopicMetadata({ topics: [EVENTS] })).topics[0]!.partitions.length === count,
          { what: `${count} partitions of ${EVENTS}` },
        ),
      );
      recordHit("partitions added to the input", `${EVENTS} has ${count}, had ${deployment.shardCount}`);
      const late = deployment.start("late");
      const { code } = await late.exited;
      expect(code).not.toBe(0);
      expect(late.stderr).toMatch(/IDENTITY_CHANGED/);
      recordCheck("the next process refuses to start with IDENTITY_CHANGED");
      expect(deployment.running("running")).toHaveLength(deployment.shardCount);
      recordCheck("the running process keeps its shards");
    }),
  );
});

describe("Postgres' side", () => {
  longTest("B7: Postgres is restored to an older state: k > P, and it halts with POSITIONS_CONTRADICT", () =>
    withDeployment(VISITS, async (deployment) => {
      await takeAll(deployment, "before");
      await deployment.stop("before");
      await backUp(deployment);
      await takeAll(deployment, "after", 2);
      await deployment.stop("after");
      await bringBack(deployment);
      deployment.start("restored");
      await expectHalt(
        deployment,
        "POSITIONS_CONTRADICT",
        /Kafka has commit \d+, Postgres only \d+: Postgres lost commits/,
      );
    }),
  );

  longTest("B7: Postgres loses commits under a running owner: it halts with STORE_WENT_BACK", () =>
    withDeployment(VISITS, async (deployment) => {
      await takeAll(deployment, "owner");
      await backUp(deployment);
      await deployment.load({ total: 200, seed: 2 });
      await deployment.untilDrained();
      await until(
        async () => (await deployment.query("SELECT FROM lockstep.shard WHERE confirmed < seq")).length === 0,
        { what: "every commit to be confirmed" },
      );
      await bringBack(deployment, ["lockstep.shard"]);
      await expectHalt(deployment, "STORE_WENT_BACK", /\d/);
    }),
  );
});

/** The next offset that a shard takes, as Postgres has it. */
async function positionOf(deployment: Deployment, shard: number): Promise<bigint> {
  const rows = await deployment.query<{ position: string }>(
    "SELECT positions->>$1 AS position FROM lockstep.shard WHERE shard = $2",
    [EVENTS, shard],
  );
  return BigInt(rows[0]!.position);
}

async function recordsIn(deployment: Deployment): Promise<number> {
  return withAdmin(deployment.stack.brokers, async (admin) =>
    (await admin.fetchTopicOffsets(EVENTS)).reduce((sum, { low, high }) => sum + Number(high) - Number(low), 0),
  );
}

/** Starts a process and has it take everything; `nth` load of this deployment, from 1. */
async function takeAll(deployment: Deployment, name: string, nth = 1): Promise<void> {
  deployment.start(name);
  await deployment.untilRunning();
  await deployment.load({ total: 400, seed: nth });
  await deployment.untilDrained();
}

/** A single owner that dies between COMMIT and Kafka, with input left. */
async function killedAfterCommit(deployment: Deployment): Promise<{ shard: number; seq: number }> {
  await deployment.load({ total: 400 });
  const victim = new Victim(deployment, { name: "killed", points: "pg.committed:2:kill" });
  const { shard } = await victim.untilKilled();
  return { shard, seq: victim.seqUnderWay(shard) };
}
