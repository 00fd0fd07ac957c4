/**
 * Logs: one JSON object a line on stdout, ISO time, level as text. Written synchronously, so that the last words of a process
 * that is killed are not lost, and lines of several threads do not mix.
 */
import pino from "pino";

import { isBug } from "../errors.ts";
import type { Log } from "../log.ts";

export function createLog(options: { level: string; bindings?: object; fd?: number }): Log {
  const log = pino(
    {
      level: options.level,
      base: { pid: process.pid, ...options.bindings },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: serializeError },
      redact: { paths: ["databaseUrl", "password", "*.password"], censor: "***" },
    },
    pino.destination({ fd: options.fd ?? 1, sync: true }),
  );
  return log as unknown as Log;
}

/** Code and details survive; the stack is kept for what nobody expected. */
function serializeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { code, remedy, details } = error as { code?: unknown; remedy?: unknown; details?: unknown };
  const expected = typeof remedy === "string" && !isBug(code);
  return {
    code,
    remedy,
    message: error.message,
    ...(details && Object.keys(details).length > 0 ? { details } : {}),
    ...(expected ? {} : { stack: error.stack }),
    ...(error.cause === undefined ? {} : { cause: serializeError(error.cause) }),
  };
}
