/**
 * Strict mode: while a step runs, the clock, chance and timers of JavaScript throw. Tests and `--strict` use it, to find
 * what would make a replay differ. A module that keeps its own reference to such a function escapes it.
 */

/** Calls `act` with the sources of chance taken away, and gives them back whatever happens. `act` must be synchronous. */
export function withoutChance<T>(act: () => T): T {
  const names = Object.keys(REPLACEMENTS) as Array<keyof typeof REPLACEMENTS>;
  const saved = names.map((name) => Object.getOwnPropertyDescriptor(globalThis, name));
  const { random } = Math;
  for (const name of names)
    Object.defineProperty(globalThis, name, { value: REPLACEMENTS[name], configurable: true, writable: true });
  Math.random = refuse("Math.random()");
  try {
    return act();
  } finally {
    Math.random = random;
    names.forEach((name, i) => {
      const descriptor = saved[i];
      if (descriptor) Object.defineProperty(globalThis, name, descriptor);
      else Reflect.deleteProperty(globalThis, name);
    });
  }
}

const REPLACEMENTS = {
  Date: new Proxy(Date, {
    construct: (target, args) => (args.length === 0 ? refuse("new Date()")() : Reflect.construct(target, args)),
    apply: () => refuse("Date()")(),
    get: (target, name) => (name === "now" ? refuse("Date.now()") : Reflect.get(target, name)),
  }),
  crypto: new Proxy(globalThis.crypto, {
    get: (_target, name) => refuse(`crypto.${String(name)}`)(),
  }),
  performance: new Proxy(globalThis.performance, {
    get: (_target, name) => refuse(`performance.${String(name)}`)(),
  }),
  setTimeout: refuse("setTimeout()"),
  setInterval: refuse("setInterval()"),
  setImmediate: refuse("setImmediate()"),
  queueMicrotask: refuse("queueMicrotask()"),
} as const;

function refuse(what: string): () => never {
  return () => {
    throw new Error(
      `${what} was used inside a step: a replay would differ. Take time from the event's streamTimeMs, ids from the route's meta.`,
    );
  };
}
