/**
 * What a failure of kafkajs means, read from its protocol name, never from its message alone.
 */
import { LockstepError } from "../errors.ts";

/** Codes that kafkajs 2.2.4 does not know and reports as "Unknown error code n". */
const LATER_CODES: Readonly<Record<string, string>> = {
  89: "THROTTLING_QUOTA_EXCEEDED",
  90: "PRODUCER_FENCED",
  120: "TRANSACTION_ABORTABLE",
};

/** The id's epoch or producer id is no longer ours: another owner has fenced us, or the coordinator timed the transaction out. */
const FENCED: ReadonlySet<string> = new Set([
  "INVALID_PRODUCER_EPOCH",
  "PRODUCER_FENCED",
  "INVALID_PRODUCER_ID_MAPPING",
]);

/** The same request can succeed later, and repeating it is harmless: it is idempotent or was not executed. */
const PASSING: ReadonlySet<string> = new Set([
  "CORRUPT_MESSAGE",
  "LEADER_NOT_AVAILABLE",
  "NOT_LEADER_FOR_PARTITION",
  "REQUEST_TIMED_OUT",
  "BROKER_NOT_AVAILABLE",
  "REPLICA_NOT_AVAILABLE",
  "NETWORK_EXCEPTION",
  "GROUP_LOAD_IN_PROGRESS",
  "GROUP_COORDINATOR_NOT_AVAILABLE",
  "NOT_COORDINATOR_FOR_GROUP",
  "NOT_ENOUGH_REPLICAS",
  "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
  "CONCURRENT_TRANSACTIONS",
  "KAFKA_STORAGE_ERROR",
  "LISTENER_NOT_FOUND",
  "FENCED_LEADER_EPOCH",
  "UNKNOWN_LEADER_EPOCH",
  "OFFSET_NOT_AVAILABLE",
  "UNSTABLE_OFFSET_COMMIT",
  "THROTTLING_QUOTA_EXCEEDED",
  // A topic just made, or a leader that has not heard of it yet. Callers look whether it is really missing.
  "UNKNOWN_TOPIC_OR_PARTITION",
]);

const CONNECTION_NAMES: ReadonlySet<string> = new Set([
  "KafkaJSConnectionError",
  "KafkaJSConnectionClosedError",
  "KafkaJSRequestTimeoutError",
  "KafkaJSBrokerNotFound",
  "KafkaJSNoBrokerAvailableError",
  "KafkaJSMetadataNotLoaded",
  "KafkaJSTopicMetadataNotLoaded",
  "KafkaJSLockTimeout",
  "KafkaJSGroupCoordinatorNotFound",
]);

const COORDINATOR_MOVED: ReadonlySet<string> = new Set([
  "GROUP_LOAD_IN_PROGRESS",
  "GROUP_COORDINATOR_NOT_AVAILABLE",
  "NOT_COORDINATOR_FOR_GROUP",
]);

/** No retry and no new connection or producer changes the answer; a person must. */
const REFUSED: ReadonlySet<string> = new Set([
  "TOPIC_AUTHORIZATION_FAILED",
  "GROUP_AUTHORIZATION_FAILED",
  "CLUSTER_AUTHORIZATION_FAILED",
  "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
  "UNKNOWN_TOPIC_OR_PARTITION",
  "INVALID_TOPIC_EXCEPTION",
  "INVALID_RECORD",
  "MESSAGE_TOO_LARGE",
  "RECORD_LIST_TOO_LARGE",
  "INVALID_REQUIRED_ACKS",
  "INVALID_TIMESTAMP",
  "INVALID_TRANSACTION_TIMEOUT",
  "UNSUPPORTED_FOR_MESSAGE_FORMAT",
  "UNSUPPORTED_COMPRESSION_TYPE",
  "UNSUPPORTED_VERSION",
  "UNSUPPORTED_SASL_MECHANISM",
  "SASL_AUTHENTICATION_FAILED",
  "KafkaJSSASLAuthenticationError",
  "POLICY_VIOLATION",
  "OFFSET_METADATA_TOO_LARGE",
  "INVALID_COMMIT_OFFSET_SIZE",
  "INVALID_GROUP_ID",
  // kafkajs could not encode the records. Of an answer it says less: see partition-failure.ts.
  "TypeError",
  "RangeError",
]);

export function isFenced(error: unknown): boolean {
  return FENCED.has(errorType(error));
}

/** The connection broke or no broker was found: whether the request was executed is unknown. */
export function isConnectionFailure(error: unknown): boolean {
  return CONNECTION_NAMES.has(errorType(error));
}

export function isPassing(error: unknown): boolean {
  const type = errorType(error);
  return PASSING.has(type) || CONNECTION_NAMES.has(type);
}

export function isCoordinatorMoved(error: unknown): boolean {
  return COORDINATOR_MOVED.has(errorType(error));
}

export function isRefused(error: unknown): boolean {
  return REFUSED.has(errorType(error));
}

/**
 * Protocol name of a failure ("NOT_LEADER_FOR_PARTITION"), or else the name of kafkajs' error class.
 * kafkajs wraps what it gave up on, so the innermost cause is asked first.
 */
export function errorType(error: unknown): string {
  const { type, name, message, cause } = (error ?? {}) as {
    type?: unknown;
    name?: unknown;
    message?: unknown;
    cause?: unknown;
  };
  if (type === "KAFKAJS_UNKNOWN_ERROR_CODE") {
    const code = /code (-?\d+)/.exec(String(message))?.[1] ?? "";
    return LATER_CODES[code] ?? `ERROR_CODE_${code}`;
  }
  if (typeof type === "string") return type;
  if (cause !== undefined && cause !== null && cause !== error) return errorType(cause);
  return typeof name === "string" ? name : typeof error;
}

export function errorText(error: unknown): string {
  const type = errorType(error);
  const message = error instanceof Error ? error.message : String(error);
  return message === "" || message === type ? type : `${type}: ${message}`;
}

/** Nothing happened, or what happened is idempotent. */
export function unavailable(what: string, cause: unknown, details: Record<string, unknown> = {}): LockstepError {
  return new LockstepError("KAFKA_UNAVAILABLE", `Kafka did not answer: ${what} (${errorText(cause)}).`, {
    details: { ...details, type: errorType(cause) },
    cause,
  });
}
