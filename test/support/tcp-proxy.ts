/**
 * A TCP proxy that spoils connections on demand: what a network does to a client that has just sent COMMIT.
 *
 * Toxics act on every connection, from the moment they are set:
 *   latencyMs      each chunk is held back this long, in both directions, in order
 *   dropRequests   what the client sends is swallowed; the connection stays open
 *   dropReplies    what the server sends is swallowed; the connection stays open
 *   holdRequests   what the client sends is kept back until `release`; the server's side stays open meanwhile, also when the client is gone
 * `cut` closes every connection by a reset, on both sides. A server that reads a reset drops what it had not read yet.
 */
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

export interface Toxics {
  latencyMs: number;
  dropRequests: boolean;
  dropReplies: boolean;
  holdRequests: boolean;
}

/** What one connection's client sent and was held, and what the server answers once it has got it. */
export interface HeldLine {
  readonly sent: Buffer[];
  readonly answered: Buffer[];
}

export class TcpProxy {
  readonly toxics: Toxics = { latencyMs: 0, dropRequests: false, dropReplies: false, holdRequests: false };
  readonly #target: { host: string; port: number };
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** What clients sent and was swallowed, since the line was last healed. */
  #swallowed: Buffer[] = [];
  /** By the socket to the server. */
  readonly #held = new Map<Socket, HeldLine>();
  #roundTrips = 0;
  #swallowedBytes = 0;

  private constructor(target: { host: string; port: number }) {
    this.#target = target;
    this.#server = createServer((client) => this.#accept(client));
  }

  /** Listens on a free port of the loopback interface. */
  static async open(target: { host: string; port: number }): Promise<TcpProxy> {
    const proxy = new TcpProxy(target);
    await new Promise<void>((resolve, reject) => {
      proxy.#server.once("error", reject);
      proxy.#server.listen(0, "127.0.0.1", resolve);
    });
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Whether a request with this text in it was swallowed. */
  hasSwallowed(text: string): boolean {
    return this.#swallowed.some((chunk) => chunk.includes(text));
  }

  /** How often a server answered what had been asked since its last answer, over all connections so far. */
  get roundTrips(): number {
    return this.#roundTrips;
  }

  /** Of each connection with requests that are held. */
  held(): HeldLine[] {
    return [...this.#held.values()];
  }

  /** The server gets what was held, late; what it answers is in `answered` of each line from now on. */
  release(): void {
    this.toxics.holdRequests = false;
    for (const [server, { sent, answered }] of this.#held) {
      server.on("data", (chunk) => answered.push(chunk));
      server.write(Buffer.concat(sent));
    }
    this.#held.clear();
  }

  /** What was swallowed in either direction, since the proxy was opened. */
  get swallowedBytes(): number {
    return this.#swallowedBytes;
  }

  /** Open at this moment, as clients see it. */
  get connections(): number {
    return Math.ceil(this.#sockets.size / 2);
  }

  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
    this.#sockets.clear();
  }

  heal(): void {
    const none: Toxics = { latencyMs: 0, dropRequests: false, dropReplies: false, holdRequests: false };
    Object.assign(this.toxics, none);
    this.#swallowed = [];
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #accept(client: Socket): void {
    const server = connect(this.#target);
    for (const socket of [client, server]) {
      socket.setNoDelay(true);
      socket.on("error", () => {}); // A reset; "close" follows.
      this.#sockets.add(socket);
    }
    this.#follow(client, server);
    this.#follow(server, client);
    let asked = false;
    this.#pump(client, server, (chunk) => {
      asked = true;
      if (this.toxics.holdRequests) {
        const line = this.#held.get(server) ?? { sent: [], answered: [] };
        this.#held.set(server, line);
        line.sent.push(chunk);
        return true;
      }
      if (this.toxics.dropRequests) this.#swallowed.push(chunk);
      return this.toxics.dropRequests;
    });
    this.#pump(server, client, () => {
      if (asked) this.#roundTrips += 1;
      asked = false;
      return this.toxics.dropReplies;
    });
  }

  /** A clean end is passed on by #pump, after what was sent before it; a reset by this. */
  #follow(socket: Socket, other: Socket): void {
    socket.once("close", (hadError) => {
      this.#sockets.delete(socket);
      if (hadError && !this.#held.has(other)) setTimeout(() => other.resetAndDestroy(), this.toxics.latencyMs);
    });
  }

  #pump(from: Socket, to: Socket, dropped: (chunk: Buffer) => boolean): void {
    // One timer for the first in line: timers of several lengths, even by a fraction of 1 ms, can overtake each other.
    const line: { readonly atMs: number; readonly act: () => void }[] = [];
    const passOn = () => {
      while (line.length > 0 && line[0]!.atMs <= performance.now()) line.shift()!.act();
      if (line.length > 0) setTimeout(passOn, line[0]!.atMs - performance.now());
    };
    const pass = (act: () => void) => {
      line.push({ atMs: performance.now() + this.toxics.latencyMs, act });
      if (line.length === 1) passOn();
    };
    from.on("data", (chunk) => {
      if (dropped(chunk)) {
        this.#swallowedBytes += chunk.length;
        return;
      }
      pass(() => {
        if (to.writable && !to.write(chunk)) {
          from.pause();
          to.once("drain", () => from.resume());
        }
      });
    });
    from.on("end", () => {
      if (!this.#held.has(to)) pass(() => to.end());
    });
  }
}
