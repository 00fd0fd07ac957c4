/**
 * Every operating error of Lockstep, each with a code, the remedy its catcher must apply, and the data that explains it.
 *
 * A bug is not here: it is an `assert` with a sentence. An expected outcome is not here either: it is a value.
 * docs/errors.md lists every code with cause and cure; test/house/errors.test.ts compares the two.
 */

/** What the catcher must do, so that no caller guesses from a message. */
export type Remedy = "retry" | "restore" | "surrender" | "quarantine" | "halt" | "stop";

/** Code -> remedy. Codes are never reused. */
export const ERROR_CODES = {
  // start-up
  CONFIG_INVALID: "stop",
  APP_INVALID: "stop",
  APP_NOT_LOADED: "stop",
  STACK_UNAVAILABLE: "stop",
  KAFKA_UNSUITABLE: "stop",
  DATABASE_UNSUITABLE: "stop",
  NOT_MIGRATED: "stop",
  MIGRATION_CHANGED: "stop",
  IDENTITY_CHANGED: "stop",
  TOPICS_UNSUITABLE: "stop",
  HTTP_UNAVAILABLE: "stop",
  // dependencies
  STORE_UNAVAILABLE: "retry",
  KAFKA_UNAVAILABLE: "retry",
  // the commit protocol
  COMMIT_UNKNOWN: "restore",
  PUBLISH_FAILED: "restore",
  INPUT_OUT_OF_RANGE: "restore",
  SHARD_LOST: "surrender",
  ROW_REFUSED: "quarantine",
  POSITIONS_CONTRADICT: "halt",
  STORE_WENT_BACK: "halt",
  JOURNAL_BROKEN: "halt",
  REDO_BROKEN: "halt",
  INPUT_TRIMMED: "halt",
  INPUT_CHANGED: "halt",
  INPUT_UNREADABLE: "halt",
  MACHINE_CHANGED: "halt",
  REPLAY_STUCK: "halt",
  TOO_MANY_REFUSED: "halt",
  CODE_CHANGED: "halt",
  SNAPSHOT_BROKEN: "halt",
  PUBLISH_REFUSED: "halt",
  ID_COLLISION: "halt",
  SCHEMA_REFUSED: "halt",
  POSITION_FELL: "halt",
  STREAM_TIME_FELL: "halt",
  RECORDS_UNACCOUNTED: "halt",
  IDS_NOT_UNIQUE: "halt",
  REDO_DIFFERS: "halt",
  DRAIN_INCOMPLETE: "halt",
  INVARIANT_BROKEN: "halt",
  // the relay
  RELAY_LOST: "surrender",
  RELAY_NOT_SET_UP: "halt",
  RELAY_SET_UP_CHANGED: "halt",
  RELAY_SERVER_CHANGED: "halt",
  RELAY_SLOT_LOST: "halt",
  RELAY_POSITION_CONTRADICTS: "halt",
  RELAY_RESYNC_NEEDED: "halt",
  // records and timers that can never succeed
  RECORD_UNDECODABLE: "quarantine",
  RECORD_TOO_LARGE: "quarantine",
  STEP_TIMEOUT: "quarantine",
  STEP_OUT_OF_MEMORY: "quarantine",
  STEP_CRASHED: "quarantine",
  RECORD_REFUSED: "quarantine",
  RECORD_WITHOUT_KEY: "quarantine",
  RECORD_KEY_MISMATCH: "quarantine",
  RECORD_TIME_INVALID: "quarantine",
  MACHINE_THREW: "quarantine",
  CONTEXT_NOT_JSON: "quarantine",
  EFFECT_REFUSED: "quarantine",
  TELLS_EXCEEDED: "quarantine",
  OUTPUT_TOO_LARGE: "quarantine",
} as const satisfies Record<string, Remedy>;

export type ErrorCode = keyof typeof ERROR_CODES;

/** Asserts: what only a bug of ours can bring about. Those of the commit protocol have a code each, all others the last. */
export const BUGS = [
  "POSITION_FELL",
  "STREAM_TIME_FELL",
  "RECORDS_UNACCOUNTED",
  "IDS_NOT_UNIQUE",
  "REDO_DIFFERS",
  "DRAIN_INCOMPLETE",
  "INVARIANT_BROKEN",
] as const satisfies readonly ErrorCode[];

/**
 * What the commit protocol checks while it runs, and counts as `lockstep_asserts_failed_total`: bugs, and contradictions between
 * what two servers say, which a bug or lost data can bring about.
 */
export const PROTOCOL_ASSERTS = [
  ...BUGS,
  "STORE_WENT_BACK",
  "POSITIONS_CONTRADICT",
  "REDO_BROKEN",
  "JOURNAL_BROKEN",
  "ID_COLLISION",
] as const satisfies readonly ErrorCode[];

export type Bug = (typeof BUGS)[number];

export class LockstepError extends Error {
  readonly code: ErrorCode;
  readonly remedy: Remedy;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, options: { details?: Record<string, unknown>; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "LockstepError";
    this.code = code;
    this.remedy = ERROR_CODES[code];
    this.details = Object.freeze({ ...options.details });
  }
}

/** Across threads an error loses its class, so the code is what is looked at, never `instanceof`. */
export function hasCode(error: unknown, code: ErrorCode): boolean {
  return typeof error === "object" && error !== null && (error as { code?: unknown }).code === code;
}

export function isLockstepError(error: unknown): error is LockstepError {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === "string" && code in ERROR_CODES;
}

export function isBug(code: unknown): code is Bug {
  return (BUGS as readonly unknown[]).includes(code);
}

/** A bug, not an operating error: the task that meets it stops. */
export function assert(condition: unknown, sentence: string, code: Bug = "INVARIANT_BROKEN"): asserts condition {
  if (!condition) throw new LockstepError(code, sentence);
}
