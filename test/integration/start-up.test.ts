/**
 * What keeps a process from starting: every fault at once, by name, with the exit code that tells an operator's supervisor
 * whether to try again (69), to call a person (1), or to have the settings corrected (78).
 */
import { describe, expect, test } from "vitest";

import { wantedTopics } from "../../src/cli/topics.ts";
import { loadApp } from "../../src/runtime/code.ts";
import { lockstep } from "../support/command.ts";
import { inheritedEnv } from "../support/deployment-settings.ts";
import { withDeployment } from "../support/harness.ts";
import { recreateTopics, withAdmin } from "../support/recreate-topics.ts";

/** Nothing listens there. */
const NOBODY = "127.0.0.1:1";

describe("exit code 78: settings", () => {
  test("that are missing, unknown, malformed or at odds are told together", async () => {
    const env = {
      LOCKSTEP_WORKER: "2",
      LOCKSTEP_IDLE_MS: "soon",
      LOCKSTEP_SESSION_TIMEOUT_MS: "2000",
      LOCKSTEP_HEARTBEAT_INTERVAL_MS: "1000",
    };
    const { code, stderr } = await lockstep(["run"], { ...inheritedEnv(), ...env });
    expect(code).toBe(78);
    expect(stderr).toMatch(/^CONFIG_INVALID: The configuration has 5 faults:/);
    for (const name of ["LOCKSTEP_KAFKA_BROKERS", "LOCKSTEP_DATABASE_URL", ...Object.keys(env)])
      expect(stderr).toContain(name);
  });

  test("that name an app which is not there", async () => {
    const { code, stderr } = await lockstep(["run", "--app", "./no-such-app.js"], settings());
    expect(code).toBe(78);
    expect(stderr).toMatch(/^APP_NOT_LOADED: .*no-such-app\.js/);
  });
});

test("exit code 69: neither Kafka nor Postgres answers, and both are told", async () => {
  const { code, stderr } = await lockstep(["run"], settings());
  expect(code).toBe(69);
  expect(stderr).toContain("KAFKA_UNAVAILABLE");
  expect(stderr).toContain("STORE_UNAVAILABLE");
});

describe("exit code 1:", () => {
  test("topics that are missing and a database that was not migrated are told together", async () => {
    await withDeployment({ app: "visits", prepared: false }, async ({ env }) => {
      const { code, stderr } = await lockstep(["run"], env);
      expect(code).toBe(1);
      expect(stderr).toMatch(/^TOPICS_UNSUITABLE: \d faults keep this from starting:/);
      for (const topic of ["visits.events", "visits.ended", "visits.late", "visits.events.dlq"])
        expect(stderr).toContain(`"${topic}" does not exist`);
      expect(stderr).toMatch(/NOT_MIGRATED: .*Run `lockstep migrate`/);
    });
  });

  test("inputs that are compacted or of unequal partition counts are refused by `migrate` and by `run`", async () => {
    await withDeployment({ app: "trading", prepared: false }, async ({ env, stack }) => {
      const topics = (await wantedTopics(await loadApp("trading"))).map((topic) =>
        topic.name === "trading.signal.5m"
          ? { ...topic, partitions: 5 }
          : topic.name === "trading.signal.15m"
            ? { ...topic, config: { ...topic.config, "cleanup.policy": "compact" } }
            : topic,
      );
      await recreateTopics(stack.brokers, topics);
      for (const verb of ["migrate", "run"]) {
        const { code, stderr } = await lockstep([verb], env);
        expect(code, stderr).toBe(1);
        expect(stderr).toContain("TOPICS_UNSUITABLE");
        expect(stderr).toContain('"trading.signal.15m" is compacted');
        expect(stderr).toMatch(/different partition counts .*trading\.signal\.5m: 5/);
      }
    });
  });

  test("topics for what is set aside that refuse timestamps which the inputs take are told, each by name", async () => {
    await withDeployment({ app: "trading", prepared: false }, async ({ env, stack }) => {
      const changed: Record<string, Record<string, string>> = {
        "trading.signal.1m": { "message.timestamp.after.max.ms": "86400000" },
        "trading.signal.5m.dlq": { "message.timestamp.before.max.ms": "3600000" },
        "trading.signal.15m": {
          "message.timestamp.after.max.ms": "86400000",
          "message.timestamp.type": "LogAppendTime",
        },
        "trading.late": { "message.timestamp.type": "LogAppendTime" },
      };
      const topics = (await wantedTopics(await loadApp("trading"))).map((topic) => ({
        ...topic,
        config: { ...topic.config, ...changed[topic.name] },
      }));
      await recreateTopics(stack.brokers, topics);
      const { code, stderr } = await lockstep(["run"], env);
      expect(code, stderr).toBe(1);
      expect(stderr.match(/"trading[^"]*" refuses records [^,]*/g)).toEqual([
        `"trading.signal.1m.dlq" refuses records more than 3600000 ms ahead of the broker's clock`,
        `"trading.signal.5m.dlq" refuses records older than 3600000 ms`,
      ]);
    });
  });

  test("an instance that was made with another group, or before partitions were added, is refused", async () => {
    await withDeployment({ app: "visits" }, async ({ env, groupId, stack }) => {
      const other = await lockstep(["run"], { ...env, LOCKSTEP_GROUP_ID: "another-group" });
      expect(other.code).toBe(1);
      expect(other.stderr).toMatch(/^IDENTITY_CHANGED: /);
      expect(other.stderr).toContain("another-group");
      expect(other.stderr).toContain(groupId);

      await withAdmin(stack.brokers, (admin) =>
        admin.createPartitions({ topicPartitions: [{ topic: "visits.events", count: 5 }] }),
      );
      const { code, stderr } = await lockstep(["run"], env);
      expect(code).toBe(1);
      expect(stderr).toMatch(/^IDENTITY_CHANGED: .*visits\.events/);
    });
  });
});

function settings(): NodeJS.ProcessEnv {
  return {
    ...inheritedEnv(),
    LOCKSTEP_KAFKA_BROKERS: NOBODY,
    LOCKSTEP_DATABASE_URL: `postgres://nobody:nobody@${NOBODY}/nothing`,
  };
}
