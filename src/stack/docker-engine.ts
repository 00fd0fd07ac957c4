/**
 * Whether a Docker engine answers. Asked by hand, in one request: the package that starts containers is loaded only when they
 * are started.
 */
import { request } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";

import type { Missing } from "./prerequisites.ts";

const ANSWER_MS = 3_000;

/** @returns null when one answers */
export async function missingEngine(env: NodeJS.ProcessEnv): Promise<Missing | null> {
  const places = enginePlaces(env);
  for (const place of places) if (await answers(place, env)) return null;
  return {
    what: `a Docker engine that answers (asked ${places.join(", ")})`,
    install: "apt-get install -y docker.io && service docker start",
  };
}

/** Where an engine is looked for, in order: `DOCKER_HOST` alone when it is set, else the usual sockets. */
export function enginePlaces(env: NodeJS.ProcessEnv): string[] {
  const named = env["DOCKER_HOST"]?.trim();
  if (named) return [named];
  const rootless = env["XDG_RUNTIME_DIR"];
  return [
    "unix:///var/run/docker.sock",
    ...(rootless ? [`unix://${join(rootless, "docker.sock")}`] : []),
    ...(env["HOME"] ? [`unix://${join(env["HOME"], ".docker/run/docker.sock")}`] : []),
  ];
}

async function answers(place: string, env: NodeJS.ProcessEnv): Promise<boolean> {
  let url: URL;
  try {
    url = new URL(place);
  } catch {
    return false; // no address at all; the message names it
  }
  if (url.protocol === "unix:") return pings({ socketPath: url.pathname });
  const to = { host: url.hostname, port: Number(url.port || 2375) };
  // With TLS the certificates are the engine client's business; that somebody listens is enough here.
  return env["DOCKER_TLS_VERIFY"] ? connects(to) : pings(to);
}

/** Any answer of HTTP counts: an engine that refuses says why when it is used. */
function pings(to: { socketPath: string } | { host: string; port: number }): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = request({ ...to, path: "/_ping", timeout: ANSWER_MS }, (response) => {
      response.destroy();
      resolve(true);
    });
    asked.once("timeout", () => asked.destroy(new Error("no answer")));
    asked.once("error", () => resolve(false)); // nobody there, or not allowed to ask
    asked.end();
  });
}

function connects(to: { host: string; port: number }): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(to);
    const finish = (found: boolean): void => {
      socket.destroy();
      resolve(found);
    };
    socket.setTimeout(ANSWER_MS, () => finish(false));
    socket.once("connect", () => finish(true));
    socket.once("error", () => finish(false)); // nobody there
  });
}
