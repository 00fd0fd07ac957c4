/**
 * Asks a server whether it serves yet, in its own protocol: a port that accepts connections is not enough, both
 * servers listen before they are ready.
 *
 * The drivers are not used for this: kafkajs belongs to kafka/ and pg to storage/, and one request is a few bytes.
 */
import { connect } from "node:net";

const ANSWER_TIMEOUT_MS = 2_000;

/** How many brokers the one on this port knows of; 0 when it does not answer. */
export async function brokersKnownTo(port: number): Promise<number> {
  // Metadata, version 1, correlation id 1, no client id, no topics.
  const request = Buffer.from([0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0]);
  // Answer: length, correlation id, count of brokers, the brokers.
  const answer = await exchange(port, request, 12);
  return answer === null ? 0 : answer.readInt32BE(8);
}

/** Whether Postgres takes log-ins: it answers a start-up message with a request to authenticate. */
export async function postgresServes(port: number): Promise<boolean> {
  const parameters = Buffer.from("user\0postgres\0database\0postgres\0\0");
  const request = Buffer.alloc(8 + parameters.length);
  request.writeInt32BE(request.length, 0);
  request.writeInt32BE(3 << 16, 4); // protocol 3.0
  parameters.copy(request, 8);
  const answer = await exchange(port, request, 1);
  return answer?.toString("latin1", 0, 1) === "R"; // "E" while it starts or recovers
}

/** @returns the answer as soon as it has `bytes` bytes, null when the line breaks or stays silent */
function exchange(port: number, request: Buffer, bytes: number): Promise<Buffer | null> {
  return new Promise((resolve) => {
    let answer = Buffer.alloc(0);
    const socket = connect(port, "127.0.0.1", () => socket.write(request));
    const finish = (result: Buffer | null): void => {
      socket.destroy();
      resolve(result);
    };
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => finish(null));
    // Not an error here: a server that is not up yet refuses or resets, and is asked again.
    socket.on("error", () => finish(null));
    socket.on("close", () => resolve(null));
    socket.on("data", (chunk) => {
      answer = Buffer.concat([answer, chunk]);
      if (answer.length >= bytes) finish(answer);
    });
  });
}
