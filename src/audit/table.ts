/**
 * A report for people: figures, then findings; and as JSON for programs.
 */
import Table from "cli-table3";

import { type AuditReport, FINDING_KINDS } from "./report.ts";

/** @returns text of several lines, without colours */
export function reportTable(report: AuditReport): string {
  const figures = plainTable(["figure", "count"], ["left", "right"]);
  for (const [name, count] of Object.entries(report.figures)) figures.push([words(name), count.toLocaleString("en")]);
  const total = Object.values(report.totals).reduce((sum, count) => sum + count, 0);
  const verdict = report.ok
    ? `${report.app}: no finding. Every effect follows from the input, once and in order.`
    : `${report.app}: ${total.toLocaleString("en")} findings.`;
  const parts = [figures.toString(), verdict];
  if (!report.ok) parts.push(totalsTable(report), findingsTable(report));
  return parts.join("\n");
}

/** @returns one JSON object, indented */
export function reportJson(report: AuditReport): string {
  return JSON.stringify(report, null, 2);
}

function totalsTable({ totals, findings }: AuditReport): string {
  const table = plainTable(["kind", "found", "listed"], ["left", "right", "right"]);
  for (const kind of FINDING_KINDS) {
    if (totals[kind] === 0) continue;
    table.push([words(kind), totals[kind].toLocaleString("en"), findings.filter((f) => f.kind === kind).length]);
  }
  return table.toString();
}

function findingsTable({ findings }: AuditReport): string {
  const table = plainTable(["kind", "where", "what"], ["left", "left", "left"], [12, 40, 90]);
  for (const { kind, where, text } of findings) table.push([words(kind), where, text]);
  return table.toString();
}

function plainTable(head: string[], colAligns: Array<"left" | "right">, colWidths?: number[]): Table.Table {
  return new Table({
    head,
    colAligns,
    style: { head: [], border: [] },
    ...(colWidths === undefined ? {} : { colWidths, wordWrap: true, wrapOnWordBoundary: false }),
  });
}

/** `outOfOrder` as `out of order`. */
function words(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}
