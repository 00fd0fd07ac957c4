/**
 * What a resync needs of Postgres: a new slot, and the rows of the table exactly as of where that slot begins.
 *
 * Postgres makes a slot only when every transaction that was in progress, in any database of the server, has ended. Who holds it up is named,
 * and after a while it is given up.
 */
import pg from "pg";

import type { Clock } from "../clock.ts";
import { LockstepError } from "../errors.ts";
import { parseLsn } from "./lsn.ts";
import { storeError } from "./pg-errors.ts";
import type { LoggedValues } from "./pgoutput.ts";
import { PUBLISHED_AS, PUBLISHES_ALL_SQL } from "./relay-set-up.ts";
import type { Ask, RelayRow } from "./relay-store.ts";

/** The table at one moment. */
export interface TableSnapshot {
  /** Its rows in pages, by the time they occurred; rows of one instant as they lie in the table, and those without a time last, whatever `since`. */
  rows(table: string, options: { since: Date | null }): AsyncGenerator<LoggedValues[], void, undefined>;
  close(): Promise<void>;
}

export interface NewSlot extends TableSnapshot {
  /** Where it begins: every database transaction is either seen by `rows` or sent by the slot, none by both. */
  readonly lsn: bigint;
}

interface ConnectOptions {
  readonly url: string;
  readonly applicationName: string;
}

export interface SlotWait {
  /** On another session. */
  readonly ask: Ask;
  readonly clock: Clock;
  readonly say: (text: string) => void;
  /** For whom it waits is said so often. */
  readonly sayMs: number;
  /** After which it is given up. */
  readonly maxMs: number;
}

const PAGE_ROWS = 250;

/**
 * Publication and table as they must be before the slot is made, whatever was dropped or changed: one that does not send every row, or
 * sends other tables', is made anew.
 * @throws {LockstepError}
 */
export async function mendPublication(ask: Ask, { publication, table }: RelayRow): Promise<void> {
  await ask("BEGIN");
  try {
    await ask("SET LOCAL lock_timeout = 0"); // writers are waited for as long as a statement may last
    await ask(`LOCK TABLE ${table} IN SHARE ROW EXCLUSIVE MODE`);
    const [found] = await ask<{ whole: boolean }>(
      `SELECT EXISTS (SELECT FROM pg_publication p JOIN pg_publication_rel m ON m.prpubid = p.oid
         WHERE p.pubname = $1 AND m.prrelid = to_regclass($2) AND NOT p.puballtables AND ${PUBLISHES_ALL_SQL}
           AND NOT EXISTS (SELECT FROM pg_publication_rel o WHERE o.prpubid = p.oid AND o.oid <> m.oid)) AS whole`,
      [publication, table],
    );
    if (!found!.whole) {
      await ask(`DROP PUBLICATION IF EXISTS ${publication}`);
      await ask(`CREATE PUBLICATION ${publication} FOR TABLE ${table} ${PUBLISHED_AS}`);
    }
    await ask("COMMIT");
  } catch (error) {
    await ask("ROLLBACK").catch(() => null); // the session is over then, and the transaction with it
    throw error;
  }
}

/**
 * Makes the slot; its snapshot lasts until `close`.
 * @throws {LockstepError} RELAY_RESYNC_NEEDED transactions in progress did not end in time
 */
export async function createSlot(options: ConnectOptions & { slot: string }, wait: SlotWait): Promise<NewSlot> {
  const maker = clientOf(options, { replication: "database" });
  const endMaker = () => maker.end().catch(() => undefined); // it had ended already
  try {
    await maker.connect();
    await maker.query("SET statement_timeout = 0");
    await maker.query("SET idle_session_timeout = 0");
    const { rows: self } = await maker.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
    const making = maker.query<{ consistent_point: string; snapshot_name: string }>(
      `CREATE_REPLICATION_SLOT ${pg.escapeIdentifier(options.slot)} LOGICAL pgoutput`,
    );
    const { rows } = await untilMade(making, self[0]!.pid, wait);
    const { consistent_point, snapshot_name } = rows[0]!;
    const snapshot = await openSnapshot(options, snapshot_name);
    const close = async () => {
      await Promise.all([snapshot.close(), endMaker()]);
    };
    return { ...snapshot, lsn: parseLsn(consistent_point), close };
  } catch (error) {
    await endMaker();
    throw storeError(error);
  }
}

/** Transactions that have written, and began before the statement of session $1: it waits for one after the other. */
const HOLDING_UP_SQL = `
  SELECT format('pid %s (%s, database %s, %s, for %s s)', pid, coalesce(nullif(application_name, ''), 'no name'), datname,
    coalesce(state, 'state not shown'), coalesce(extract(epoch FROM clock_timestamp() - xact_start)::int::text, '?')) AS who
  FROM pg_stat_activity
  WHERE pid <> $1 AND (pid = ANY (pg_blocking_pids($1))
    OR backend_xid IS NOT NULL AND xact_start < (SELECT query_start FROM pg_stat_activity WHERE pid = $1))
  UNION ALL
  SELECT format('prepared transaction "%s" (database %s)', gid, database) FROM pg_prepared_xacts
  WHERE prepared < (SELECT query_start FROM pg_stat_activity WHERE pid = $1)`;

async function untilMade<T>(making: Promise<T>, pid: number, { ask, clock, say, sayMs, maxMs }: SlotWait): Promise<T> {
  const over = new AbortController();
  const end = () => over.abort();
  making.then(end, end);
  const endMs = clock.monotonicMs() + maxMs;
  for (;;) {
    await clock.sleep(sayMs, over.signal);
    if (over.signal.aborted) return making;
    const found = await ask<{ who: string }>(HOLDING_UP_SQL, [pid]);
    const who = found.map((row) => row.who).join("; ") || "transactions that are not shown";
    if (clock.monotonicMs() < endMs) {
      say(`Postgres makes the slot when these have ended: ${who}`);
      continue;
    }
    // Its slot is gone with it; a closed connection alone would not end the wait.
    await ask("SELECT pg_terminate_backend($1)", [pid]);
    await making.catch(() => null); // ended by us; or made meanwhile, and then dropped as a stray
    throw new LockstepError(
      "RELAY_RESYNC_NEEDED",
      `Postgres has not made a slot within ${Math.round(maxMs / 1000)} s: it waits for transactions in progress: ${who}. Let them end, or end them (\`SELECT pg_terminate_backend(<pid>)\`, \`ROLLBACK PREPARED\`), and run the resync again.`,
    );
  }
}

/** @param snapshot exported by another session; else the table as it is now @throws {LockstepError} */
export async function openSnapshot(options: ConnectOptions, snapshot: string | null = null): Promise<TableSnapshot> {
  const reader = clientOf(options);
  const close = async () => {
    await reader.end().catch(() => undefined); // it had ended already
  };
  try {
    await reader.connect();
    for (const statement of [
      "SET TimeZone = 'UTC'",
      "SET DateStyle = 'ISO, YMD'",
      "SET statement_timeout = 0",
      "SET idle_session_timeout = 0",
      "SET idle_in_transaction_session_timeout = 0",
      "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
      ...(snapshot === null ? [] : [`SET TRANSACTION SNAPSHOT ${pg.escapeLiteral(snapshot)}`]),
    ])
      await reader.query(statement);
    return { rows: (table, { since }) => pages(reader, table, since), close };
  } catch (error) {
    await close();
    throw storeError(error);
  }
}

function clientOf({ url, applicationName }: ConnectOptions, more: object = {}): pg.Client {
  const common = { connectionString: url, application_name: applicationName, connectionTimeoutMillis: 5_000 };
  const client = new pg.Client({ ...common, ...more });
  client.on("error", () => {}); // the statement under way fails with it
  return client;
}

async function* pages(
  reader: pg.Client,
  table: string,
  since: Date | null,
): AsyncGenerator<LoggedValues[], void, undefined> {
  try {
    await reader.query(
      `DECLARE outbox NO SCROLL CURSOR FOR
       SELECT event_id::text, aggregate_type::text, aggregate_id::text, type::text, payload::text, occurred_at::text
       FROM ${table} ${since === null ? "" : `WHERE (occurred_at IS NULL OR occurred_at >= ${pg.escapeLiteral(since.toISOString())})`} ORDER BY ${table}.occurred_at, ctid`,
    );
    for (;;) {
      const { rows } = await reader.query<Record<string, string | null>>(`FETCH ${PAGE_ROWS} FROM outbox`);
      if (rows.length === 0) return;
      yield rows.map(
        (row) => new Map(Object.entries(row).map(([name, text]) => [name, text === null ? null : Buffer.from(text)])),
      );
    }
  } catch (error) {
    throw storeError(error);
  }
}
