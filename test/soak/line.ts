/** All ways of one process to one kind of server: a proxy to each of them, spoiled together. */
import type { TcpProxy } from "../support/tcp-proxy.ts";

export class Line {
  readonly #proxies: readonly TcpProxy[];

  constructor(proxies: readonly TcpProxy[]) {
    this.#proxies = proxies;
  }

  get connections(): number {
    return this.#sum(({ connections }) => connections);
  }

  get swallowedBytes(): number {
    return this.#sum(({ swallowedBytes }) => swallowedBytes);
  }

  /** From now on nothing passes in this direction; nobody is told. */
  swallow(direction: "dropRequests" | "dropReplies"): void {
    for (const { toxics } of this.#proxies) toxics[direction] = true;
  }

  cut(): void {
    for (const proxy of this.#proxies) proxy.cut();
  }

  heal(): void {
    for (const proxy of this.#proxies) proxy.heal();
  }

  async close(): Promise<void> {
    await Promise.all(this.#proxies.map((proxy) => proxy.close()));
  }

  #sum(of: (proxy: TcpProxy) => number): number {
    return this.#proxies.reduce((sum, proxy) => sum + of(proxy), 0);
  }
}
