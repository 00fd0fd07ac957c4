/**
 * What a failure of Postgres means: the one place where SQLSTATEs and driver errors become errors of errors.ts.
 *
 *   SQLSTATE                                     a statement of ours     a row of the app (or COMMIT after one)
 *   LK001 / LK002 / LK003                        SHARD_LOST / STORE_WENT_BACK / INVARIANT_BROKEN
 *   08 25 28 3D 40 53 55 57 58 XX, no SQLSTATE   STORE_UNAVAILABLE       STORE_UNAVAILABLE
 *   23505                                        INVARIANT_BROKEN        ID_COLLISION; shard-store.ts tells keys of the app
 *   22 23 44 54 P0001                            INVARIANT_BROKEN        ROW_REFUSED
 *   3F, undefined table, column or function      NOT_MIGRATED            SCHEMA_REFUSED
 *   42501                                        DATABASE_UNSUITABLE     SCHEMA_REFUSED
 *   any other                                    INVARIANT_BROKEN        SCHEMA_REFUSED
 *
 * An error without a SQLSTATE comes from the driver: the connection broke, could not be made, or did not answer in time.
 * Whether COMMIT had been sent by then is not known here: transaction.ts turns the outcome into COMMIT_UNKNOWN.
 */
import pg from "pg";

import { type ErrorCode, isLockstepError, LockstepError } from "../errors.ts";

/** Whose statement failed: one of ours, or one that writes rows of the app. */
export type Author = "lockstep" | "app";

/** @returns the SQLSTATE when the server itself answered with an error, else null */
export function sqlState(error: unknown): string | null {
  return error instanceof pg.DatabaseError && error.code !== undefined ? error.code : null;
}

/** Translates an error of the driver, once; an error of ours is returned as it is. */
export function storeError(error: unknown, author: Author = "lockstep"): LockstepError {
  if (isLockstepError(error)) return error as LockstepError;
  const state = sqlState(error);
  if (state === null) {
    return new LockstepError("STORE_UNAVAILABLE", `The connection to Postgres failed: ${describe(error)}`, {
      cause: error,
    });
  }
  const { message, detail, hint, schema, table, column, constraint } = error as pg.DatabaseError;
  const details = { sqlstate: state, message, detail, hint, schema, table, column, constraint };
  const given = Object.fromEntries(Object.entries(details).filter(([, value]) => value !== undefined));
  const on = table === undefined ? "" : ` on ${schema ?? "?"}.${table}`;
  const sentence = state.startsWith("LK") ? message : `Postgres answered ${state}${on}: ${message}`;
  return new LockstepError(codeOf(state, author), sentence, { details: given, cause: error });
}

const OWN_STATES: Readonly<Record<string, ErrorCode>> = {
  LK001: "SHARD_LOST",
  LK002: "STORE_WENT_BACK",
  LK003: "INVARIANT_BROKEN",
  "42P01": "NOT_MIGRATED",
  "42703": "NOT_MIGRATED",
  "42883": "NOT_MIGRATED",
  "3F000": "NOT_MIGRATED",
  "42501": "DATABASE_UNSUITABLE",
};

/** Classes that speak of the server or of other transactions, never of the statement: nothing happened, later it may go. */
const UNAVAILABLE_CLASSES = new Set(["08", "25", "28", "3D", "40", "53", "55", "57", "58", "XX"]);

/** Data, integrity, WITH CHECK OPTION, limits (an index row too long), and what a trigger raises. */
const ROW_CLASSES = new Set(["22", "23", "44", "54"]);

function codeOf(state: string, author: Author): ErrorCode {
  const own = OWN_STATES[state];
  if (own !== undefined && (author === "lockstep" || state.startsWith("LK"))) return own;
  const stateClass = state.slice(0, 2);
  if (state === "25P02") return "INVARIANT_BROKEN"; // a statement after one that failed: a bug of ours
  if (UNAVAILABLE_CLASSES.has(stateClass)) return "STORE_UNAVAILABLE";
  if (author === "lockstep") return "INVARIANT_BROKEN";
  if (state === "23505") return "ID_COLLISION";
  return ROW_CLASSES.has(stateClass) || state === "P0001" ? "ROW_REFUSED" : "SCHEMA_REFUSED";
}

/** Node's connect errors over several addresses have an empty message of their own. */
function describe(error: unknown): string {
  if (error instanceof AggregateError && error.message === "") return error.errors.map(describe).join("; ");
  return error instanceof Error ? error.message : String(error);
}
