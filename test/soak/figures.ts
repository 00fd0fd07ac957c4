/**
 * What a soak gave, and whether that is good enough.
 */
import Table from "cli-table3";

import type { Counts } from "./counts.ts";
import { FAULT_KINDS, type FaultKind } from "./schedule.ts";

/** Of one kind. `hit`: it was seen to have had its effect (faults.ts). */
export interface FaultCount {
  readonly planned: number;
  readonly carriedOut: number;
  readonly hit: number;
}

export interface Figures {
  readonly seed: number;
  /** Wished for, and how long faults and load lasted. */
  readonly minutes: number;
  readonly seconds: number;
  readonly faults: Readonly<Record<FaultKind, FaultCount>>;
  /** Sent and acknowledged; `late` ones are among the distinct. */
  readonly records: number;
  readonly duplicates: number;
  readonly late: number;
  readonly poison: number;
  readonly decisions: number;
  readonly orders: number;
  readonly publishedByRelay: number;
  readonly commits: number;
  readonly counts: Counts;
  readonly instancesStarted: number;
  /** See pauses.ts. `during`: the faults that were under way. */
  readonly longestPause: { readonly ms: number; readonly key: string; readonly during: readonly string[] } | null;
  readonly pauseMs: { readonly p50: number; readonly p99: number } | null;
  /** Decisions that the pauses were measured on. */
  readonly pausesOf: number;
  readonly lagMax: number;
  /** From the end of the faults and of the load on; null: not within `LAG_ZERO_SECONDS_MAX`. */
  readonly secondsToLagZero: number | null;
  readonly memoryMb: number;
  readonly lost: number;
  readonly doubled: number;
  readonly outOfOrder: number;
  readonly auditClean: boolean;
  readonly findings: readonly string[];
  readonly reader: string;
  /** SIGTERM at the end: every process drained and exited with 0. */
  readonly drained: boolean;
}

/** A rebalance, replays and what waits then; on an idle machine a few seconds. */
export const LAG_ZERO_SECONDS_MAX = 120;

/** Figures that show nothing when they are 0. */
const ABOVE_ZERO = ["records", "duplicates", "late", "poison", "decisions", "orders", "publishedByRelay"] as const;

/** @returns sentences; none: all is shown */
export function faultsOf(figures: Figures): string[] {
  const faults: string[] = [];
  for (const kind of ["lost", "doubled", "outOfOrder"] as const)
    if (figures[kind] !== 0) faults.push(`${kind} is ${figures[kind]}`);
  if (!figures.auditClean) faults.push(`the audit is not clean: ${figures.findings.slice(0, 5).join("; ")}`);
  if (figures.secondsToLagZero === null)
    faults.push(`the lag was not 0 within ${LAG_ZERO_SECONDS_MAX} s after the faults had ended`);
  if (!figures.drained) faults.push("a process did not drain and exit with 0 after SIGTERM");
  for (const kind of FAULT_KINDS) {
    const { carriedOut, hit } = figures.faults[kind];
    if (hit === 0) faults.push(`no fault of kind ${kind} had its effect (${carriedOut} were carried out)`);
  }
  for (const name of ABOVE_ZERO)
    if (!(figures[name] > 0)) faults.push(`${name} is ${figures[name]}: the run shows nothing about it`);
  const { redoPublished, fenced, takeovers } = figures.counts;
  if (takeovers === 0) faults.push("no shard was taken over");
  if (redoPublished === 0)
    faults.push("no commit was published from redo: the faults hit nothing between the two commits");
  if (fenced === 0) faults.push("no owner was fenced");
  if (figures.pausesOf !== figures.decisions)
    faults.push(`pauses were measured on ${figures.pausesOf} of ${figures.decisions} decisions`);
  return faults;
}

export function table(figures: Figures): string {
  const { counts, longestPause, pauseMs } = figures;
  const rows = new Table({ style: { head: [], border: [] }, colAligns: ["left", "right"] });
  rows.push(["seed", String(figures.seed)], ["faults and load", `${figures.seconds} s`]);
  for (const kind of FAULT_KINDS) {
    const { planned, carriedOut, hit } = figures.faults[kind];
    rows.push([`  ${kind}`, `${hit} hit, ${carriedOut} of ${planned} carried out`]);
  }
  const during = longestPause && longestPause.during.length > 0 ? `, during ${longestPause.during.join(", ")}` : "";
  rows.push(
    ["records", String(figures.records)],
    ["  duplicates, late, poison", `${figures.duplicates}, ${figures.late}, ${figures.poison}`],
    ["decisions, orders", `${figures.decisions}, ${figures.orders}`],
    ["published by the relay", String(figures.publishedByRelay)],
    ["commits", String(figures.commits)],
    ["processes started", String(figures.instancesStarted)],
    ["shards taken over", String(counts.takeovers)],
    ["relay taken over", String(counts.relayTakeovers)],
    ["commits published from redo", String(counts.redoPublished)],
    ["owners fenced", String(counts.fenced)],
    ["acquired again, outcome unknown", String(counts.restored)],
    ["replays", String(counts.replays)],
    ["longest pause of a key", longestPause ? `${longestPause.ms} ms (${longestPause.key}${during})` : "-"],
    ["pause of a key, p50, p99", pauseMs ? `${pauseMs.p50} ms, ${pauseMs.p99} ms` : "-"],
    ["greatest lag", `${figures.lagMax} records`],
    [
      "faults off, until the lag was 0",
      figures.secondsToLagZero === null
        ? `more than ${LAG_ZERO_SECONDS_MAX} s`
        : `${figures.secondsToLagZero} s (at most ${LAG_ZERO_SECONDS_MAX})`,
    ],
    ["memory of the processes, peak", `${figures.memoryMb} MB`],
    ["lost", String(figures.lost)],
    ["doubled", String(figures.doubled)],
    ["outOfOrder", String(figures.outOfOrder)],
  );
  return `${rows.toString()}\noutputs read by: ${figures.reader}`;
}
