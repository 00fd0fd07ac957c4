/**
 * What survives JSON, and what does not. State, timers and rows are kept as JSON, so a value that comes back different
 * would make a replayed shard another shard: it is refused, by the path of the first fault.
 *
 * Invariants
 *   JV1  jsonFault(v) === null exactly when JSON.parse(JSON.stringify(v)) is deeply equal to v, prototypes included, Object.is on leaves.
 *        Stricter only beyond DEPTH_MAX; an accessor is judged by the value it gives.
 */

/** Levels of nesting. JSON.stringify recurses, and how deep it can go depends on the stack of the moment. */
const DEPTH_MAX = 500;

/**
 * The first part of `value` that does not survive JSON, as a sentence that starts with its path, or null.
 * @param before a value found good before. Parts that it has at the same place (in an array also one place on, as when the
 *   first element was dropped) are not walked again; so neither may ever be changed in place.
 */
export function jsonFault(value: unknown, before?: unknown): string | null {
  const fault = findFault(value, before, []);
  return fault && `${fault.path === "" ? "the value" : fault.path.replace(/^\./, "")} is ${fault.reason}`;
}

/** Freezes a JSON value through and through. Parts in `frozen` are not walked again. */
export function deepFreeze<T>(value: T, frozen?: WeakSet<object>): T {
  if (typeof value !== "object" || value === null || frozen?.has(value)) return value;
  frozen?.add(value);
  Object.freeze(value);
  for (const part of Object.values(value)) deepFreeze(part, frozen);
  return value;
}

interface Fault {
  readonly path: string;
  readonly reason: string;
}

/** @param ancestors the objects that contain the value: one of them met again is a cycle */
function findFault(value: unknown, before: unknown, ancestors: object[]): Fault | null {
  switch (typeof value) {
    case "string":
    case "boolean":
      return null;
    case "number":
      if (!Number.isFinite(value)) return at(String(value));
      return value === 0 && 1 / value < 0 ? at("-0") : null;
    case "object":
      return value === null || value === before ? null : findInside(value, before, ancestors);
    case "undefined":
      return at("undefined");
    default:
      return at(`a ${typeof value}`);
  }
}

function findInside(value: object, before: unknown, ancestors: object[]): Fault | null {
  if (ancestors.includes(value)) return at("a cycle");
  if (ancestors.length >= DEPTH_MAX) return at(`nested deeper than ${DEPTH_MAX} levels`);
  ancestors.push(value);
  const fault = Array.isArray(value) ? findInArray(value, before, ancestors) : findInObject(value, before, ancestors);
  ancestors.pop();
  return fault;
}

function findInArray(value: readonly unknown[], before: unknown, ancestors: object[]): Fault | null {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Array.prototype) return at(describe(prototype));
  // Every element, and `length`.
  const own = Object.getOwnPropertyNames(value).length - 1;
  if (own !== value.length) return at(own < value.length ? "a sparse array" : "an array with named properties");
  if (Object.getOwnPropertySymbols(value).length > 0) return at("an array with symbols");
  const earlier: readonly unknown[] = Array.isArray(before) ? before : [];
  for (let i = 0; i < value.length; i += 1) {
    const part = value[i];
    if (typeof part === "object" && part === earlier[i + 1]) continue;
    const fault = findFault(part, earlier[i], ancestors);
    if (fault) return { ...fault, path: `[${i}]${fault.path}` };
  }
  return null;
}

function findInObject(value: object, before: unknown, ancestors: object[]): Fault | null {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype) return at(describe(prototype));
  const keys = Object.keys(value);
  if (Object.getOwnPropertyNames(value).length !== keys.length || Object.getOwnPropertySymbols(value).length > 0) {
    return at("an object with symbols or hidden properties");
  }
  const parts = value as Readonly<Record<string, unknown>>;
  const earlier = (typeof before === "object" && before !== null ? before : NOTHING) as Readonly<
    Record<string, unknown>
  >;
  for (const key of keys) {
    const fault = findFault(parts[key], earlier[key], ancestors);
    if (fault) return { ...fault, path: `.${key}${fault.path}` };
  }
  return null;
}

const NOTHING = Object.freeze({});

function at(reason: string): Fault {
  return { path: "", reason };
}

function describe(prototype: unknown): string {
  if (prototype === null) return "an object without prototype";
  const { name } = (prototype as object).constructor;
  return /^[AEIOU]/.test(name) ? `an ${name}` : `a ${name}`;
}
