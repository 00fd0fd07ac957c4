/**
 * The sender process as its parent sees it.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

import type { Manifest } from "../../src/machines/trading/generate/manifest.ts";
import { ROOT } from "../support/deployment-settings.ts";
import { until } from "../support/until.ts";
import type { FromSender, ToSender } from "./sender.ts";

/** Records a second that no sender reaches: as fast as it can. */
export const UNLIMITED = 1e9;
const START_MS = 60_000;
/** For the batch under way, and the manifest. */
const FINISH_MS = 30_000;

export class Load {
  readonly #child: ChildProcess;
  #ready = false;
  #sent = 0;
  #manifest: Manifest | null = null;
  #ended: string | null = null;

  private constructor(env: NodeJS.ProcessEnv) {
    this.#child = fork(join(ROOT, "scripts/run-ts.mjs"), [join(ROOT, "test/overload/sender.ts")], {
      env,
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.#child.on("message", (message: FromSender) => {
      if ("ready" in message) this.#ready = true;
      else if ("sent" in message) this.#sent = message.sent;
      else this.#manifest = message.manifest;
    });
    this.#child.once("exit", (code, signal) => {
      this.#ended = signal ?? `code ${code}`;
    });
  }

  static async start(env: NodeJS.ProcessEnv): Promise<Load> {
    const load = new Load(env);
    await load.#until(() => load.#ready, "the sender to start", START_MS);
    return load;
  }

  /** Records that the broker has acknowledged, as told within the last 100 ms. */
  get sent(): number {
    return this.#sent;
  }

  /** From now on so many records a second, and no more than `upTo` in all. */
  pace(rate: number, upTo = Number.MAX_SAFE_INTEGER): void {
    this.check();
    this.#child.send({ rate, upTo } satisfies ToSender);
  }

  /** @throws {Error} it has ended by itself */
  check(): void {
    if (this.#ended !== null && this.#manifest === null) throw new Error(`the sender ended by itself: ${this.#ended}`);
  }

  async finish(): Promise<Manifest> {
    this.#child.send({ finish: true } satisfies ToSender);
    return this.#until(() => this.#manifest, "the sender's manifest", FINISH_MS);
  }

  async close(): Promise<void> {
    if (this.#ended !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await ended;
  }

  #until<T>(condition: () => T, what: string, timeoutMs: number) {
    return until(
      () => {
        const value = condition();
        if (!value) this.check();
        return value;
      },
      { what, timeoutMs },
    );
  }
}
