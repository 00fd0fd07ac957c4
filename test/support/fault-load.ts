/**
 * The app's generated load behind a gate: it runs beside the faults of a whole test file, halts where a test wants to look at a
 * system at rest, and lets single records through where a test wants to know what the next commit holds.
 *
 * The generator is an open loop: what has become due in a pause is sent right after it, in small batches. Each is acknowledged
 * before the next is sent, so that the inputs are never further apart than the lateness that the app allows, and the manifest
 * holds. Whether everything took effect is judged at the end, with it.
 */
import type { LoadOptions, Manifest } from "../../src/cli/app-tools.ts";
import type { Deployment } from "./harness.ts";
import { until } from "./until.ts";

/** Longer than any test file; `end` comes first. */
const SECONDS_MAX = 1_800;

/** At 150 records a second, each 60 times as far apart in event time: 4 s of the 10 s that a signal may be late. */
const BATCH_MAX = 10;

export class FaultLoad {
  readonly #deployment: Deployment;
  readonly #ending = new AbortController();
  readonly #finished: Promise<Manifest>;
  /** Records that may pass. */
  #allowed = 0;
  #sending = false;
  #failure: unknown = null;
  #opened: () => void = () => {};

  constructor(deployment: Deployment, options: Partial<LoadOptions> = {}) {
    this.#deployment = deployment;
    const load = deployment.tools.load({
      seconds: SECONDS_MAX,
      rate: 150,
      symbols: 20,
      speed: 60,
      duplicates: 0.05,
      late: 0.02,
      bad: 0.02,
      seed: 1,
      ...options,
    });
    this.#finished = load.run({
      send: (batch) => this.#send(batch),
      onProgress: () => {},
      signal: this.#ending.signal,
    });
    this.#finished.catch((error: unknown) => {
      this.#failure = error;
    });
  }

  resume(): void {
    this.#allowed = Number.POSITIVE_INFINITY;
    this.#opened();
  }

  /** Resolves when nothing is under way any more. */
  async pause(): Promise<void> {
    this.#allowed = 0;
    await until(() => this.#check() && !this.#sending, { what: "the load to pause" });
  }

  /** While paused: the next record alone. Resolves when Kafka has it. */
  async sendOne(): Promise<void> {
    this.#allowed = 1;
    this.#opened();
    await until(() => this.#check() && this.#allowed === 0 && !this.#sending, { what: "one record to be sent" });
  }

  /** Sends what is due, and no more. @returns what was sent since the beginning */
  async end(): Promise<Manifest> {
    this.#ending.abort();
    this.resume();
    return this.#finished;
  }

  async #send(batch: Parameters<Deployment["send"]>[0]): Promise<void> {
    for (let rest = batch; rest.length > 0; ) {
      while (this.#allowed === 0) {
        await new Promise<void>((resolve) => {
          this.#opened = resolve;
        });
      }
      const part = rest.slice(0, Math.min(this.#allowed, BATCH_MAX));
      rest = rest.slice(part.length);
      this.#sending = true;
      try {
        await this.#deployment.send(part);
      } finally {
        this.#sending = false;
      }
      this.#allowed = Math.max(0, this.#allowed - part.length);
    }
  }

  #check(): true {
    if (this.#failure) throw this.#failure;
    return true;
  }
}
