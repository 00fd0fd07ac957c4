/**
 * The main thread's part: starts the workers, replaces one that dies, and stops them all in order.
 *
 *   starting -> running -> stopping -> stopped
 *
 * A worker that dies takes its thread with it; its shards stay where Postgres and Kafka have them. Main leaves the group in its
 * name, so that the others need not wait for the session to time out, and starts another, with back-off. A worker whose step does
 * not end is ended, and what it was stepping is counted first: watchdog.ts.
 *
 * Invariants
 *   S-gone  Metrics and health are told at once that a thread has ended. What follows waits for Postgres, which may be away for long:
 *           a worker that is being replaced is not silent, and no reason to end the process.
 */
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { MessageChannel, type MessagePort, receiveMessageOnPort } from "node:worker_threads";
import { Piscina } from "piscina";
import type { SuspectStore } from "../actors/ports.ts";
import type { Clock } from "../clock.ts";
import type { Config } from "../config.ts";
import type { Log } from "../log.ts";
import type { LoadedApp } from "./code.ts";
import type { FromWorker, ToWorker, WorkerTask } from "./messages.ts";
import { SEAT_BYTES } from "./step-seat.ts";
import { createWatchdog } from "./watchdog.ts";
import type { Deployment } from "./worker.ts";
import type { WorkerReport } from "./worker-meter.ts";

const RESTART_MS_MIN = 500;
const RESTART_MS_MAX = 30_000;

/**
 * A fold makes much short-lived garbage between two commits; with V8's default (16 MB) much of it is promoted before it dies. Draining
 * a backlog of 100,000 signals took 15.0 s with the default and 12.2 s with this, on 2 cores shared with other load.
 */
const YOUNG_GENERATION_MB = 96;

/**
 * How far a heap grows beyond what lived in it after the last full collection, before the next one. V8 by itself lets it grow to four
 * times that, and under load nearly all of it is garbage: whatever waited in a queue was promoted first. Draining 100,000 signals,
 * live data were 40-80 MB a worker; with V8's own rule heaps reached 308 MB, with this 142 MB, at a few percent more time.
 */
const HEAP_GROWTH_PERCENT = 50;

/** A worker entry that runs under node without a loader: compiled code when this file is compiled. */
const ENTRY = fileURLToPath(
  new URL(import.meta.url.endsWith(".ts") ? "./worker-entry.ts" : "./worker-entry.js", import.meta.url),
);

export interface SupervisorOptions {
  readonly config: Config;
  readonly deployment: Deployment;
  readonly loaded: LoadedApp;
  readonly log: Log;
  readonly clock: Clock;
  /** Leaves the group in the name of a worker that died. */
  readonly leaveGroup: (memberId: string) => Promise<void>;
  readonly observer: SupervisorObserver;
  /** Where attempts at steps that ended their worker are counted. */
  readonly suspects: Pick<SuspectStore, "count">;
  /** What a worker thread runs; worker-entry when left out. */
  readonly entry?: string;
}

/** Who follows the workers: metrics and health. */
export interface SupervisorObserver {
  workerStarted(worker: number): void;
  workerReported(worker: number, report: WorkerReport): void;
  /** It stopped, or died. */
  workerEnded(worker: number): void;
  /** A step did not come to its end, and took its worker with it. */
  stepEndedWorker(worker: number): void;
}

interface Slot {
  readonly index: number;
  port: MessagePort | null;
  memberId: string | null;
  /** Resolves when the slot is not used any more: true when its last worker drained all it held. */
  ended: Promise<boolean>;
}

export interface Supervisor {
  /** Drains all workers. @returns true when all of them ended within `deadlineMs` and nothing of ours is left to be taken over */
  stop(deadlineMs: number): Promise<boolean>;
}

export function workerCount(config: Config): number {
  return config.workers > 0 ? config.workers : Math.max(2, availableParallelism() - 1);
}

export function startSupervisor(options: SupervisorOptions): Supervisor {
  const { config, log, clock } = options;
  const count = workerCount(config);
  setFlagsFromString(`--heap-growing-percent=${HEAP_GROWTH_PERCENT}`); // for every thread of the process
  const pool = new Piscina({
    filename: options.entry ?? ENTRY,
    minThreads: count,
    maxThreads: count,
    idleTimeout: Number.POSITIVE_INFINITY,
    concurrentTasksPerWorker: 1,
    resourceLimits: {
      maxYoungGenerationSizeMb: YOUNG_GENERATION_MB,
      ...(config.workerHeapMb > 0 ? { maxOldGenerationSizeMb: config.workerHeapMb } : {}),
    },
  });
  const watchdog = createWatchdog({
    stepMsMax: config.stepMsMax,
    topics: options.loaded.app.inputs.map(({ topic }) => topic),
    suspects: options.suspects,
    clock,
    log,
  });
  const stopping = new AbortController();
  let destroying = false;
  const slots: Slot[] = Array.from({ length: count }, (_, index) => ({
    index,
    port: null,
    memberId: null,
    ended: Promise.resolve(true),
  }));

  async function keepRunning(slot: Slot): Promise<boolean> {
    let restartMs = RESTART_MS_MIN;
    while (!stopping.signal.aborted) {
      const startedMs = clock.monotonicMs();
      try {
        const drained = await runOnce(slot);
        if (stopping.signal.aborted) return drained;
        log.warn({ event: "worker-ended", worker: slot.index }, "a worker ended by itself; starting another");
      } catch (error) {
        if (stopping.signal.aborted) {
          log.warn({ event: "worker-died", worker: slot.index, err: error }, "a worker died while it was stopped");
          return false;
        }
        log.error({ event: "worker-died", worker: slot.index, err: error }, "a worker died; starting another");
      }
      await leave(slot);
      if (clock.monotonicMs() - startedMs > RESTART_MS_MAX) restartMs = RESTART_MS_MIN;
      await clock.sleep(restartMs, stopping.signal);
      restartMs = Math.min(restartMs * 2, RESTART_MS_MAX);
    }
    return true;
  }

  async function runOnce(slot: Slot): Promise<boolean> {
    const channel = new MessageChannel();
    const seat = new SharedArrayBuffer(SEAT_BYTES);
    slot.port = channel.port1;
    const take = (message: FromWorker) => {
      if (message.type === "member") slot.memberId = message.memberId;
      else options.observer.workerReported(slot.index, message.report);
    };
    channel.port1.on("message", take);
    options.observer.workerStarted(slot.index);
    if (stopping.signal.aborted) channel.port1.postMessage({ type: "stop" } satisfies ToWorker);
    const task: WorkerTask = {
      index: slot.index,
      config,
      deployment: options.deployment,
      appPath: options.loaded.path,
      code: options.loaded.code,
      port: channel.port2,
      seat,
    };
    const ended = new AbortController();
    const stuck = new AbortController(); // aborting it ends the thread, whatever that is doing
    const watching = watchdog.stuck(seat, ended.signal).then((found) => found && stuck.abort());
    const gone = async () => {
      // Its last words may still be on the way.
      for (let last = receiveMessageOnPort(channel.port1); last; last = receiveMessageOnPort(channel.port1))
        take(last.message as FromWorker);
      channel.port1.close();
      slot.port = null;
      options.observer.workerEnded(slot.index); // S-gone
      ended.abort();
      await watching;
    };
    try {
      const run: Promise<boolean> = pool.run(task, { transferList: [channel.port2], signal: stuck.signal });
      return await run.finally(gone);
    } catch (error) {
      const how = { stuck: stuck.signal.aborted, error, worker: slot.index };
      const byStop = destroying && !how.stuck; // at the end of its time to drain, in the middle of a step like any other
      if (!byStop && (await watchdog.ended(seat, how, stopping.signal))) options.observer.stepEndedWorker(slot.index);
      throw error;
    }
  }

  async function leave(slot: Slot): Promise<void> {
    const { memberId } = slot;
    slot.memberId = null;
    if (memberId === null) return;
    try {
      await options.leaveGroup(memberId);
    } catch (error) {
      // The session time-out does the same, later.
      log.warn(
        { event: "leave-failed", worker: slot.index, memberId, err: error },
        "could not leave the group for a dead worker",
      );
    }
  }

  for (const slot of slots) slot.ended = keepRunning(slot);

  return {
    async stop(deadlineMs) {
      stopping.abort();
      for (const slot of slots) slot.port?.postMessage({ type: "stop" } satisfies ToWorker);
      const ended = Promise.all(slots.map((slot) => slot.ended)).then((all) => all.every((drained) => drained));
      const drained = await Promise.race([ended, clock.sleep(deadlineMs).then(() => false)]);
      destroying = true;
      await pool.destroy(); // what has not drained is ended here: the next owner replays and publishes what is missing
      return drained;
    },
  };
}
