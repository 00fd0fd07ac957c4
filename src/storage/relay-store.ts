/**
 * What the relay reads and notes in Postgres besides the log: its row, the server, the slot, and the rows to prune.
 *
 * Statements go through the session of the lock (`Ask`), so who is answered still had the lock; pruning and `relay status` ask through a pool.
 */
import type pg from "pg";

import { parseLsn } from "./lsn.ts";
import { freshSlotName, PUBLISHES_ALL_SQL } from "./relay-set-up.ts";

export type Ask = <R extends pg.QueryResultRow>(text: string, values?: readonly unknown[]) => Promise<R[]>;

/** The row of lockstep.relay. */
export interface RelayRow {
  readonly table: string;
  readonly groupId: string;
  readonly systemIdentifier: string;
  readonly publication: string;
  readonly slot: string;
  /** Where the slot began; null until `migrate` has made it. */
  readonly slotLsn: bigint | null;
  readonly started: boolean;
  readonly resyncReason: string | null;
}

export interface SlotState {
  readonly confirmed: bigint;
  /** From here on the server keeps its log for the slot: below `confirmed` by what was written since the oldest open transaction began. */
  readonly restart: bigint;
  /** reserved, extended, unreserved or lost. */
  readonly walStatus: string;
  /** Of the session that streams from it. */
  readonly activePid: number | null;
  readonly plugin: string;
  /** Bytes of log that may still be written before the slot is lost; null when there is no limit. */
  readonly safeBytes: bigint | null;
}

export interface Inspection {
  /** null: `migrate` has set up no relay. */
  readonly row: RelayRow | null;
  readonly server: { readonly systemIdentifier: string; readonly timeline: number; readonly flushed: bigint };
  readonly slot: SlotState | null;
  /** Publication and the table's membership are those recorded, and send every row under the table's name (SU4). */
  readonly published: boolean;
  /** -1: no limit. Megabytes. */
  readonly slotKeepMb: number;
}

type InspectionColumns = {
  system_identifier: string;
  timeline: number;
  flushed: string;
  keep_mb: string;
  row: {
    outbox_table: string;
    group_id: string;
    system_identifier: string;
    publication: string;
    slot: string;
    slot_lsn: string | null;
    started: boolean;
    resync_reason: string | null;
  } | null;
  slot: {
    confirmed: string | null;
    restart: string | null;
    wal_status: string | null;
    active_pid: number | null;
    plugin: string;
    safe: string | null;
  } | null;
  published: boolean;
};

const INSPECT_SQL = `
  SELECT c.system_identifier::text AS system_identifier,
    ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int AS timeline,
    pg_current_wal_flush_lsn()::text AS flushed,
    (SELECT setting FROM pg_settings WHERE name = 'max_slot_wal_keep_size') AS keep_mb,
    CASE WHEN r.app IS NOT NULL THEN json_build_object(
      'outbox_table', r.outbox_table, 'group_id', r.group_id, 'system_identifier', r.system_identifier, 'publication', r.publication,
      'slot', r.slot, 'slot_lsn', r.slot_lsn::text, 'started', r.started_at IS NOT NULL, 'resync_reason', r.resync_reason) END AS row,
    CASE WHEN s.slot_name IS NOT NULL THEN json_build_object(
      'confirmed', s.confirmed_flush_lsn::text, 'restart', s.restart_lsn::text, 'wal_status', s.wal_status, 'active_pid', s.active_pid, 'plugin', s.plugin,
      'safe', s.safe_wal_size::text) END AS slot,
    EXISTS (SELECT FROM pg_publication p JOIN pg_publication_rel m ON m.prpubid = p.oid
      WHERE p.pubname = r.publication AND p.oid = r.publication_oid AND m.oid = r.member_oid
        AND m.prrelid = to_regclass(r.outbox_table) AND ${PUBLISHES_ALL_SQL}) AS published
  FROM pg_control_system() c
  LEFT JOIN lockstep.relay r ON r.app = $1
  LEFT JOIN pg_replication_slots s ON s.slot_name = r.slot AND s.database = current_database()`;

export async function inspectRelay(ask: Ask, app: string): Promise<Inspection> {
  const [found] = await ask<InspectionColumns>(INSPECT_SQL, [app]);
  const { row, slot, system_identifier, timeline, flushed, published, keep_mb } = found!; // one row: pg_control_system
  return {
    row: row && {
      table: row.outbox_table,
      groupId: row.group_id,
      systemIdentifier: row.system_identifier,
      publication: row.publication,
      slot: row.slot,
      slotLsn: row.slot_lsn === null ? null : parseLsn(row.slot_lsn),
      started: row.started,
      resyncReason: row.resync_reason,
    },
    server: { systemIdentifier: system_identifier, timeline, flushed: parseLsn(flushed) },
    slot: slot && {
      confirmed: parseLsn(slot.confirmed ?? "0/0"),
      restart: parseLsn(slot.restart ?? slot.confirmed ?? "0/0"), // null: lost, and nothing is kept
      walStatus: slot.wal_status ?? "lost",
      activePid: slot.active_pid,
      plugin: slot.plugin,
      safeBytes: slot.safe === null ? null : BigInt(slot.safe),
    },
    published,
    slotKeepMb: Number(keep_mb),
  };
}

/** The first position stands in Kafka: from now on a missing one is a loss, not a beginning. */
export async function markStarted(ask: Ask, app: string): Promise<void> {
  await ask("UPDATE lockstep.relay SET started_at = now() WHERE app = $1 AND started_at IS NULL", [app]);
}

/** Drops what an interrupted or finished resync has left; one that is in use is left for the next time. */
export async function dropStraySlots(ask: Ask, app: string, { keep = null as string | null } = {}): Promise<void> {
  await ask(
    `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
     WHERE slot_name = ANY ((SELECT stray_slots FROM lockstep.relay WHERE app = $1)::text[]) AND NOT active
       AND slot_name <> (SELECT slot FROM lockstep.relay WHERE app = $1) AND slot_name IS DISTINCT FROM $2::text`,
    [app, keep],
  );
  await ask(
    `UPDATE lockstep.relay SET stray_slots = ARRAY(SELECT slot_name::text FROM pg_replication_slots WHERE slot_name = ANY (stray_slots))
     WHERE app = $1 AND stray_slots <> '{}'`,
    [app],
  );
}

/** Ends the session that streams from the slot, if there is one. Only for who has the lock. */
export async function endSlotSession(ask: Ask, slot: string): Promise<void> {
  await ask(
    "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL",
    [slot],
  );
}

/** Notes a slot that is about to be made, so that it is dropped should nothing come of it. @returns its name */
export async function noteNewSlot(ask: Ask, app: string): Promise<string> {
  const slot = freshSlotName(app);
  await ask("UPDATE lockstep.relay SET stray_slots = array_append(stray_slots, $2::text) WHERE app = $1", [app, slot]);
  return slot;
}

/** The commit point of a resync: from now on the new slot is the relay's, and the old one a stray. */
export async function adoptSlot(
  ask: Ask,
  app: string,
  { slot, slotLsn, groupId }: { slot: string; slotLsn: string; groupId: string },
): Promise<void> {
  await ask(
    `UPDATE lockstep.relay r SET slot = $2::text, slot_lsn = $3::pg_lsn, group_id = $4, started_at = now(), resync_reason = NULL,
       system_identifier = (SELECT system_identifier::text FROM pg_control_system()),
       publication_oid = (SELECT oid FROM pg_publication WHERE pubname = r.publication),
       member_oid = (SELECT m.oid FROM pg_publication_rel m JOIN pg_publication p ON p.oid = m.prpubid
                     WHERE p.pubname = r.publication AND m.prrelid = to_regclass(r.outbox_table)),
       stray_slots = array_append(array_remove(stray_slots, $2::text), slot)
     WHERE app = $1`,
    [app, slot, slotLsn, groupId],
  );
}

const PRUNE_ROWS = 5_000;

export interface PruneCandidates {
  readonly ids: readonly string[];
  /** Every candidate was committed below. */
  readonly endLsn: bigint;
}

/** Rows that occurred before, and, read AFTER them, the end of the log: they lie below it. */
export async function pruneCandidates(ask: Ask, table: string, occurredBefore: Date): Promise<PruneCandidates> {
  const rows = await ask<{ id: string }>(
    `SELECT event_id::text AS id FROM ${table} WHERE occurred_at < $1 LIMIT ${PRUNE_ROWS}`,
    [occurredBefore.toISOString()],
  );
  const [end] = await ask<{ lsn: string }>("SELECT pg_current_wal_insert_lsn()::text AS lsn");
  return { ids: rows.map(({ id }) => id), endLsn: parseLsn(end!.lsn) };
}

/** Only once E has reached the candidates' `endLsn`. @returns rows deleted */
export async function pruneRows(ask: Ask, table: string, ids: readonly string[]): Promise<number> {
  const rows = await ask(`DELETE FROM ${table} WHERE event_id = ANY ($1::uuid[]) RETURNING 1`, [ids]);
  return rows.length;
}
