/**
 * Numbered SQL files, applied once each and in order: first Lockstep's own, then the app's.
 *
 * Invariants
 *   M1  A file is applied in one transaction, together with the row of lockstep.migration that records it.
 *   M2  What was applied never changes: the files in the folder begin with exactly the recorded ones, byte for byte.
 *   M3  Two migrations at once do the work once: all of it runs under one advisory lock.
 */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { LockstepError } from "../errors.ts";
import { sqlState } from "./pg-errors.ts";
import { type Client, type Log, type Pool, withClient } from "./pool.ts";
import { publishTable, type RelayPlan, setUpFault, setUpRelay } from "./relay-set-up.ts";

/** Lies beside this module, in src/ and in dist/. */
const OWN_FOLDER = fileURLToPath(new URL("./migrations", import.meta.url));

const OWN = "lockstep";

const FILE_NAME = /^(\d{4})-([a-z0-9][a-z0-9-]*)\.sql$/;

/** "LKst": the advisory lock of migrations, per database. */
const LOCK_KEY = 0x4c4b7374;

/** Deadline of one file, and of waiting for another migration: building an index on a big table takes its time. */
const FILE_MS_MAX = 60 * 60 * 1000;

export interface MigratedApp {
  readonly name: string;
  /** Folder of the app's files; null when it has none. */
  readonly migrations: string | null;
}

export interface Migration {
  /** `lockstep`, or the app's name. */
  readonly owner: string;
  readonly number: number;
  readonly name: string;
}

export interface MigrationReport {
  /** Applied by this call, in order. */
  readonly applied: readonly Migration[];
  /** Were there already. */
  readonly unchanged: number;
}

/**
 * @throws {LockstepError} MIGRATION_CHANGED a file that was applied has changed or is gone, or a new one has a lower number
 * @throws {LockstepError} DATABASE_UNSUITABLE a file failed; those before it stay applied
 */
export async function migrate(options: {
  pool: Pool;
  app: MigratedApp;
  log: Log;
  /** Set up before the app's files run; null or absent: no relay. */
  relay?: RelayPlan | null;
}): Promise<MigrationReport> {
  const files = await readAll(options.app);
  const relay = options.relay ?? null;
  return withClient(options.pool, async (client) => {
    const run = (text: string) => client.query({ text, query_timeout: FILE_MS_MAX } as { text: string });
    await run("SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0");
    await run(`SELECT pg_advisory_lock(${LOCK_KEY})`);
    await run(`CREATE SCHEMA IF NOT EXISTS lockstep;
      CREATE TABLE IF NOT EXISTS lockstep.migration (
        owner text, number integer, name text NOT NULL, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (owner, number))`);
    const pending = pendingOf(files, await readRecorded(client));
    const applyAll = async (owned: readonly MigrationFile[], publish: () => Promise<void>) => {
      for (const file of owned) {
        await apply(client, file, { run, publish });
        options.log.info({ owner: file.owner, number: file.number, name: file.name }, "migration applied");
      }
    };
    await applyAll(
      pending.filter(({ owner }) => owner === OWN),
      async () => {},
    );
    if (relay !== null) await orSetUpFault(() => setUpRelay(client, relay, run));
    const publish = async () => {
      if (relay !== null) await publishTable(client, relay);
    };
    await applyAll(
      pending.filter(({ owner }) => owner !== OWN),
      publish,
    );
    // A table that an earlier version of Lockstep left out of it.
    if (relay !== null) {
      await orSetUpFault(async () => {
        await client.query("BEGIN");
        await publish();
        await client.query("COMMIT");
      });
    }
    // After a failure the connection is closed instead, which releases the lock as well.
    await client.query(
      `SELECT pg_advisory_unlock(${LOCK_KEY}); RESET statement_timeout; RESET lock_timeout; RESET idle_in_transaction_session_timeout`,
    );
    return {
      applied: pending.map(({ owner, number, name }) => ({ owner, number, name })),
      unchanged: files.length - pending.length,
    };
  });
}

/**
 * What `migrate` would apply. Changes nothing.
 * @throws {LockstepError} MIGRATION_CHANGED as `migrate`
 */
export async function pendingMigrations(options: { pool: Pool; app: MigratedApp }): Promise<Migration[]> {
  const files = await readAll(options.app);
  return withClient(options.pool, async (client) => {
    const { rows } = await client.query<{ there: boolean }>(
      "SELECT to_regclass('lockstep.migration') IS NOT NULL AS there",
    );
    const pending = rows[0]?.there ? pendingOf(files, await readRecorded(client)) : files;
    return pending.map(({ owner, number, name }) => ({ owner, number, name }));
  });
}

interface MigrationFile extends Migration {
  readonly sql: string;
  readonly sha256: string;
}

interface Recorded extends Migration {
  readonly sha256: string;
}

async function readAll(app: MigratedApp): Promise<MigrationFile[]> {
  if (app.name === OWN)
    throw new LockstepError("APP_INVALID", `An app cannot be named "${OWN}": its migrations would be taken for ours.`);
  return [
    ...(await readFolder(OWN, OWN_FOLDER)),
    ...(app.migrations === null ? [] : await readFolder(app.name, app.migrations)),
  ];
}

async function readFolder(owner: string, folder: string): Promise<MigrationFile[]> {
  const names = (
    await readdir(folder).catch((cause: unknown) => {
      throw new LockstepError(
        "CONFIG_INVALID",
        `The migrations of ${owner} cannot be read: ${(cause as Error).message}`,
        { cause },
      );
    })
  ).filter((name) => name.endsWith(".sql"));
  const files: MigrationFile[] = [];
  for (const name of names.sort()) {
    const match = FILE_NAME.exec(name);
    if (!match)
      throw new LockstepError("CONFIG_INVALID", `${join(folder, name)} is not named like 0001-what-it-does.sql.`);
    const number = Number(match[1]);
    if (files.at(-1)?.number === number)
      throw new LockstepError("CONFIG_INVALID", `${folder} has two files numbered ${match[1]}.`);
    const sql = (await readFile(join(folder, name), "utf8")).replaceAll("\r\n", "\n"); // A checkout on Windows is no change.
    files.push({ owner, number, name: match[2]!, sql, sha256: createHash("sha256").update(sql).digest("hex") });
  }
  return files;
}

async function readRecorded(client: Client): Promise<Recorded[]> {
  const { rows } = await client.query<Recorded>(
    "SELECT owner, number, name, sha256 FROM lockstep.migration ORDER BY owner, number",
  );
  return rows;
}

/** M2. Apps that share the database keep their own numbers: those of other owners are left alone. */
function pendingOf(files: readonly MigrationFile[], recorded: readonly Recorded[]): MigrationFile[] {
  const faults: string[] = [];
  const pending: MigrationFile[] = [];
  for (const owner of new Set(files.map((file) => file.owner))) {
    const ofOwner = files.filter((file) => file.owner === owner);
    const applied = recorded.filter((row) => row.owner === owner);
    const last = applied.at(-1)?.number ?? 0;
    for (const row of applied) {
      const file = ofOwner.find(({ number }) => number === row.number);
      if (!file)
        faults.push(
          `${label(row)} was applied to this database, but there is no such file: this build is older than the database`,
        );
      else if (file.sha256 !== row.sha256)
        faults.push(`${label(file)} has changed since it was applied; put it back, and write a new file`);
    }
    for (const file of ofOwner) {
      if (applied.some(({ number }) => number === file.number)) continue;
      if (file.number < last)
        faults.push(`${label(file)} is new, but number ${last} is applied already; give it a higher number`);
      else pending.push(file);
    }
  }
  if (faults.length > 0) {
    throw new LockstepError(
      "MIGRATION_CHANGED",
      `The migrations do not fit this database:\n${faults.map((f) => `  - ${f}`).join("\n")}`,
      {
        details: { faults },
      },
    );
  }
  return pending;
}

async function orSetUpFault(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    throw setUpFault(error) ?? error;
  }
}

/** M1. The outbox table is published in the transaction that makes it. */
async function apply(
  client: Client,
  file: MigrationFile,
  { run, publish }: { run: (text: string) => Promise<unknown>; publish: () => Promise<void> },
): Promise<void> {
  try {
    await client.query("BEGIN");
    const transaction = await currentTransaction(client);
    await run(file.sql);
    await publish();
    if ((await currentTransaction(client)) !== transaction) {
      throw new LockstepError(
        "DATABASE_UNSUITABLE",
        `Migration ${label(file)} ends its transaction: remove its COMMIT or ROLLBACK.`,
      );
    }
    await client.query("INSERT INTO lockstep.migration (owner, number, name, sha256) VALUES ($1, $2, $3, $4)", [
      file.owner,
      file.number,
      file.name,
      file.sha256,
    ]);
    await client.query("COMMIT");
  } catch (cause) {
    const state = sqlState(cause);
    // Not the file, or nothing that a ROLLBACK would undo; the connection is closed.
    if (state === null || state.startsWith("57")) throw cause;
    await client.query("ROLLBACK");
    throw new LockstepError(
      "DATABASE_UNSUITABLE",
      `Migration ${label(file)} failed with ${state}: ${(cause as Error).message}`,
      {
        details: { owner: file.owner, number: file.number, sqlstate: state },
        cause,
      },
    );
  }
}

async function currentTransaction(client: Client): Promise<string | undefined> {
  const { rows } = await client.query<{ id: string }>("SELECT txid_current()::text AS id");
  return rows[0]?.id;
}

function label({ owner, number, name }: Migration): string {
  return `${owner} ${String(number).padStart(4, "0")}-${name}`;
}
