/**
 * Fresh databases on the Postgres that the test run has started (`LOCKSTEP_TEST_POSTGRES`, the URL of a superuser).
 */
import { randomBytes } from "node:crypto";

import pg from "pg";

import { until } from "./until.ts";

export interface TestDatabase {
  readonly url: string;
  readonly name: string;
  /** Drops it, whoever is still connected. */
  close(): Promise<void>;
}

/**
 * For a whole file: open in beforeAll, close in afterAll.
 * @param server URL of a superuser; default: the server of the test run
 */
export async function openDatabase(server = process.env["LOCKSTEP_TEST_POSTGRES"]): Promise<TestDatabase> {
  if (server === undefined) throw new Error("LOCKSTEP_TEST_POSTGRES is not set: the test run has started no Postgres");
  const name = `test_${randomBytes(6).toString("hex")}`;
  await administer(server, `CREATE DATABASE ${name}`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  return {
    url: url.href,
    name,
    // A replication slot is in use until the server has noticed that its reader was killed; then it goes with its database.
    close: async () => {
      const drop = () => administer(server, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`).then(() => true);
      await until(drop, { what: `${name} to be dropped` });
    },
  };
}

export async function withDatabase<T>(work: (database: TestDatabase) => Promise<T>): Promise<T> {
  const database = await openDatabase();
  try {
    return await work(database);
  } finally {
    await database.close();
  }
}

async function administer(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
