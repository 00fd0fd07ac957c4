/**
 * What a run of the overload test measured, and whether that is good enough.
 */
import Table from "cli-table3";

/** Rates in records a second, memory in MB (2^20 bytes) of resident memory of the process under test. */
export interface Figures {
  readonly seconds: number;
  /** Each way. */
  readonly delayMs: number;
  /** Committed while four times as much was offered, before the overload. */
  readonly capacityPerSecond: number;
  readonly wantedPerSecond: number;
  readonly offeredPerSecond: number;
  /** During the overload. */
  readonly committedPerSecond: number;
  /** Half the capacity, and the records that waited in the end. */
  readonly steadyPerSecond: number;
  readonly steadyLag: number;
  /** When it had come to rest (rest.ts), how long that took, and whether it did. */
  readonly steadyMb: number;
  readonly steadySeconds: number;
  readonly atRest: boolean;
  /** From the begin of the overload until the lag was 0. */
  readonly peakMb: number;
  readonly lagMax: number;
  /** From the end of the overload on. */
  readonly secondsToLagZero: number;
  /** Meanwhile. */
  readonly drainedPerSecond: number;
  readonly records: number;
  readonly lost: number;
  readonly doubled: number;
  readonly outOfOrder: number;
  readonly auditClean: boolean;
  readonly findings: readonly string[];
  /** SIGTERM: the process drained and exited with 0. */
  readonly drained: boolean;
}

export const MEMORY_RATIO_MAX = 1.5;
/** Of the overload's length. */
export const RECOVERY_RATIO_MAX = 2;
/** More seconds' worth of records waiting than this: it did not keep up, so nothing was steady. */
export const STEADY_LAG_SECONDS_MAX = 10;
/** Less than this share of what was wanted is not the overload that was to be shown. */
export const OFFERED_SHARE_MIN = 0.95;
/** Less than so many times what it committed meanwhile was offered: its capacity was measured while something else held it up. */
export const OVERLOAD_RATIO_MIN = 2;

/** @returns sentences; none: all is shown */
export function faultsOf(figures: Figures): string[] {
  const { offeredPerSecond, wantedPerSecond, secondsToLagZero, seconds, steadyMb, peakMb } = figures;
  const faults: string[] = [];
  if (offeredPerSecond < wantedPerSecond * OFFERED_SHARE_MIN)
    faults.push(
      `only ${offeredPerSecond} records/s were offered, ${wantedPerSecond} were wanted: the sender or the broker is too slow`,
    );
  if (!(figures.capacityPerSecond > 0)) faults.push("no capacity was measured, so nothing was offered");
  if (offeredPerSecond < figures.committedPerSecond * OVERLOAD_RATIO_MIN)
    faults.push(
      `no overload: ${offeredPerSecond} records/s were offered and ${figures.committedPerSecond} committed; the machine was too busy when the capacity was measured`,
    );
  if (!(steadyMb > 0)) faults.push("the memory of the process cannot be read here (no /proc)");
  if (figures.steadyLag > figures.steadyPerSecond * STEADY_LAG_SECONDS_MAX)
    faults.push(
      `at half its capacity (${figures.steadyPerSecond} records/s) it did not keep up: ${figures.steadyLag} records waited in the end`,
    );
  if (!figures.atRest)
    faults.push(`at half its capacity its memory still rose after ${figures.steadySeconds} s: nothing was steady`);
  if (peakMb > steadyMb * MEMORY_RATIO_MAX)
    faults.push(
      `memory rose to ${peakMb} MB, ${ratioOf(figures)} times the ${steadyMb} MB of steady work; ${MEMORY_RATIO_MAX} are allowed`,
    );
  if (secondsToLagZero > seconds * RECOVERY_RATIO_MAX)
    faults.push(`the lag was 0 only after ${secondsToLagZero} s; ${seconds * RECOVERY_RATIO_MAX} s are allowed`);
  for (const kind of ["lost", "doubled", "outOfOrder"] as const)
    if (figures[kind] !== 0) faults.push(`${kind} is ${figures[kind]}`);
  if (!figures.auditClean) faults.push(`the audit is not clean: ${figures.findings.slice(0, 5).join("; ")}`);
  if (!figures.drained) faults.push("the process did not drain and exit with 0 after SIGTERM");
  return faults;
}

/** Of peak to steady memory, two decimals. */
export function ratioOf({ peakMb, steadyMb }: Pick<Figures, "peakMb" | "steadyMb">): number {
  return Math.round((peakMb / steadyMb) * 100) / 100;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 0;
}

export function table(figures: Figures): string {
  const rows = new Table({ style: { head: [], border: [] }, colAligns: ["left", "right"] });
  rows.push(
    ["Postgres answers late by", `${2 * figures.delayMs} ms`],
    ["capacity", `${figures.capacityPerSecond} records/s`],
    ["offered", `${figures.offeredPerSecond} records/s for ${figures.seconds} s`],
    ["committed meanwhile", `${figures.committedPerSecond} records/s`],
    ["greatest lag", `${figures.lagMax} records`],
    ["until the lag was 0", `${figures.secondsToLagZero} s (at most ${figures.seconds * RECOVERY_RATIO_MAX})`],
    ["drained", `${figures.drainedPerSecond} records/s`],
    ["waiting, at half the capacity", `${figures.steadyLag} records`],
    ["memory, steady", `${figures.steadyMb} MB, at rest after ${figures.steadySeconds} s`],
    ["memory, peak", `${figures.peakMb} MB (x ${ratioOf(figures)}, at most ${MEMORY_RATIO_MAX})`],
    ["records", String(figures.records)],
    ["lost", String(figures.lost)],
    ["doubled", String(figures.doubled)],
    ["outOfOrder", String(figures.outOfOrder)],
  );
  return rows.toString();
}
