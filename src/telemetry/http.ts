/**
 * The HTTP server of a process: metrics, health, version. It serves nothing that changes anything, has no authentication, and is
 * meant for the host or the cluster's network alone.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

import { LockstepError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { Exposition } from "./exposition.ts";
import { answerHealth, type Checks, type Endpoint } from "./health.ts";

export interface HttpServer {
  /** `http://127.0.0.1:9464` */
  readonly url: string;
  close(): Promise<void>;
}

export interface HttpOptions {
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  readonly log: Log;
  readonly exposition: Exposition;
  readonly checks: Checks;
  readonly version: Readonly<Record<string, string>>;
}

/** A client that does not send its request, or does not take the answer, holds no socket for longer. */
const REQUEST_MS = 10_000;

/** @throws {LockstepError} HTTP_UNAVAILABLE the address cannot be listened on */
export async function startHttpServer(options: HttpOptions): Promise<HttpServer> {
  const { host, port, log } = options;
  const server = createServer({ requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS }, (request, response) => {
    void answer(options, request, response).catch((err: unknown) => {
      log.warn({ event: "http-failed", err, url: request.url }, "a request could not be answered");
      send(response, 500, "an error that nobody expected; the log has it\n");
    });
  });
  await listen(server, { host, port });
  const { address, port: taken } = server.address() as AddressInfo;
  return {
    url: `http://${address.includes(":") ? `[${address}]` : address}:${taken}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function listen(server: Server, { host, port }: { host: string; port: number }): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const why =
        cause.code === "EADDRINUSE"
          ? "it is in use, perhaps by another process of this host. Set LOCKSTEP_HTTP_PORT to another port, or to 0 for any that is free"
          : `${cause.message}. Set LOCKSTEP_HTTP_HOST and LOCKSTEP_HTTP_PORT to an address of this host`;
      reject(
        new LockstepError("HTTP_UNAVAILABLE", `Metrics and health cannot be served on ${host}:${port}: ${why}.`, {
          details: { host, port, reason: cause.code },
          cause,
        }),
      );
    });
    server.listen(port, host, () => {
      server.removeAllListeners("error");
      resolve();
    });
  });
}

const ENDPOINTS: Readonly<Record<string, Endpoint>> = {
  livez: "livez",
  readyz: "readyz",
  startupz: "startupz",
  healthz: "readyz",
};

const INDEX = `Lockstep\n\n${["/metrics", "/livez", "/readyz?verbose", "/startupz", "/healthz", "/version"].join("\n")}\n`;

async function answer(options: HttpOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const address = `http://localhost${request.url ?? "/"}`;
  if (!URL.canParse(address)) return send(response, 400, "that is no path\n");
  const url = new URL(address);
  const [, first = "", only, ...more] = url.pathname.split("/");
  if (request.method !== "GET" && request.method !== "HEAD") {
    response.setHeader("allow", "GET, HEAD");
    return send(response, 405, "GET or HEAD is wanted\n");
  }
  const endpoint = Object.hasOwn(ENDPOINTS, first) ? ENDPOINTS[first] : undefined;
  if (endpoint !== undefined && more.length === 0) {
    const { status, body } = await answerHealth(endpoint, options.checks[endpoint], {
      verbose: url.searchParams.has("verbose"),
      only: only === "" ? undefined : only,
      exclude: url.searchParams.getAll("exclude"),
    });
    return send(response, status, body);
  }
  if (only !== undefined) return send(response, 404, `there is no ${url.pathname}\n`);
  switch (first) {
    case "":
      return send(response, 200, INDEX);
    case "metrics":
      return send(response, 200, await options.exposition.text(), options.exposition.contentType);
    case "version":
      return send(response, 200, `${JSON.stringify(options.version)}\n`, "application/json");
    default:
      return send(response, 404, `there is no ${url.pathname}\n`);
  }
}

function send(response: ServerResponse, status: number, body: string, type = "text/plain; charset=utf-8"): void {
  if (response.headersSent) return void response.destroy();
  response.writeHead(status, {
    "content-type": type,
    "content-length": Buffer.byteLength(body),
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
  });
  response.end(response.req.method === "HEAD" ? undefined : body);
}
