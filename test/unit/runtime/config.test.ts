import { describe, expect, test } from "vitest";

import { loadConfig, maskedConfig, SETTINGS } from "../../../src/config.ts";

const NEEDED = {
  LOCKSTEP_KAFKA_BROKERS: "a:9092, b:9093",
  LOCKSTEP_DATABASE_URL: "postgres://lockstep:hunter2@db:5432/lockstep",
};

function faultsOf(env: NodeJS.ProcessEnv): readonly string[] {
  try {
    loadConfig(env);
  } catch (error) {
    expect(error).toMatchObject({ code: "CONFIG_INVALID", remedy: "stop" });
    return (error as { details: { faults: string[] } }).details.faults;
  }
  return [];
}

describe("the configuration", () => {
  test("is what was set, and the defaults, frozen", () => {
    const config = loadConfig({ ...NEEDED, LOCKSTEP_WORKERS: " 3 ", LOCKSTEP_STRICT: "yes", LOCKSTEP_INSTANCE: "" });
    expect(config).toMatchObject({ brokers: ["a:9092", "b:9093"], workers: 3, strict: true, unsafe: false });
    expect(config).toMatchObject({ instance: SETTINGS.instance.fallback, idleMs: Number(SETTINGS.idleMs.fallback) });
    expect([Object.isFrozen(config), Object.isFrozen(config.brokers)]).toEqual([true, true]);
  });

  test("honours PORT where LOCKSTEP_HTTP_PORT is not set", () => {
    expect(loadConfig({ ...NEEDED, PORT: "8080" })).toMatchObject({ httpPort: 8080 });
    expect(loadConfig({ ...NEEDED, PORT: "8080", LOCKSTEP_HTTP_PORT: "0" })).toMatchObject({ httpPort: 0 });
    expect(loadConfig({ ...NEEDED, PORT: "" })).toMatchObject({ httpPort: 9464 });
    expect(faultsOf({ ...NEEDED, PORT: "http" })).toEqual([expect.stringMatching(/^PORT is "http": a whole number/)]);
  });

  test("does without what the command does not need", () => {
    expect(loadConfig({}, [])).toMatchObject({ brokers: [], databaseUrl: "" });
  });

  test("names every fault at once, each with its variable", () => {
    const faults = faultsOf({
      LOCKSTEP_KAFKA_BROKERS: "a:9092,b",
      LOCKSTEP_DATABASE_URL: "mysql://db",
      LOCKSTEP_INSTANCE: "two words",
      LOCKSTEP_WORKERS: "1.5",
      LOCKSTEP_IDLE_MS: "9",
      LOCKSTEP_BATCH_RECORDS_MAX: "many",
      LOCKSTEP_STRICT: "perhaps",
      LOCKSTEP_SESSION_TIMEOUT_MS: "2999",
      LOG_LEVEL: "loud",
      LOCKSTEP_WORKRES: "3",
    });
    for (const name of [
      'LOCKSTEP_KAFKA_BROKERS has "b"',
      "LOCKSTEP_DATABASE_URL",
      'LOCKSTEP_INSTANCE is "two words"',
      'LOCKSTEP_WORKERS is "1.5"',
      'LOCKSTEP_IDLE_MS is "9": a whole number from 10 to',
      'LOCKSTEP_BATCH_RECORDS_MAX is "many"',
      'LOCKSTEP_STRICT is "perhaps"',
      "LOCKSTEP_HEARTBEAT_INTERVAL_MS (1000) must be at most a third of LOCKSTEP_SESSION_TIMEOUT_MS (2999)",
      'LOG_LEVEL is "loud"',
      "LOCKSTEP_WORKRES is not a setting",
    ]) {
      expect(faults.filter((fault) => fault.startsWith(name))).toHaveLength(1);
    }
    expect(faults).toHaveLength(10);
  });

  test("names what is missing", () => {
    expect(faultsOf({})).toEqual([
      expect.stringMatching(/^LOCKSTEP_KAFKA_BROKERS is not set/),
      expect.stringMatching(/^LOCKSTEP_DATABASE_URL is not set/),
    ]);
  });

  test("takes every default of its own table", () => {
    expect(faultsOf(NEEDED)).toEqual([]);
  });

  test.each([
    "postgres://lockstep:hunter2@db:5432/lockstep",
    "postgresql://lockstep:hunter2@db/lockstep?sslmode=require",
    "postgres://:hunter2@db/lockstep",
  ])("masks the password of %s in what is logged", (url) => {
    const logged = JSON.stringify(maskedConfig(loadConfig({ ...NEEDED, LOCKSTEP_DATABASE_URL: url })));
    expect(logged).not.toContain("hunter2");
    expect(logged).toContain("@db");
  });
});
