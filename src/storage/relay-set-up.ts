/**
 * What `migrate` makes for the relay, so that no row of the outbox table can escape it (docs/relay.md, "Start").
 *
 *   before the app's files    publication (of no table yet), row in lockstep.relay, slot
 *   in each file's transaction, and once more after the last    the table is added to the publication
 *
 * Invariants
 *   SU1  The publication is older than the slot, and the table is in it before a row can be: what is decoded finds both.
 *   SU2  Rows that were in the table before it was in the publication are noticed, and stop the relay until a resync.
 *   SU3  A slot that is not recorded as made was used by nobody, and is made again.
 *   SU4  A publication is only taken for ours when it sends every row, under the table's own name: partitions by their root, no row
 *        filter, no list of columns, no children by inheritance (their rows have names of their own).
 */
import { randomBytes } from "node:crypto";

import { LockstepError } from "../errors.ts";
import { sqlState } from "./pg-errors.ts";
import type { Client } from "./pool.ts";

export interface RelayPlan {
  readonly app: string;
  /** `schema.table`. */
  readonly table: string;
  readonly groupId: string;
}

/** SU4. Inserts alone; rows of partitions under the name of the table. */
export const PUBLISHED_AS = "WITH (publish = 'insert', publish_via_partition_root = true)";

/**
 * SU4, of a publication `p` and a table's row `m` of pg_publication_rel. Filter and columns by name, since Postgres 14 has neither.
 */
export const PUBLISHES_ALL_SQL = `(p.pubinsert
  AND (to_jsonb(m) ->> 'prqual') IS NULL AND (to_jsonb(m) ->> 'prattrs') IS NULL
  AND EXISTS (SELECT FROM pg_class c WHERE c.oid = m.prrelid
    AND CASE c.relkind WHEN 'p' THEN p.pubviaroot ELSE NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid) END))`;

type Run = (text: string) => Promise<unknown>;

/** Slot names are the whole server's; so each is new. */
export function freshSlotName(app: string): string {
  return `lockstep_${lower(app)}_${randomBytes(4).toString("hex")}`;
}

export function publicationName(app: string): string {
  return `lockstep_relay_${lower(app)}`;
}

function lower(app: string): string {
  return app
    .toLowerCase()
    .replaceAll(/[^a-z0-9_]/g, "_")
    .slice(0, 40);
}

/**
 * @param run executes a statement with the patience of a migration: making a slot waits for transactions under way
 * @throws {LockstepError} DATABASE_UNSUITABLE the server or the role cannot do it
 */
export async function setUpRelay(client: Client, plan: RelayPlan, run: Run): Promise<void> {
  const { app, table, groupId } = plan;
  const { rows: found } = await client.query<{ slot: string; made: boolean; outbox_table: string }>(
    "SELECT slot, slot_lsn IS NOT NULL AS made, outbox_table FROM lockstep.relay WHERE app = $1",
    [app],
  );
  if (found[0]?.made) {
    if (found[0].outbox_table === table) return;
    throw new LockstepError(
      "DATABASE_UNSUITABLE",
      `The relay of ${app} was set up for ${found[0].outbox_table}, and the app now names ${table} as its outbox table. Keep the table's name.`,
    );
  }
  await assertCapable(client);
  const publication = publicationName(app);
  const slot = found[0]?.slot ?? freshSlotName(app);
  const { rows: there } = await client.query("SELECT FROM pg_publication WHERE pubname = $1", [publication]);
  if (there.length === 0) await run(`CREATE PUBLICATION ${publication} ${PUBLISHED_AS}`);
  await client.query(
    `INSERT INTO lockstep.relay (app, outbox_table, group_id, system_identifier, publication, publication_oid, slot)
     SELECT $1, $2, $3, system_identifier::text, $4::text, (SELECT oid FROM pg_publication WHERE pubname = $4::text), $5 FROM pg_control_system()
     ON CONFLICT (app) DO NOTHING`,
    [app, table, groupId, publication, slot],
  );
  // SU3.
  await run(`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '${slot}'`);
  await run(`SELECT pg_create_logical_replication_slot('${slot}', 'pgoutput')`);
  await client.query(
    "UPDATE lockstep.relay SET slot_lsn = (SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = slot) WHERE app = $1",
    [app],
  );
}

/**
 * SU1, SU2. In a transaction; does nothing while the table is not there, or when it is in the publication already.
 * @throws what the server answers
 */
export async function publishTable(client: Client, { app, table }: RelayPlan): Promise<void> {
  const { rows } = await client.query<{ publication: string; there: boolean; member: boolean }>(
    `SELECT publication, to_regclass($2) IS NOT NULL AS there,
       EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
               WHERE p.pubname = publication AND r.prrelid = to_regclass($2)) AS member
     FROM lockstep.relay WHERE app = $1`,
    [app, table],
  );
  const [row] = rows;
  if (!row?.there || row.member) return;
  // Whoever writes it now is waited for, and counted below; whoever comes later finds the table published.
  await client.query(`LOCK TABLE ${table} IN SHARE ROW EXCLUSIVE MODE`);
  await client.query(`ALTER PUBLICATION ${row.publication} ADD TABLE ${table}`);
  await client.query(
    `UPDATE lockstep.relay SET
       member_oid = (SELECT r.oid FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
                     WHERE p.pubname = publication AND r.prrelid = to_regclass($2)),
       resync_reason = CASE WHEN member_oid IS NOT NULL THEN 'the table was taken out of the publication, or made anew'
                            WHEN EXISTS (SELECT FROM ${table}) THEN 'there were rows before the relay was set up' END
     WHERE app = $1`,
    [app, table],
  );
}

async function assertCapable(client: Client): Promise<void> {
  const { rows } = await client.query<{ wal_level: string; may: boolean; role: string }>(
    `SELECT current_setting('wal_level') AS wal_level, rolreplication OR rolsuper AS may, rolname AS role
     FROM pg_roles WHERE rolname = current_user`,
  );
  const { wal_level, may, role } = rows[0]!;
  const faults = [
    ...(wal_level === "logical"
      ? []
      : [`wal_level is ${wal_level}: the relay reads the log, so set it to logical and restart the server`]),
    ...(may ? [] : [`role ${role} lacks REPLICATION: ALTER ROLE ${role} REPLICATION`]),
  ];
  if (faults.length > 0) {
    throw new LockstepError(
      "DATABASE_UNSUITABLE",
      `The relay cannot be set up: ${faults.join("; ")}. LOCKSTEP_RELAY=off does without it.`,
      { details: { faults } },
    );
  }
}

/** @returns whether a failure of `run` is one of the role or the server's limits, and what to do */
export function setUpFault(error: unknown): LockstepError | null {
  const state = sqlState(error);
  const cure: Readonly<Record<string, string>> = {
    "53400": "raise max_replication_slots and restart the server",
    "42501": "the role needs REPLICATION, CREATE in the database and ownership of the outbox table",
  };
  const how = state === null ? undefined : cure[state];
  return how === undefined
    ? null
    : new LockstepError(
        "DATABASE_UNSUITABLE",
        `The relay cannot be set up (${state}: ${(error as Error).message}): ${how}. LOCKSTEP_RELAY=off does without it.`,
        { cause: error },
      );
}
