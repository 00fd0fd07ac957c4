/**
 * What a person sees: data on stdout, talk on stderr, one line that rewrites itself on a terminal and plain lines elsewhere.
 */
import { isLockstepError } from "../errors.ts";

/** sysexits-like, as docs/errors.md lists them. */
export const EXIT = { ok: 0, failure: 1, usage: 2, unavailable: 69, temporary: 75, config: 78 } as const;

export function exitCodeOf(error: unknown): number {
  if (!isLockstepError(error)) return EXIT.failure;
  switch (error.code) {
    case "CONFIG_INVALID":
    case "APP_INVALID":
    case "APP_NOT_LOADED":
      return EXIT.config;
    case "STACK_UNAVAILABLE":
    case "KAFKA_UNAVAILABLE":
    case "STORE_UNAVAILABLE":
    case "HTTP_UNAVAILABLE":
      return EXIT.unavailable;
    default:
      return EXIT.failure;
  }
}

/** Progress of long work. `update` is called as often as one likes. */
export interface Progress {
  update(text: string): void;
  /** A line that stays. */
  say(text: string): void;
  end(): void;
}

/** A plain line every so often, where no terminal can rewrite one. */
const PLAIN_EVERY_MS = 5_000;

export function createProgress(stream: NodeJS.WriteStream, env: NodeJS.ProcessEnv): Progress {
  const rewrites = stream.isTTY === true && !env["CI"];
  let shown = false;
  let lastPlainMs = 0;
  const clear = () => {
    if (shown) stream.write("\r\x1b[2K");
    shown = false;
  };
  return {
    update(text) {
      if (rewrites) {
        clear();
        stream.write(text.slice(0, Math.max(20, (stream.columns ?? 120) - 1)));
        shown = true;
        return;
      }
      const now = performance.now();
      if (now - lastPlainMs < PLAIN_EVERY_MS) return;
      lastPlainMs = now;
      stream.write(`${text}\n`);
    },
    say(text) {
      clear();
      stream.write(`${text}\n`);
    },
    end: clear,
  };
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, (_, v) => (typeof v === "bigint" ? String(v) : v))}\n`);
}
