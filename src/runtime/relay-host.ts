/**
 * Main's part of the relay: one thread, restarted with back-off when it dies. Shards know nothing of it, and it ends no process.
 */
import { fileURLToPath } from "node:url";
import { MessageChannel, type MessagePort, receiveMessageOnPort } from "node:worker_threads";
import { Piscina } from "piscina";

import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import type { Log } from "../log.ts";
import type { RelayReport } from "../relay/status.ts";
import type { LoadedApp } from "./code.ts";
import type { FromRelay, RelayTask, ToWorker } from "./messages.ts";

const RESTART_MS_MIN = 500;
const RESTART_MS_MAX = 30_000;

const ENTRY = fileURLToPath(
  new URL(import.meta.url.endsWith(".ts") ? "./relay-entry.ts" : "./relay-entry.js", import.meta.url),
);

/** What it reads is on its way to Kafka at once: it gains nothing from the room that V8 would take when much comes. */
const YOUNG_GENERATION_MB = 24;

export interface RelayHost {
  /** Resolves when the relay has closed everything, or after `deadlineMs`. */
  stop(deadlineMs: number): Promise<void>;
}

export function startRelayHost(options: {
  config: Config;
  groupId: string;
  loaded: LoadedApp;
  log: Log;
  clock: Clock;
  /** Each, as it comes: its counts are since the one before. */
  onReport: (report: RelayReport) => void;
  /** Its thread died, and is started anew. */
  onDied: () => void;
}): RelayHost {
  const { config, groupId, loaded, log, clock } = options;
  const pool = new Piscina({
    filename: ENTRY,
    minThreads: 1,
    maxThreads: 1,
    idleTimeout: Number.POSITIVE_INFINITY,
    resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
  });
  const stopping = new AbortController();
  let port: MessagePort | null = null;

  function onMessage({ report }: FromRelay): void {
    options.onReport(report);
  }

  async function runOnce(): Promise<void> {
    const channel = new MessageChannel();
    port = channel.port1;
    channel.port1.on("message", onMessage);
    if (stopping.signal.aborted) channel.port1.postMessage({ type: "stop" } satisfies ToWorker);
    const task: RelayTask = { config, groupId, appPath: loaded.path, port: channel.port2 };
    try {
      await pool.run(task, { transferList: [channel.port2] });
    } finally {
      // Its last words may still be on the way.
      for (let last = receiveMessageOnPort(channel.port1); last; last = receiveMessageOnPort(channel.port1))
        onMessage(last.message as FromRelay);
      channel.port1.close();
      port = null;
    }
  }

  async function keepRunning(): Promise<void> {
    let restartMs = RESTART_MS_MIN;
    while (!stopping.signal.aborted) {
      const startedMs = clock.monotonicMs();
      try {
        await runOnce();
        if (stopping.signal.aborted) return;
      } catch (error) {
        if (stopping.signal.aborted) return;
        log.error({ event: "relay-died", err: error }, "the thread of the relay died; starting another");
      }
      options.onDied();
      if (clock.monotonicMs() - startedMs > RESTART_MS_MAX) restartMs = RESTART_MS_MIN;
      await clock.sleep(restartMs, stopping.signal);
      restartMs = Math.min(restartMs * 2, RESTART_MS_MAX);
    }
  }

  const ended = keepRunning();
  return {
    async stop(deadlineMs) {
      stopping.abort();
      port?.postMessage({ type: "stop" } satisfies ToWorker);
      await Promise.race([ended, clock.sleep(deadlineMs)]);
      await pool.destroy(); // what it had under way is aborted by the next relay's fence
    },
  };
}
