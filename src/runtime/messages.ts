/** What main and its workers say to each other over their message ports. Plain data. */
import type { Config } from "../config.ts";
import type { Deployment } from "./worker.ts";

export interface WorkerTask {
  readonly index: number;
  readonly config: Config;
  readonly deployment: Deployment;
  /** Path of the app module, and the digest that main computed of it. */
  readonly appPath: string;
  readonly code: string;
  readonly port: import("node:worker_threads").MessagePort;
}

export type ToWorker = { readonly type: "stop" };

export type FromWorker = { readonly type: "member"; readonly memberId: string };
