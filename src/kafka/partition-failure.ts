/**
 * Failures of one partition that was asked for alone, and when they are taken to last.
 *
 * What decoders throw, kafkajs also throws when a connection ends at an unhappy moment, and a refusal can pass while
 * authorizations spread over the brokers. So the same failure has to come FAILURES_MAX times in a row; only a codec
 * that is missing is certain at once.
 */
import { LockstepError } from "../errors.ts";
import { decodingFault, isCodecMissing } from "./codecs.ts";
import { BACKOFF_MAX_MS } from "./connection.ts";
import { errorText, errorType, isRefused } from "./wire-errors.ts";

export interface PartitionFailure {
  readonly error: unknown;
  /** How often the same came in a row, from 1. */
  readonly times: number;
  /** How long to wait before the partition is asked for again, ms. */
  readonly backoffMs: number;
}

const FAILURES_MAX = 3;

/** Longer than a broker's connection takes to come back, so that three failures are not of one moment. */
const BACKOFF_MS_MIN = 100;

/** @param previous the failure that came directly before, null after a success */
export function nextFailure(previous: PartitionFailure | null, error: unknown): PartitionFailure {
  if (previous === null) return { error, times: 1, backoffMs: BACKOFF_MS_MIN };
  return {
    error,
    times: errorText(previous.error) === errorText(error) ? previous.times + 1 : 1,
    backoffMs: Math.min(previous.backoffMs * 2, BACKOFF_MAX_MS),
  };
}

/** @returns KAFKA_UNSUITABLE with topic and partition when repeating is useless, else null */
export function lastingFault(
  topic: string,
  partition: number,
  { error, times }: PartitionFailure,
): LockstepError | null {
  if (times < FAILURES_MAX && !isCodecMissing(error)) return null;
  const type = errorType(error);
  const fault = decodingFault(topic, partition, error);
  if (fault !== null) return fault;
  // A topic that is missing may be made yet, or the leader has not heard of it.
  if (!isRefused(error) || type === "UNKNOWN_TOPIC_OR_PARTITION") return null;
  return new LockstepError(
    "KAFKA_UNSUITABLE",
    `Kafka refuses to give topic "${topic}" partition ${partition} (${errorText(error)}).`,
    { details: { topic, partition, type }, cause: error },
  );
}
