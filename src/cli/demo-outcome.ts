/**
 * The demo's end: whether the run proves what it should, and what is shown of it.
 */
import Table from "cli-table3";

import type { AuditReport } from "../audit/report.ts";
import type { AppTools, MeasuredOutput } from "./app-tools.ts";
import type { DemoOptions } from "./demo.ts";
import type { Fleet } from "./fleet.ts";
import { printJson } from "./output.ts";

interface Judged {
  readonly options: DemoOptions;
  readonly tools: AppTools;
  readonly relayed: boolean;
}

/** What a run of the demo gave. */
export interface Outcome {
  readonly report: AuditReport;
  readonly reader: string;
  /** `received`: records that it was measured on. None with --backlog. */
  readonly latencies: ReadonlyArray<
    MeasuredOutput & { readonly received: number; readonly percentiles: { p50: number; p99: number } | null }
  >;
  readonly rssMb: number;
  readonly fleet: Fleet;
  readonly drainedCleanly: boolean;
  /** With --backlog: how many records were drained in how many ms. */
  readonly drain: { records: number; ms: number } | null;
}

/** @returns sentences that say why it failed; none: all is proven */
export function judge({ options, tools, relayed }: Judged, outcome: Outcome): string[] {
  const { report, fleet, drainedCleanly } = outcome;
  const faults = [...tools.demo.faults(report)];
  for (const kind of ["lost", "doubled", "outOfOrder"])
    if (report.figures[kind] !== 0) faults.push(`${kind} is ${report.figures[kind]}`);
  for (const [kind, count] of Object.entries(report.totals)) {
    if (count > 0 && !["lost", "doubled", "outOfOrder"].includes(kind))
      faults.push(`the audit has ${count} findings of kind "${kind}"`);
  }
  if (!report.ok && faults.length === 0) faults.push("the audit is not clean");
  if (!drainedCleanly) faults.push("a process did not drain and exit with 0 after SIGTERM");
  for (const halt of fleet.halts()) faults.push(`halted: ${halt}`);
  for (const { name, figure, received, percentiles } of outcome.latencies) {
    const made = report.figures[figure];
    if (percentiles === null || received !== made)
      faults.push(`latency was measured on ${received} of ${made} ${name}s`);
  }
  if (options.chaos) {
    const { kills, pauses, takeovers, redoPublished, fenced, relayTakeovers } = fleet.counts;
    if (relayed && relayTakeovers === 0) faults.push("the relay was never taken over");
    if (kills < options.kills) faults.push(`only ${kills} of ${options.kills} kills were carried out`);
    if (pauses < 1) faults.push("no process was paused");
    if (takeovers === 0) faults.push("no shard was taken over");
    if (redoPublished + fenced === 0)
      faults.push("no redo was published and no owner was fenced: the faults hit nothing");
  }
  return faults;
}

/** On stdout: a table, or, with --json, one object. */
export function show({ options, tools }: Judged, outcome: Outcome, faults: readonly string[]): void {
  const { report, latencies, rssMb, fleet, drain, reader } = outcome;
  const { kills, pauses, takeovers, redoPublished, fenced, relayTakeovers } = fleet.counts;
  if (options.json) {
    printJson({
      ...report.figures,
      latencyMs: Object.fromEntries(latencies.map(({ name, percentiles }) => [name, percentiles])),
      rssMb,
      ...(options.chaos ? { kills, pauses, takeovers, relayTakeovers, redoPublished, fenced } : {}),
      ...(drain
        ? {
            drain: {
              records: drain.records,
              ms: Math.round(drain.ms),
              perSecond: Math.round((drain.records * 1000) / drain.ms),
            },
          }
        : {}),
      ok: faults.length === 0,
      ...(faults.length > 0 ? { faults, findings: report.findings } : {}),
    });
    for (const fault of faults) process.stderr.write(`FAILED: ${fault}\n`);
    return;
  }
  const table = new Table({ style: { head: [], border: [] }, colAligns: ["left", "right"] });
  for (const [name, value] of tools.demo.rows(report)) table.push([name, value]);
  for (const { name, percentiles } of latencies) {
    table.push(
      [`latency of a ${name}, p50`, `${percentiles?.p50 ?? "-"} ms`],
      [`latency of a ${name}, p99`, `${percentiles?.p99 ?? "-"} ms`],
    );
  }
  if (drain) table.push(["drained a second", String(Math.round((drain.records * 1000) / drain.ms))]);
  table.push(["memory of the processes, peak", `${rssMb} MB`]);
  if (options.chaos) {
    table.push(["kills", String(kills)], ["pauses", String(pauses)], ["shards taken over", String(takeovers)]);
    table.push(["relay taken over", String(relayTakeovers)]);
    table.push(["commits published from redo", String(redoPublished)], ["owners fenced", String(fenced)]);
  }
  for (const kind of ["lost", "doubled", "outOfOrder"]) table.push([kind, String(report.figures[kind])]);
  process.stdout.write(`${table.toString()}\n`);
  process.stdout.write(`outputs read by: ${reader}\n`);
  for (const finding of report.findings) process.stdout.write(`${finding.kind}: ${finding.text} (${finding.where})\n`);
  process.stdout.write(
    faults.length === 0 ? "exactly once, in order: proven\n" : `FAILED:\n${faults.map((f) => `  - ${f}`).join("\n")}\n`,
  );
}
