/**
 * JSON from outside, taken only when it means the same to everyone: what JSON.parse would change in silence, or what can
 * hurt whoever walks it, is refused before a schema sees it.
 *
 * Invariants
 *   JT1  A value that is returned has at most DEPTH_MAX levels, finite numbers, whole numbers that a double holds exactly, and
 *        no key `__proto__`.
 *   JT2  The verdict is a function of the text alone: it depends on no stack depth and on no version of Node, so a replay
 *        repeats it.
 */

/** Levels of nesting. Schemas recurse, and how deep they can go depends on the stack of the moment. */
export const JSON_DEPTH_MAX = 100;

/** `{"__proto__":...}` is an own property to JSON.parse, and a new prototype to whoever copies it by assignment. */
const PROTOTYPE_KEY = "__proto__";

/**
 * Levels apart, nothing of JT1 can be broken without one of these: most records need no further look. 16 digits are the fewest of
 * a whole number beyond 2^53.
 */
const SUSPECT = /__proto__|\\u|[0-9]{16}|[0-9][eE]/;

/** @returns why the text is not taken, as the end of a sentence that begins with "The value", or the parsed value */
export function parseJson(text: string): { readonly value: unknown } | { readonly fault: string } {
  // Before it is parsed: a million levels take a hundred times the memory of their text. One level more takes two brackets.
  if (text.length > 2 * JSON_DEPTH_MAX && isTooDeep(text))
    return { fault: `is nested deeper than ${JSON_DEPTH_MAX} levels` };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // Why is to be seen in the text; JSON.parse's own words differ between versions of Node.
    return { fault: "is not JSON" };
  }
  const fault = SUSPECT.test(text) ? faultOf(text) : null;
  return fault === null ? { value } : { fault };
}

/** @param text any text: the levels of what is no JSON mean nothing, and it is refused either way */
function isTooDeep(text: string): boolean {
  let depth = 0;
  for (let at = 0; at < text.length; ) {
    const char = text.charCodeAt(at);
    if (char === OPEN_LIST || char === OPEN_OBJECT) depth += 1;
    else if (char === CLOSE_LIST || char === CLOSE_OBJECT) depth -= 1;
    if (depth > JSON_DEPTH_MAX) return true;
    at = char === QUOTE ? endOfString(text, at) : at + 1;
  }
  return false;
}

/** @param text valid JSON */
function faultOf(text: string): string | null {
  for (let at = 0; at < text.length; ) {
    const char = text.charCodeAt(at);
    if (char === QUOTE) {
      const end = endOfString(text, at);
      if (isPrototypeKey(text, at, end)) return `has a key ${PROTOTYPE_KEY}`;
      at = end;
    } else if (char === MINUS || (char >= ZERO && char <= NINE)) {
      const end = endOfNumber(text, at);
      const fault = numberFault(text.slice(at, end));
      if (fault !== null) return fault;
      at = end;
    } else at += 1;
  }
  return null;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COLON = 0x3a;
const MINUS = 0x2d;
const ZERO = 0x30;
const NINE = 0x39;
const OPEN_LIST = 0x5b;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** @param start of the opening quote. @returns the index after the closing one, or beyond the text */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  while (at < text.length && text.charCodeAt(at) !== QUOTE) at += text.charCodeAt(at) === BACKSLASH ? 2 : 1;
  return at + 1;
}

function isPrototypeKey(text: string, start: number, end: number): boolean {
  const length = end - start - 2;
  // Each of its characters may be written as an escape of six.
  if (length < PROTOTYPE_KEY.length || length > 6 * PROTOTYPE_KEY.length) return false;
  let after = end;
  while (/\s/.test(text.charAt(after))) after += 1;
  return text.charCodeAt(after) === COLON && JSON.parse(text.slice(start, end)) === PROTOTYPE_KEY;
}

function endOfNumber(text: string, start: number): number {
  const number = /[-+.eE0-9]*/y;
  number.lastIndex = start;
  number.exec(text);
  return number.lastIndex;
}

/** Shown of a number: it may have a million digits. */
const DIGITS_SHOWN = 40;

function numberFault(number: string): string | null {
  const value = Number(number);
  const shown = number.length > DIGITS_SHOWN ? `${number.slice(0, DIGITS_SHOWN)}...` : number;
  if (!Number.isFinite(value)) return `holds the number ${shown}, which is beyond every double`;
  if (!/[.eE]/.test(number) && !Number.isSafeInteger(value))
    return `holds the whole number ${shown}, which a double does not hold exactly: it should be a string`;
  return null;
}
