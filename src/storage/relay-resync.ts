/**
 * What a resync needs of Postgres: a new slot, and the rows of the table exactly as of where that slot begins.
 */
import pg from "pg";

import { parseLsn } from "./lsn.ts";
import { storeError } from "./pg-errors.ts";
import type { LoggedValues } from "./pgoutput.ts";
import { PUBLISHED_AS, PUBLISHES_ALL_SQL } from "./relay-set-up.ts";
import type { Ask, RelayRow } from "./relay-store.ts";

export interface NewSlot {
  /** Where it begins: every database transaction is either seen by `rows` or sent by the slot, none by both. */
  readonly lsn: bigint;
  /** Its rows in pages, by the time they occurred; rows of one instant as they lie in the table, and those without a time last, whatever `since`. */
  rows(table: string, options: { since: Date | null }): AsyncGenerator<LoggedValues[], void, undefined>;
  close(): Promise<void>;
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

/** Makes the slot; its snapshot lasts until `close`. @throws {LockstepError} */
export async function createSlot(options: { url: string; applicationName: string; slot: string }): Promise<NewSlot> {
  const { url, applicationName, slot } = options;
  const common = { connectionString: url, application_name: applicationName, connectionTimeoutMillis: 5_000 };
  const maker = new pg.Client({ ...common, ...({ replication: "database" } as object) });
  const reader = new pg.Client(common);
  for (const client of [maker, reader]) client.on("error", () => {}); // the statement under way fails with it
  const close = async () => {
    await Promise.allSettled([reader.end(), maker.end()]);
  };
  try {
    await Promise.all([maker.connect(), reader.connect()]);
    await maker.query("SET statement_timeout = 0");
    await maker.query("SET idle_session_timeout = 0");
    const { rows } = await maker.query<{ consistent_point: string; snapshot_name: string }>(
      `CREATE_REPLICATION_SLOT ${pg.escapeIdentifier(slot)} LOGICAL pgoutput`,
    );
    const { consistent_point, snapshot_name } = rows[0]!;
    for (const statement of [
      "SET TimeZone = 'UTC'",
      "SET DateStyle = 'ISO, YMD'",
      "SET statement_timeout = 0",
      "SET idle_session_timeout = 0",
      "SET idle_in_transaction_session_timeout = 0",
      "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
      `SET TRANSACTION SNAPSHOT ${pg.escapeLiteral(snapshot_name)}`,
    ])
      await reader.query(statement);
    return { lsn: parseLsn(consistent_point), rows: (table, { since }) => pages(reader, table, since), close };
  } catch (error) {
    await close();
    throw storeError(error);
  }
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
