/** Which records the visits app can take, judged by hand: not by the app's schema, whose faults must not hide themselves. */
import { readStrictJson, type SourceRecord } from "lockstep";

const KINDS = ["enter", "ping", "leave", "poison"];
const AHEAD_MS_MAX = 60_000;

export interface JudgedVisit {
  /** Codes that are right for its dead letter; none: it can be taken, as far as can be seen from outside. */
  readonly codes: readonly string[];
  readonly event: { readonly visitor: string; readonly kind: string; readonly at: number } | null;
}

export function judgeVisit({ key, value, timestampMs }: SourceRecord): JudgedVisit {
  const codes: string[] = [];
  if (key === null || key.length === 0) codes.push("RECORD_WITHOUT_KEY");
  const read = readStrictJson(value);
  if (read === "too large") return { codes: [...codes, "RECORD_TOO_LARGE"], event: null };
  if (read === "undecodable") return { codes: [...codes, "RECORD_UNDECODABLE"], event: null };
  const { visitor, kind, at } = (read.value ?? {}) as Record<string, unknown>;
  const visitorFits = typeof visitor === "string" && /^[a-e][0-9]{1,6}$/.test(visitor);
  const kindFits = typeof kind === "string" && KINDS.includes(kind);
  const atFits = typeof at === "number" && Number.isSafeInteger(at) && at >= 0;
  if (!visitorFits || !kindFits || !atFits) return { codes: [...codes, "RECORD_REFUSED"], event: null };
  if (codes.length === 0 && key?.toString("utf8") !== visitor) codes.push("RECORD_KEY_MISMATCH");
  if (timestampMs >= 0n && at > Number(timestampMs) + AHEAD_MS_MAX) codes.push("RECORD_TIME_INVALID");
  return { codes, event: { visitor, kind, at } };
}
