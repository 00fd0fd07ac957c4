/**
 * What a test of Debezium stands on: a database with the tables of the trading app, prepared by the shipped setup.sql for a user who
 * is no superuser; the topics; a real Connect worker with the shipped configuration; and, for comparison, the relay.
 */
import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import pg from "pg";

import type { InputRecord } from "../../../src/actors/record.ts";
import { createKafkaClient, type KafkaClient } from "../../../src/kafka/client.ts";
import { readTopic, topicEnds } from "../../../src/kafka/read-topic.ts";
import { ORDERS_TOPIC, TRADING_TOPICS } from "../../../src/machines/trading/topics.ts";
import { lockstep } from "../command.ts";
import { openDatabase, type TestDatabase } from "../database.ts";
import { inheritedEnv } from "../deployment-settings.ts";
import { recreateTopics } from "../recreate-topics.ts";
import { testStack } from "../stack.ts";
import { until } from "../until.ts";
import { type ConnectWorker, createConnectWorker } from "./connect-worker.ts";
import {
  connectorConfig,
  databaseProperties,
  type Properties,
  parseProperties,
  propertiesText,
  setupStatements,
} from "./shipped.ts";
import { headerOf, orderRecord } from "./verdict.ts";

/** Names of the shipped files. */
export const ROLE = "lockstep_debezium";
export const SLOT = "lockstep_debezium";
export const CONNECTOR = "lockstep-outbox";

export const ORDERS_PARTITIONS = TRADING_TOPICS.find(({ name }) => name === ORDERS_TOPIC)!.partitions;

export interface DebeziumBed {
  readonly worker: ConnectWorker;
  readonly kafka: KafkaClient;
  /** As a superuser: the writer of the table. */
  readonly pool: pg.Pool;
  /** Of Debezium's user, as the file of secrets has it. */
  password(): Promise<string>;
  /** The shipped connector configuration, with the path of its file of secrets put in place. */
  config(values?: Properties): Promise<Properties>;
  /** For commands of Lockstep against this database and broker. */
  readonly env: NodeJS.ProcessEnv;
  /** `lockstep <args>`; its standard output. */
  lockstep(...args: string[]): Promise<string>;
  /** Committed records, in order of partition and offset. */
  records(topic?: string): Promise<InputRecord[]>;
  /** All committed records, once that of this event is among them. */
  untilPublished(eventId: string, topic?: string): Promise<InputRecord[]>;
  /** Sum of the last stable offsets: cheap, and more than the number of committed records by what transactions add. */
  ends(topic?: string): Promise<bigint>;
  close(): Promise<void>;
}

/** Far more than 50,000 rows take, a restart included. */
const PUBLISHED_MS = 300_000;

/** Topics that a test may ask Debezium to write instead of the app's. */
export const SECOND_TOPIC = "trading.orders.debezium";

export interface BedOptions {
  /** Whether `lockstep migrate` sets up the relay; default false, as for those who use Debezium. */
  readonly relay?: boolean;
  /** Whether all of setup.sql is run, or all but its last statement, which makes the slot; default true. */
  readonly slot?: boolean;
}

/** @returns a bed without a connector and with a worker that is not started */
export async function openBed(options: BedOptions = {}): Promise<DebeziumBed> {
  const { brokers, postgresUrl } = testStack();
  const orders = TRADING_TOPICS.find(({ name }) => name === ORDERS_TOPIC)!;
  const connectTopics = ["config", "offsets", "status"].map((each) => `_lockstep-connect-${each}`);
  await recreateTopics(brokers, [...TRADING_TOPICS, { ...orders, name: SECOND_TOPIC }], connectTopics);
  const database = await openDatabase();
  const pool = new pg.Pool({ connectionString: database.url, max: 4 });
  pool.on("error", () => {}); // connections that the database cuts; whoever uses one gets the error
  const env: NodeJS.ProcessEnv = {
    ...inheritedEnv(),
    LOCKSTEP_APP: "trading",
    LOCKSTEP_INSTANCE: database.name,
    LOCKSTEP_KAFKA_BROKERS: brokers.join(","),
    LOCKSTEP_DATABASE_URL: database.url,
    LOCKSTEP_RELAY: String(options.relay ?? false),
    LOCKSTEP_RELAY_POSITION_MS: "500",
  };
  await succeed(["migrate"], env);
  const password = randomBytes(12).toString("hex");
  const statements = await setupStatements();
  for (const statement of (options.slot ?? true) ? statements : statements.slice(0, -1)) await pool.query(statement);
  await pool.query(`ALTER ROLE ${ROLE} PASSWORD '${password}'`);
  const worker = await createConnectWorker(brokers);
  const databaseFile = join(worker.secrets, "database.properties");
  await writeFile(databaseFile, propertiesText(await databaseProperties(addressOf(database, password))), {
    mode: 0o600,
  });
  const kafka = createKafkaClient({ brokers, clientId: "lockstep-test-debezium" });
  const bed: DebeziumBed = {
    worker,
    kafka,
    pool,
    env,
    lockstep: (...args) => succeed(args, env),
    password: async () => parseProperties(await readFile(databaseFile, "utf8"))["password"]!,
    config: (values) => connectorConfig(databaseFile, values),
    async records(topic = ORDERS_TOPIC) {
      const records: InputRecord[] = [];
      for await (const record of readTopic({ client: kafka, topic })) records.push(record);
      return records;
    },
    async untilPublished(eventId, topic = ORDERS_TOPIC) {
      let end = -1n;
      return until(
        async () => {
          const now = await bed.ends(topic);
          if (now === end) return false; // nothing new since the last look
          end = now;
          const records = await bed.records(topic);
          return records.some((record) => headerOf(orderRecord(record), "event_id") === eventId) && records;
        },
        { what: `the record of ${eventId} on ${topic}`, timeoutMs: PUBLISHED_MS },
      );
    },
    async ends(topic = ORDERS_TOPIC) {
      return [...(await topicEnds(kafka, topic)).values()].reduce((sum, end) => sum + end, 0n);
    },
    async close() {
      await worker.close();
      await pool.end();
      await dropSlotsAndRole(postgresUrl, database);
    },
  };
  return bed;
}

async function succeed(args: readonly string[], env: NodeJS.ProcessEnv): Promise<string> {
  const { code, stdout, stderr } = await lockstep(args, env);
  if (code !== 0) throw new Error(`lockstep ${args.join(" ")} ended with ${code}:\n${stdout}\n${stderr}`);
  return stdout;
}

function addressOf(database: TestDatabase, password: string): Properties {
  const { hostname, port } = new URL(database.url);
  return { hostname, port, dbname: database.name, user: ROLE, password };
}

/** A database with a slot cannot be dropped, and a role belongs to the server. */
async function dropSlotsAndRole(postgresUrl: string, database: TestDatabase): Promise<void> {
  const client = new pg.Client({ connectionString: postgresUrl });
  await client.connect();
  try {
    await until(
      async () => {
        await client.query(
          "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = $1 AND active",
          [database.name],
        );
        await client.query("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1", [
          database.name,
        ]);
        return true;
      },
      { what: "the slots to be dropped" },
    );
    await database.close();
    await client.query(`DROP ROLE IF EXISTS ${ROLE}`);
  } finally {
    await client.end();
  }
}
