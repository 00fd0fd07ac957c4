/**
 * Requests to Kafka that a proxy holds, and what the broker answers when it gets them late. As far as needed of the wire: the header of a
 * request, and the error of two kinds of answers in the versions that we speak (Produce up to 7, EndTxn up to 1).
 */
import { recordHit } from "./proof.ts";
import type { HeldLine, TcpProxy } from "./tcp-proxy.ts";
import { until } from "./until.ts";

/** How Kafka numbers its requests. */
const API = { Produce: 0, EndTxn: 26 } as const;

/** What a request of an older producer epoch is refused with. */
export const INVALID_PRODUCER_EPOCH = 47;

export interface HeldRequest {
  readonly api: keyof typeof API;
  readonly correlationId: number;
  readonly line: HeldLine;
}

/** Until the proxy holds this request of this transactional id. */
export async function untilHeld(
  proxy: TcpProxy,
  api: HeldRequest["api"],
  transactionalId: string,
): Promise<HeldRequest> {
  const found = await until(
    () => {
      for (const line of proxy.held()) {
        const request = framesOf(line.sent).find(
          (frame) => frame.readInt16BE(0) === API[api] && frame.includes(transactionalId),
        );
        if (request) return { api, correlationId: request.readInt32BE(4), line };
      }
      return null;
    },
    { what: `${api} of ${transactionalId} to be held` },
  );
  recordHit(`${api} held in the network`, `in the proxy, of ${transactionalId}`);
  return found;
}

/** Kafka's error code in the answer to a request that was released; 0 when it was taken. */
export async function lateAnswer({ api, correlationId, line }: HeldRequest): Promise<number> {
  const answer = await until(() => framesOf(line.answered).find((frame) => frame.readInt32BE(0) === correlationId), {
    what: `Kafka to answer the late ${api}`,
  });
  if (api === "EndTxn") return answer.readInt16BE(8); // correlation id, throttle time, error
  const topicLength = answer.readInt16BE(8); // correlation id, count of topics, topic, count of partitions, partition, error
  return answer.readInt16BE(10 + topicLength + 8);
}

/** Whole frames, without their length. */
function framesOf(chunks: readonly Buffer[]): Buffer[] {
  const bytes = Buffer.concat(chunks);
  const frames: Buffer[] = [];
  for (let at = 0; at + 4 <= bytes.length; ) {
    const end = at + 4 + bytes.readInt32BE(at);
    if (end > bytes.length) break;
    frames.push(bytes.subarray(at + 4, end));
    at = end;
  }
  return frames;
}
