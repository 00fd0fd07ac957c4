/**
 * What a table of the app refuses, for Postgres in memory: its unique keys, and whatever else its columns would not take.
 */
import type { RowEffect } from "../actors/effects.ts";
import { LockstepError } from "../errors.ts";

export interface TableShape {
  /** Unique keys, each a list of columns; the primary key too. */
  readonly unique?: readonly (readonly string[])[];
  /** Why Postgres would refuse the row, or null. */
  readonly refuses?: (
    row: Readonly<Record<string, unknown>>,
  ) => { readonly sqlstate: string; readonly message: string } | null;
}

/** @throws {LockstepError} ROW_REFUSED */
export function checkRow({ table, row }: RowEffect, shape: TableShape): void {
  const refusal = shape.refuses?.(row) ?? null;
  if (refusal === null) return;
  throw new LockstepError("ROW_REFUSED", `Postgres answered ${refusal.sqlstate} on ${table}: ${refusal.message}`, {
    details: { sqlstate: refusal.sqlstate, table },
  });
}

/** NULL is equal to nothing: a key with one in it is in nobody's way. */
export function keysOf({ table, row }: RowEffect, shape: TableShape): { text: string; values: readonly unknown[] }[] {
  return (shape.unique ?? []).flatMap((columns) => {
    const values = columns.map((column) => row[column] ?? null);
    if (values.includes(null)) return [];
    return [{ text: `${table} (${columns.join(", ")})=(${JSON.stringify(values)})`, values }];
  });
}
