/**
 * Rows of the app: one INSERT per table and set of columns, with the rows as one JSON parameter.
 *
 * Postgres itself turns the JSON values into the column types, so a decimal or a 64-bit integer written as a string stays
 * exact. Names are taken as they stand (`app.orders` is "app"."orders"), so nothing in a name can become SQL.
 *
 * Rows of one table go in together, in their order; tables in the order in which they first appear. A foreign key that this
 * order breaks must be DEFERRABLE INITIALLY DEFERRED.
 */
import pg from "pg";

import type { RowEffect } from "../actors/effects.ts";
import { LockstepError } from "../errors.ts";

export interface Insert {
  readonly text: string;
  /** The rows, a JSON array: the statement's only parameter. */
  readonly rows: string;
}

/** @throws {LockstepError} SCHEMA_REFUSED for a table name that is not `table` or `schema.table`, or a row without columns */
export function insertsOf(rows: readonly RowEffect[]): Insert[] {
  const groups = new Map<string, { table: string; columns: string[]; rows: unknown[] }>();
  for (const { table, row } of rows) {
    const columns = Object.keys(row).sort();
    const id = JSON.stringify([table, columns]);
    const group = groups.get(id);
    if (group) group.rows.push(row);
    else groups.set(id, { table, columns, rows: [row] });
  }
  return [...groups.values()].map((group) => ({
    text: insertText(group.table, group.columns),
    rows: JSON.stringify(group.rows),
  }));
}

function insertText(table: string, columns: readonly string[]): string {
  const parts = table.split(".");
  if (parts.length > 2 || parts.includes("") || columns.length === 0) {
    throw new LockstepError(
      "SCHEMA_REFUSED",
      columns.length === 0
        ? `A row for ${table} has no columns.`
        : `"${table}" is no table name: write "table" or "schema.table".`,
      { details: { table } },
    );
  }
  const into = parts.map((part) => pg.escapeIdentifier(part)).join(".");
  const names = columns.map((column) => pg.escapeIdentifier(column)).join(", ");
  return `INSERT INTO ${into} (${names}) SELECT ${names} FROM json_populate_recordset(NULL::${into}, $1::json)`;
}
