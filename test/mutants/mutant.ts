/**
 * A mutant of the model check, made of the real code: rules of the protocol that are broken by replacing a few lines of a copy.
 *
 * Invariants
 *   M1  A patch fits its file exactly once. Where the code has moved on, it says so: a mutant is never left out in silence.
 *   M2  A mutant counts as found only by the finding that it names, in a seed that passes without it.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Apps of test/simulation. */
export type SimulatedAppName = "ledger" | "trading" | "visits";

export interface Patch {
  /** Path from the root. */
  readonly file: string;
  /** What is replaced. */
  readonly from: string;
  readonly to: string;
}

export interface Mutant {
  /** The name that the model check gives it (test/model). */
  readonly name: string;
  readonly model: "commit" | "recovery";
  /** What of the code is broken, and how, in words. */
  readonly what: string;
  readonly patches: readonly Patch[];
  readonly app: SimulatedAppName;
  /** Seeds 1 to n are run, until one fails. */
  readonly seedsMax: number;
  /** What the failure names, as `findingOf` has it: one of these. */
  readonly finds: readonly string[];
}

/**
 * What a fault of a simulated run names: an invariant ("I6"), "halt <code>", "not live", or "not drained".
 * @returns null for anything else, as a run that broke off: that is no finding but a broken harness
 */
export function findingOf(fault: string): string | null {
  const halt = /^shard \d+ halted in \S+: ([A-Z_]+|an unknown error):/.exec(fault);
  if (halt) return `halt ${halt[1]}`;
  if (fault.startsWith("not live: ")) return "not live";
  if (/^\S+ (?:did not stop|stopped without draining)$/.test(fault)) return "not drained";
  return /^(I\d+): /.exec(fault)?.[1] ?? null;
}

/** Why the patches do not fit the files below `root`, a sentence each; empty when they do (M1). */
export function misfits(root: string, patches: readonly Patch[]): string[] {
  return patches.flatMap(({ file, from, to }) => {
    const count = readFileSync(join(root, file), "utf8").split(from).length - 1;
    if (count !== 1)
      return [`${file} has ${count} times, and should have once: the code has moved on, mend the mutant:\n${from}`];
    return from === to ? [`a patch of ${file} changes nothing:\n${from}`] : [];
  });
}

/** @throws when one does not fit */
export function apply(root: string, patches: readonly Patch[]): void {
  for (const patch of patches) {
    const [misfit] = misfits(root, [patch]);
    if (misfit !== undefined) throw new Error(misfit);
    const path = join(root, patch.file);
    writeFileSync(
      path,
      readFileSync(path, "utf8").replace(patch.from, () => patch.to),
    );
  }
}
