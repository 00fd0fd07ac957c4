/** What main and its workers say to each other over their message ports. Plain data. */
import type { Config } from "../config.ts";
import type { RelayReport } from "../relay/status.ts";
import type { Deployment } from "./worker.ts";
import type { WorkerReport } from "./worker-meter.ts";

export interface WorkerTask {
  readonly index: number;
  readonly config: Config;
  readonly deployment: Deployment;
  /** Path of the app module, and the digest that main computed of it. */
  readonly appPath: string;
  readonly code: string;
  readonly port: import("node:worker_threads").MessagePort;
  /** Where the worker says what it steps: step-seat.ts. */
  readonly seat: SharedArrayBuffer;
}

export type ToWorker = { readonly type: "stop" };

export type FromWorker =
  | { readonly type: "member"; readonly memberId: string }
  | { readonly type: "report"; readonly report: WorkerReport };

/** The relay's thread; it is stopped like a worker. */
export interface RelayTask {
  readonly config: Config;
  readonly groupId: string;
  readonly appPath: string;
  readonly port: import("node:worker_threads").MessagePort;
}

export type FromRelay = { readonly type: "relay"; readonly report: RelayReport };
