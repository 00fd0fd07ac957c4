/**
 * Ports that nobody listens on, for servers of the stack.
 */
import { createServer } from "node:net";

import { LockstepError } from "../errors.ts";

/**
 * Below the range from which the system takes ports for outgoing connections (32768 and up on Linux). A client that
 * retries a stopped server on a port of that range is now and then given that same port, and is connected to itself.
 */
const PORT_MIN = 15_000;
const PORT_MAX = 32_000;
const ATTEMPTS_MAX = 200;

/** Handed out by this process, so that two stacks started at once do not choose the same one before either listens. */
const taken = new Set<number>();

/**
 * Another process may still take such a port before the server does; the server then ends with an error that says so.
 * @throws {LockstepError} STACK_UNAVAILABLE no free port was found
 */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  for (let attempt = 0; attempt < ATTEMPTS_MAX && ports.length < count; attempt++) {
    const port = PORT_MIN + Math.floor(Math.random() * (PORT_MAX - PORT_MIN));
    if (taken.has(port) || !(await isFree(port))) continue;
    taken.add(port);
    ports.push(port);
  }
  if (ports.length < count) {
    throw new LockstepError("STACK_UNAVAILABLE", `no free port between ${PORT_MIN} and ${PORT_MAX} on 127.0.0.1`);
  }
  return ports;
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
