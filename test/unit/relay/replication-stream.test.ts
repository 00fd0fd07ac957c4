/**
 * A stream that fails before it has begun, against a server that says only as much as brings a client to that point.
 */
import { getEventListeners } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { describe, expect, test } from "vitest";

import { openReplicationStream } from "../../../src/storage/replication-stream.ts";

/** AuthenticationOk, ReadyForQuery. */
const WELCOME = Buffer.from("5200000008000000005a0000000549", "hex");

/** CommandComplete "SET", ReadyForQuery. */
const DONE = Buffer.from("4300000008534554005a0000000549", "hex");
const FOREVER = new AbortController().signal;

/** Lets anybody in, answers so many queries, and does something else at the next. */
async function listen(
  onQuery: (socket: Socket) => void,
  { answered = 0 } = {},
): Promise<{ server: Server; url: string }> {
  const server = createServer((socket) => {
    socket.on("error", () => {}); // the client may be gone first
    let left = answered;
    const onData = (): void => {
      if (left === 0) {
        onQuery(socket);
        return;
      }
      left -= 1;
      socket.once("data", onData);
      socket.write(DONE);
    };
    socket.once("data", () => {
      socket.once("data", onData);
      socket.write(WELCOME);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  return { server, url: `postgres://nobody@127.0.0.1:${port}/none` };
}

const STREAM = { applicationName: "x", slot: "s", publication: "p", startLsn: 0n };

test.each<[name: string, onQuery: (socket: Socket) => void]>([
  ["ends", (socket) => socket.end()],
  ["is reset", (socket) => socket.resetAndDestroy()],
])("RS3: a connection that %s at its first query fails the opening, and nothing else", async (_, onQuery) => {
  const { server, url } = await listen(onQuery);
  try {
    await expect(openReplicationStream({ url, ...STREAM, signal: FOREVER })).rejects.toMatchObject({
      code: "STORE_UNAVAILABLE",
    });
    // What came unheard would end the process, and fails this file.
    await new Promise((resolve) => setImmediate(resolve));
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
});

describe("RS5: opening ends", () => {
  const silent = () => {};
  /** Settings of the session, which come before START_REPLICATION. */
  const SETTINGS = 5;

  test.each([
    ["at the first setting", 0],
    ["at START_REPLICATION", SETTINGS],
  ])("a server that lets it in, and is silent %s, is given up", async (_, answered) => {
    const { server, url } = await listen(silent, { answered });
    try {
      await expect(openReplicationStream({ url, ...STREAM, signal: FOREVER, timeoutMs: 200 })).rejects.toMatchObject({
        code: "STORE_UNAVAILABLE",
        message: expect.stringContaining("has not begun the stream within 200 ms"),
      });
    } finally {
      await new Promise((resolve) => server.close(resolve)); // once the connection is gone
    }
  });

  test.each([
    ["before it", -1],
    ["at the first setting", 0],
    ["at START_REPLICATION", SETTINGS],
  ])("an abort %s ends it, whatever the time-out", async (_, answered) => {
    const stop = new AbortController();
    const { server, url } = await listen(() => stop.abort(), { answered: Math.max(0, answered) });
    if (answered < 0) stop.abort();
    try {
      const opening = openReplicationStream({ url, ...STREAM, signal: stop.signal, timeoutMs: 3_600_000 });
      await expect(opening).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
      expect(getEventListeners(stop.signal, "abort")).toEqual([]);
    } finally {
      await new Promise((resolve) => server.close(resolve));
    }
  });

  test("an abort while it connects ends it", async () => {
    const stop = new AbortController();
    const server = createServer(() => stop.abort()); // accepts, and never answers
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    const url = `postgres://nobody@127.0.0.1:${port}/none`;
    try {
      await expect(
        openReplicationStream({ url, ...STREAM, signal: stop.signal, timeoutMs: 3_600_000 }),
      ).rejects.toMatchObject({ message: expect.stringContaining("not waited for any longer") });
    } finally {
      await new Promise((resolve) => server.close(resolve));
    }
  });
});
