/**
 * Compares the sums with what the generator says it has sent: `{ sent: { total, distinct, duplicates, late, bad, badByKind } }`.
 * `distinct` counts the late ones, as the audit does. Dead letters of timers are no signals: they are not among `bad`.
 */
import type { Findings } from "../../../audit/report.ts";

const WHERE = "manifest";

/** Counts of the manifest, and the figures that must be equal to them. */
const PAIRS = [
  ["total", "signals"],
  ["distinct", "distinct"],
  ["duplicates", "duplicatesIgnored"],
  ["late", "late"],
  ["bad", "bad"],
] as const;

export function checkManifest(
  manifest: unknown,
  figures: Readonly<Record<(typeof PAIRS)[number][1], number>>,
  findings: Findings,
): void {
  const sent = (manifest as { sent?: Readonly<Record<string, unknown>> } | null)?.sent;
  if (typeof sent !== "object" || sent === null) {
    findings.add("mismatch", `The manifest does not say what was sent.`, WHERE);
    return;
  }
  for (const [name, figure] of PAIRS) {
    if (sent[name] === figures[figure]) continue;
    const text = `The generator sent ${name} = ${JSON.stringify(sent[name])}, the audit finds ${figure} = ${figures[figure]}.`;
    findings.add("mismatch", text, WHERE);
  }
  const kinds = sent["badByKind"];
  if (kinds === undefined) return;
  const total = Object.values(kinds as Record<string, unknown>).reduce((sum: number, count) => sum + Number(count), 0);
  if (total !== figures.bad) {
    findings.add("mismatch", `The generator's bad kinds sum up to ${total}, the audit finds ${figures.bad}.`, WHERE);
  }
}
