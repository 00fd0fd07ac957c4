/**
 * What happened in a simulation, line by line. Two runs of one seed must have the same lines, which their hash tells.
 */
import { fnv1a } from "./random.ts";
import type { Schedule } from "./schedule.ts";

/** Lines kept for whoever asks why a run failed, unless all are. */
const LINES_KEPT = 2_000;

export interface Trace {
  note(who: string, what: string, outcome?: string): void;
  /** Hex, of all lines so far. */
  hash(): string;
  /** The latest lines. */
  lines(): readonly string[];
  readonly count: number;
}

export function createTrace(schedule: Schedule, options: { readonly keepAll?: boolean } = {}): Trace {
  const lines: string[] = [];
  let hashed = 0x811c9dc5;
  let count = 0;
  return {
    note(who, what, outcome = "") {
      const line = `${schedule.nowMs.toFixed(3)} ${who} ${what}${outcome === "" ? "" : ` -> ${outcome}`}`;
      hashed = fnv1a(line, hashed);
      count += 1;
      lines.push(line);
      if (!options.keepAll && lines.length >= 2 * LINES_KEPT) lines.splice(0, LINES_KEPT);
    },
    hash: () => (hashed >>> 0).toString(16).padStart(8, "0"),
    lines: () => lines,
    get count() {
      return count;
    },
  };
}
