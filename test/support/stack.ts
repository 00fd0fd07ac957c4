/**
 * The servers of this run, for tests. Every test file makes its own topics and its own database on them.
 */
import { randomUUID } from "node:crypto";

export interface TestStack {
  readonly brokers: string[];
  /** Of a superuser, to the database `postgres`. */
  readonly postgresUrl: string;
  /** Folder of Kafka's jars, for Java tools. */
  readonly kafkaLibs: string;
}

/** @throws {Error} this test is not in a project that has servers */
export function testStack(): TestStack {
  return {
    brokers: named("LOCKSTEP_TEST_KAFKA").split(","),
    postgresUrl: named("LOCKSTEP_TEST_POSTGRES"),
    kafkaLibs: named("LOCKSTEP_TEST_KAFKA_LIBS"),
  };
}

/** A prefix for the topics, groups and transactional ids of one test: nothing that another test made can be met. */
export function freshTopicPrefix(): string {
  return `t${randomUUID().slice(0, 8)}.`;
}

/** `npm run test:fault` takes the long form of the fault tests, `npm test` the short one. */
export function isLongRun(): boolean {
  return process.env["TEST_LONG"] === "1";
}

function named(name: string): string {
  const value = process.env[name];
  if (!value) {
    throw new Error(`${name} is not set: run this test by \`npm test\`, in one of the projects that have servers`);
  }
  return value;
}
