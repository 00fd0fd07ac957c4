/**
 * A stream that fails before it has begun, against a server that says only as much as brings a client to that point.
 */
import { createServer, type Server, type Socket } from "node:net";
import { expect, test } from "vitest";

import { openReplicationStream } from "../../../src/storage/replication-stream.ts";

/** AuthenticationOk, ReadyForQuery. */
const WELCOME = Buffer.from("5200000008000000005a0000000549", "hex");

/** Lets anybody in, and ends the connection at the first query. */
async function listen(onQuery: (socket: Socket) => void): Promise<{ server: Server; url: string }> {
  const server = createServer((socket) => {
    socket.on("error", () => {}); // the client may be gone first
    socket.once("data", () => {
      socket.write(WELCOME);
      socket.once("data", () => onQuery(socket));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  return { server, url: `postgres://nobody@127.0.0.1:${port}/none` };
}

test.each<[name: string, onQuery: (socket: Socket) => void]>([
  ["ends", (socket) => socket.end()],
  ["is reset", (socket) => socket.resetAndDestroy()],
])("RS3: a connection that %s at its first query fails the opening, and nothing else", async (_, onQuery) => {
  const { server, url } = await listen(onQuery);
  try {
    await expect(
      openReplicationStream({ url, applicationName: "x", slot: "s", publication: "p", startLsn: 0n }),
    ).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
    // What came unheard would end the process, and fails this file.
    await new Promise((resolve) => setImmediate(resolve));
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
});
