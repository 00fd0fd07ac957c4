/**
 * Proxies that stand between one process and its servers, for faults of the network alone.
 */
import { fileURLToPath } from "node:url";

import type { Deployment } from "./harness.ts";
import { TcpProxy } from "./tcp-proxy.ts";

const REDIRECT = fileURLToPath(new URL("fault-redirect.mjs", import.meta.url));

export interface Between {
  readonly proxy: TcpProxy;
  /** Settings of the process whose connections go through the proxy. */
  readonly env: Readonly<Record<string, string>>;
}

export async function withPostgresProxy<T>(deployment: Deployment, work: (between: Between) => Promise<T>): Promise<T> {
  const between = await openPostgresProxy(deployment.config.databaseUrl);
  return closing(between.proxy, () => work(between));
}

export async function openPostgresProxy(databaseUrl: string): Promise<Between> {
  const url = new URL(databaseUrl);
  const proxy = await TcpProxy.open({ host: url.hostname, port: Number(url.port) });
  url.host = `127.0.0.1:${proxy.port}`;
  return { proxy, env: { LOCKSTEP_DATABASE_URL: url.href } };
}

/** @param options.broker which one, `host:port`; default the only one */
export async function withKafkaProxy<T>(
  deployment: Deployment,
  work: (between: Between) => Promise<T>,
  options: { broker?: string } = {},
): Promise<T> {
  const between = await openKafkaProxy(options.broker ?? deployment.stack.brokers[0]!);
  return closing(between.proxy, () => work(between));
}

/** @param broker host:port, as it advertises itself */
export async function openKafkaProxy(broker: string): Promise<Between> {
  const { proxies, env } = await openKafkaProxies([broker]);
  return { proxy: proxies[0]!, env };
}

/** One to each broker. @param brokers host:port, as they advertise themselves */
export async function openKafkaProxies(
  brokers: readonly string[],
): Promise<{ readonly proxies: TcpProxy[]; readonly env: Between["env"] }> {
  const proxies: TcpProxy[] = [];
  const redirects: string[] = [];
  for (const broker of brokers) {
    const [host, port] = broker.split(":");
    const proxy = await TcpProxy.open({ host: host!, port: Number(port) });
    proxies.push(proxy);
    redirects.push(`${port}:${proxy.port}`);
  }
  return { proxies, env: { NODE_OPTIONS: `--import=${REDIRECT}`, FAULT_REDIRECT: redirects.join(",") } };
}

/** The connections break, and whoever connects again finds the line as good as new. */
export function breakLine(proxy: TcpProxy): void {
  proxy.cut();
  proxy.heal();
}

async function closing<T>(proxy: TcpProxy, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } finally {
    await proxy.close();
  }
}
