import { type AddressInfo, connect, createServer } from "node:net";
import { expect, it, vi } from "vitest";

import { TcpProxy } from "../../support/tcp-proxy.ts";

const NUMBERS = 4 * 1_048_576;
const LATENCY_MS = 200;

/** Where sums of milliseconds begin to be rounded to coarser fractions: then a wait of 200 ms comes out as 199.99 or as 200. */
const BINADE_MS = 2 ** 17;

it("passes on in order what it holds back, also where the fractions of its clock are rounded", async () => {
  const realNow = performance.now.bind(performance);
  const shiftMs = BINADE_MS - LATENCY_MS / 2 - realNow();
  vi.spyOn(performance, "now").mockImplementation(() => realNow() + shiftMs);
  const received: Buffer[] = [];
  let bytes = 0;
  const server = createServer((socket) => {
    socket.on("error", () => {}); // the proxy ends it by a reset
    socket.on("data", (chunk) => {
      received.push(chunk);
      bytes += chunk.length;
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const proxy = await TcpProxy.open({ host: "127.0.0.1", port: (server.address() as AddressInfo).port });
  proxy.toxics.latencyMs = LATENCY_MS;
  const client = connect(proxy.port, "127.0.0.1");
  const sent = Buffer.alloc(NUMBERS * 4);
  for (let n = 0; n < NUMBERS; n += 1) sent.writeUInt32LE(n, n * 4);
  client.write(sent);
  await expect.poll(() => bytes, { timeout: 20_000 }).toBe(sent.length);
  expect(Buffer.concat(received).equals(sent)).toBe(true);
  client.destroy();
  await proxy.close();
  await new Promise((resolve) => server.close(resolve));
  vi.restoreAllMocks();
});
