/**
 * Is this database fit to hold commits? Asked at start, so that what would lose a commit later is said in a sentence now.
 */
import { type Pool, query } from "./pool.ts";

/** The oldest major version that is tested. */
const VERSION_MIN = 14;

/** Values of synchronous_commit under which an acknowledged commit is on disk here, and on the standby where one is waited for. */
const SYNCHRONOUS = new Set(["on", "remote_apply"]);

/**
 * @param options.unsafe  lets settings pass that lose commits when the server crashes: for trials on a laptop
 * @returns what is wrong, each a sentence with its cure; none when the database is fit
 * @throws {LockstepError} STORE_UNAVAILABLE it does not answer
 */
export async function databaseFaults(pool: Pool, { unsafe }: { unsafe: boolean }): Promise<string[]> {
  const settings = await readSettings(pool);
  const faults: string[] = [];
  if (settings.version < VERSION_MIN * 10_000) {
    faults.push(
      `Postgres ${Math.floor(settings.version / 10_000)} is older than ${VERSION_MIN}, the oldest that is tested.`,
    );
  }
  if (settings.standby) faults.push("The server is a standby: it takes no writes. Connect to the primary.");
  else if (settings.read_only !== "off")
    faults.push("default_transaction_read_only is on: nothing can be committed. Turn it off.");
  if (!unsafe) {
    const loses = (setting: string, cure: string) =>
      `${setting}: a crash of the server can lose commits that it acknowledged. ${cure}, or start with --unsafe.`;
    if (settings.fsync !== "on") faults.push(loses("fsync is off", "Turn it on"));
    if (settings.full_page_writes !== "on") faults.push(loses("full_page_writes is off", "Turn it on"));
    if (!SYNCHRONOUS.has(settings.synchronous_commit)) {
      faults.push(loses(`synchronous_commit is ${settings.synchronous_commit}`, "Set it to on or remote_apply"));
    }
  }
  faults.push(...(await missingPrivileges(pool)));
  return faults;
}

type Settings = {
  version: number;
  standby: boolean;
  read_only: string;
  fsync: string;
  full_page_writes: string;
  synchronous_commit: string;
};

async function readSettings(pool: Pool): Promise<Settings> {
  const { rows } = await query<Settings>(
    pool,
    `SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS standby,
       current_setting('default_transaction_read_only') AS read_only, current_setting('fsync') AS fsync,
       current_setting('full_page_writes') AS full_page_writes, current_setting('synchronous_commit') AS synchronous_commit`,
  );
  return rows[0]!;
}

/** Before the first migration: to make the schema. After it: to read and write its tables, and to call its functions. */
async function missingPrivileges(pool: Pool): Promise<string[]> {
  const { rows } = await query<{ missing: string }>(
    pool,
    `SELECT format('Role %I may not CREATE in database %I, which the first migration needs.', current_user, current_database()) AS missing
       WHERE to_regnamespace('lockstep') IS NULL AND NOT has_database_privilege(current_database(), 'CREATE')
     UNION ALL
     SELECT format('Role %I may not USE schema lockstep.', current_user)
       FROM pg_namespace WHERE nspname = 'lockstep' AND NOT has_schema_privilege(oid, 'USAGE')
     UNION ALL
     SELECT format('Role %I may not %s on table lockstep.%I.', current_user, privilege, relname)
       FROM pg_class, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
       WHERE relnamespace = to_regnamespace('lockstep') AND relkind = 'r' AND NOT has_table_privilege(pg_class.oid, privilege)
     UNION ALL
     SELECT format('Role %I may not EXECUTE function lockstep.%I.', current_user, proname)
       FROM pg_proc WHERE pronamespace = to_regnamespace('lockstep') AND NOT has_function_privilege(oid, 'EXECUTE')
     UNION ALL
     SELECT format('Role %I may not EXECUTE pg_control_system(), which names the Postgres cluster.', current_user)
       WHERE NOT has_function_privilege('pg_control_system()', 'EXECUTE')
     ORDER BY 1`,
  );
  return rows.map((row) => row.missing);
}
