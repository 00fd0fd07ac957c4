/**
 * Compression codecs: gzip is here; snappy, lz4 and zstd need one registered, or else reading such a topic fails for ever at
 * the same offset. So it fails once, in words.
 *
 * kafkajs' own gzip has no limit, and 1 MB of it can hold a gigabyte: a batch that decompresses to more than
 * BATCH_BYTES_MAX is not taken, and its partition halts as one that cannot be read.
 */
import { promisify } from "node:util";
import { gunzip, gzip } from "node:zlib";
import kafkajs from "kafkajs";

import { LockstepError } from "../errors.ts";

const CODECS: Readonly<Record<string, number>> = {
  gzip: kafkajs.CompressionTypes.GZIP,
  snappy: kafkajs.CompressionTypes.Snappy,
  lz4: kafkajs.CompressionTypes.LZ4,
  zstd: kafkajs.CompressionTypes.ZSTD,
};

/** 64 times Kafka's default limit of a batch. Ratios of JSON lie below 20. */
export const BATCH_BYTES_MAX = 64 * 1_048_576;

/** Puts the limit into every `Kafka` object of this process. Idempotent. */
export function installGzip(): void {
  const codec = {
    compress: ({ buffer }: { buffer: Buffer }) => promisify(gzip)(buffer),
    async decompress(buffer: Buffer): Promise<Buffer> {
      try {
        return (await promisify<Buffer, { maxOutputLength: number }, Buffer>(gunzip)(buffer, {
          maxOutputLength: BATCH_BYTES_MAX,
        })) as Buffer;
      } catch (error) {
        if ((error as { code?: unknown }).code !== "ERR_BUFFER_TOO_LARGE") throw error;
        throw new Error(`a batch of ${buffer.length} bytes decompresses to more than ${BATCH_BYTES_MAX}`);
      }
    },
  };
  (kafkajs.CompressionCodecs as unknown as Record<number, () => typeof codec>)[kafkajs.CompressionTypes.GZIP] = () =>
    codec;
}

/** Whether records of this `compression.type` can be read; names that are no codec ("producer", "uncompressed") can. */
export function isCodecReadable(name: string): boolean {
  const type = CODECS[name];
  if (type === undefined) return true;
  try {
    // What is not registered is a function that throws.
    (kafkajs.CompressionCodecs as unknown as Record<number, () => unknown>)[type]!();
    return true;
  } catch {
    return false;
  }
}

/** Certain at the first time, unlike everything else that `decodingFault` knows. */
export function isCodecMissing(error: unknown): boolean {
  return (error as { name?: unknown } | null | undefined)?.name === "KafkaJSNotImplemented";
}

/**
 * The error to report when a codec was missing, or the answer of a partition could not be decoded at all. The second is a
 * guess from one failure: partition-failure.ts says when it is a verdict.
 * @returns null when the failure is of another kind: the network, the cluster
 */
export function decodingFault(topic: string, partition: number, error: unknown): LockstepError | null {
  const { name, message } = (error ?? {}) as { name?: string; message?: string };
  if (isCodecMissing(error)) {
    const codec = Object.keys(CODECS).find((each) => message?.toLowerCase().startsWith(each)) ?? "an unknown codec";
    return new LockstepError(
      "KAFKA_UNSUITABLE",
      `Topic "${topic}" partition ${partition} holds records compressed with ${codec}, for which there is no codec here. ` +
        "Let its producers use gzip or none, and set the topic's compression.type to gzip to stop it.",
      { details: { topic, partition, codec }, cause: error },
    );
  }
  if (name !== undefined && DECODING_ERRORS.has(name)) {
    return new LockstepError(
      "KAFKA_UNSUITABLE",
      `An answer for topic "${topic}" partition ${partition} cannot be decoded: ${message}`,
      {
        details: { topic, partition },
        cause: error,
      },
    );
  }
  return null;
}

/** Thrown by decoders and decompressors on bytes they do not understand, and by much else. zlib's are plain `Error`s. */
const DECODING_ERRORS: ReadonlySet<string> = new Set([
  "Error",
  "RangeError",
  "TypeError",
  "KafkaJSUnsupportedMagicByteInMessageSet",
]);
