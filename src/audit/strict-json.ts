/**
 * Which values count as JSON, for the rules of an app: the reading of docs/bad-input.md, done here by other means than where
 * records are judged.
 */
import { isUtf8 } from "node:buffer";

const LEVELS_MAX = 100;
const BYTES_MAX = 16 * 1024 * 1024;

/** @returns the parsed value, or why its dead letter is right: "too large" (RECORD_TOO_LARGE), "undecodable" (RECORD_UNDECODABLE) */
export function readStrictJson(bytes: Buffer | null): { readonly value: unknown } | "too large" | "undecodable" {
  if (bytes === null) return "undecodable";
  if (bytes.length > BYTES_MAX) return "too large";
  if (!isUtf8(bytes)) return "undecodable";
  const text = bytes.toString("utf8");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return "undecodable"; // JSON.parse throws for nothing else
  }
  return numbersHold(text) && isTame(value) ? { value } : "undecodable";
}

/** Numbers stand outside of strings: what is left of the text without them is looked through. */
function numbersHold(text: string): boolean {
  const bare = text.replace(/"(?:[^"\\]|\\.)*"/gs, '""');
  for (const [number] of bare.matchAll(/-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/g)) {
    if (!Number.isFinite(Number(number))) return false;
    if (/^-?\d+$/.test(number) && !Number.isSafeInteger(Number(number))) return false;
  }
  return true;
}

/** Level by level, so that no depth can end it. */
function isTame(value: unknown): boolean {
  let level: unknown[] = [value];
  for (let levels = 0; ; levels += 1) {
    const objects = level.filter((each) => typeof each === "object" && each !== null) as object[];
    if (objects.length === 0) return true;
    if (levels === LEVELS_MAX || objects.some((each) => Object.hasOwn(each, "__proto__"))) return false;
    level = objects.flatMap((each) => Object.values(each));
  }
}
