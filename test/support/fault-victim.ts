/**
 * A process that a fault is done to: started with a fail-point, it must prove that it passed it. What it said before it was killed
 * tells which commit was under way.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import type { RunProcess } from "../../src/cli/processes.ts";
import type { Deployment, ProcessEvent } from "./harness.ts";
import { recordHit } from "./proof.ts";
import { until } from "./until.ts";

/** One line of LOCKSTEP_FAILPOINT_LOG, written before the fault takes effect. */
export interface Hit {
  readonly point: string;
  readonly shard: number;
  readonly pass: number;
  readonly action: string;
}

const HIT_MS = 180_000;
const WAKE_MS = 20;

export class Victim {
  readonly name: string;
  readonly process: RunProcess;
  readonly #deployment: Deployment;
  readonly #hitFile: string;

  /** @param points as LOCKSTEP_FAILPOINT */
  constructor(
    deployment: Deployment,
    options: { name: string; points: string; env?: Readonly<Record<string, string>> },
  ) {
    this.name = options.name;
    this.#deployment = deployment;
    this.#hitFile = join(deployment.logFolder, `${options.name}.hits`);
    this.process = deployment.start(options.name, {
      env: {
        LOG_LEVEL: "debug", // one line a commit: `seqUnderWay`
        LOCKSTEP_FAILPOINT: options.points,
        LOCKSTEP_FAILPOINT_LOG: this.#hitFile,
        ...options.env,
      },
    });
  }

  hits(): Hit[] {
    if (!existsSync(this.#hitFile)) return [];
    return readFileSync(this.#hitFile, "utf8")
      .split("\n")
      .map((line) => /^failpoint (\S+) shard (\d+) hit (\d+) -> (\w+) pid/.exec(line))
      .filter((match) => match !== null)
      .map(([, point, shard, pass, action]) => ({
        point: point!,
        shard: Number(shard),
        pass: Number(pass),
        action: action!,
      }));
  }

  /** The proof that the fault happened: the n-th line of the fail-point's file, from 0. */
  async untilHit(index = 0): Promise<Hit> {
    const hit = await until(
      () => {
        const found = this.hits()[index];
        if (!found && this.process.ended) throw new Error(`${this.name} ended:\n${this.process.stderr}`);
        return found;
      },
      { what: `${this.name} to pass its fail-point`, timeoutMs: HIT_MS },
    );
    this.#record(hit);
    return hit;
  }

  /** The proof, then the end by SIGKILL. */
  async untilKilled(): Promise<Hit> {
    const hit = await this.untilHit();
    const { signal } = await this.process.exited;
    if (signal !== "SIGKILL") throw new Error(`${this.name} was not killed by its fail-point but ended by ${signal}`);
    return hit;
  }

  /** Wakes it, and from now on from every further stop: other shards pass the same points. */
  letRun(): void {
    // Again and again: a line is in the file before the stop takes effect.
    const timer = setInterval(() => this.process.signal("SIGCONT"), WAKE_MS);
    void this.process.exited.then(() => clearInterval(timer));
  }

  async untilPassed({ point, shard }: { point: string; shard: number }): Promise<void> {
    const hit = await until(() => this.hits().find((each) => each.point === point && each.shard === shard), {
      what: `${this.name} to pass ${point} of shard ${shard}`,
    });
    this.#record(hit);
  }

  #record({ point, pass, action, shard }: Hit): void {
    recordHit(`${point}:${pass}:${action}`, `${this.name}, shard ${shard}`);
  }

  /** Seq of the commit that this process was making of a shard when it was killed; its last lines must have been read. */
  seqUnderWay(shard: number): number {
    const stood = ["running", "committed"].flatMap((event) => this.events(event, shard));
    if (stood.length === 0) throw new Error(`${this.name} never ran shard ${shard}`);
    return Math.max(...stood.map((line) => Number(line["seq"]))) + 1;
  }

  events(event: string, shard: number): ProcessEvent[] {
    return this.#deployment.eventsOf(event, this.name).filter((line) => line.shard === shard);
  }

  /** Until it has written this event of this shard, `count` times in all. */
  async untilEvent(event: string, shard: number, count = 1): Promise<ProcessEvent> {
    return until(() => this.events(event, shard)[count - 1], {
      what: `${this.name} to say "${event}" of shard ${shard}`,
      timeoutMs: HIT_MS,
    });
  }
}
