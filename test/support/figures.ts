/**
 * Figures of a long test, for the table at its end: a line of JSON each, in the file that the script of the suite names
 * (TEST_FIGURES). Without one nothing is written.
 */
import { appendFileSync } from "node:fs";

export type Figures = Readonly<Record<string, string | number>>;

export function noteFigures(figures: Figures): void {
  const file = process.env["TEST_FIGURES"];
  if (file) appendFileSync(file, `${JSON.stringify(figures)}\n`);
}
