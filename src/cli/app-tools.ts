/**
 * What an app of this package may bring beside its definition (`tools.ts` in its folder): topics with their settings, a
 * generator of load, rules for the audit, and what the demo shows. The runtime knows nothing of it.
 */

import { existsSync } from "node:fs";
import { pathToFileURL } from "node:url";
import type { AuditReport } from "../audit/report.ts";
import type { AppRules } from "../audit/rules.ts";
import { LockstepError } from "../errors.ts";
import { type LoadedApp, toolsPath } from "../runtime/code.ts";

export interface WantedTopic {
  readonly name: string;
  readonly partitions: number;
  readonly config: Readonly<Record<string, string>>;
}

export interface GeneratedRecord {
  readonly topic: string;
  readonly partition?: number;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly timestampMs: number;
}

export interface LoadOptions {
  readonly seconds: number;
  readonly total?: number;
  readonly rate: number;
  readonly symbols: number;
  readonly speed: number;
  readonly duplicates: number;
  readonly late: number;
  readonly bad: number;
  readonly seed: number;
}

/** Counts of what was sent; further fields are the app's. */
export interface Manifest {
  readonly seed: number;
  readonly sent: {
    readonly total: number;
    readonly distinct: number;
    readonly duplicates: number;
    readonly late: number;
    readonly bad: number;
  };
}

export interface LoadRun {
  /** Sends everything. Resolves with the manifest. */
  run(io: {
    send(batch: readonly GeneratedRecord[]): Promise<void>;
    onProgress(progress: { sent: number; total: number; behindMs: number }): void;
    signal: AbortSignal;
  }): Promise<Manifest>;
  /** When the input that caused this output record was scheduled to be sent, wall ms; null when it cannot be said. */
  scheduledMs(output: { topic: string; timestampMs: number }): number | null;
}

export interface MeasuredOutput {
  readonly topic: string;
  /** One of them, as `decision`. */
  readonly name: string;
  /** Figure of the audit's report that says how many there are. */
  readonly figure: string;
  /** The relay writes it. */
  readonly relayed?: boolean;
}

export interface AppTools {
  readonly topics: readonly WantedTopic[];
  load(options: LoadOptions): LoadRun;
  /** @param options.relayed what the relay published is judged too */
  auditRules(options: { relayed: boolean }): AppRules;
  readonly demo: {
    /** Outputs whose end-to-end latency is measured. */
    readonly latencies: readonly MeasuredOutput[];
    /** Rows of the table, in order: figure and what it means. */
    rows(report: AuditReport): ReadonlyArray<readonly [name: string, value: string]>;
    /** Sentences that say why the demo failed although nothing is wrong with the commits: figures that must be above 0. */
    faults(report: AuditReport): string[];
  };
}

/** @throws {LockstepError} APP_NOT_LOADED when the app brings none */
export async function loadTools(loaded: LoadedApp): Promise<AppTools> {
  const path = toolsPath(loaded.path);
  if (!existsSync(path))
    throw new LockstepError(
      "APP_NOT_LOADED",
      `App "${loaded.app.name}" brings no tools (${path}): it has no generator and no audit rules.`,
    );
  const module = (await import(pathToFileURL(path).href)) as { tools?: AppTools };
  if (!module.tools) throw new LockstepError("APP_NOT_LOADED", `${path} does not export \`tools\`.`);
  return module.tools;
}
