/**
 * What a test of the crash table proves, written down while it runs: into the test's `meta`, from where the results of the run carry
 * it to docs/proof.md (scripts/proof.mjs). A test that names a row and has no hit proved nothing, and is printed as NOT RUN.
 *
 * In a hook of the file (afterAll) there is no test to write to, and nothing is written: when such a hook fails, all rows of its
 * file are printed as FAILED.
 */
import { TestRunner } from "vitest";

/** The fault took effect, seen from outside of who asked for it. */
export interface ProvedHit {
  /** `pg.committed:3:kill`, or what was done to a server. */
  readonly fault: string;
  /** Where it struck, and how that is known. */
  readonly evidence: string;
}

export interface RowProof {
  readonly hits: ProvedHit[];
  /** Sentences, each after what it says was asserted. */
  readonly checks: string[];
  /** Commit and versions, as test/support/global-setup.ts found them: JSON. */
  readonly run: string | null;
}

declare module "vitest" {
  interface TaskMeta {
    proof?: RowProof;
  }
}

/** Only after it was seen to take effect. */
export function recordHit(fault: string, evidence: string): void {
  const hits = proofOfTest()?.hits;
  if (hits?.some((each) => each.fault === fault && each.evidence === evidence)) return;
  hits?.push({ fault, evidence });
}

/** Only after it was asserted. */
export function recordCheck(sentence: string): void {
  const checks = proofOfTest()?.checks;
  if (!checks?.includes(sentence)) checks?.push(sentence);
}

function proofOfTest(): RowProof | undefined {
  const test = TestRunner.getCurrentTest();
  if (test === undefined) return undefined;
  test.meta.proof ??= { hits: [], checks: [], run: process.env["LOCKSTEP_TEST_RUN"] ?? null };
  return test.meta.proof;
}
