/**
 * Where faults are done: one deployment under load for the tests of a whole file. A process that nothing happens to ("steady") is
 * there from beginning to end; each test starts a victim beside it, which takes its share of the shards, meets its fault, and
 * leaves what the protocol must repair.
 *
 * After each test the load pauses and the audit judges everything since the beginning, through our own reader. At the end of the
 * file it judges once more: drained by SIGTERM, with the manifest of the load, and what was published read by Kafka's own consumer.
 */
import { expect } from "vitest";

import type { LoadOptions } from "../../src/cli/app-tools.ts";
import { quickAudit } from "./fault-audit.ts";
import { FaultLoad } from "./fault-load.ts";
import { type Hit, Victim } from "./fault-victim.ts";
import { Deployment, type DeploymentOptions, type ProcessEvent } from "./harness.ts";
import { recordCheck } from "./proof.ts";
import { until } from "./until.ts";

const STEADY = "steady";
const WAIT_MS = 180_000;

/** A stop must not outlast the deadline of a publish, or the zombie finds that instead of its fence. */
const PATIENT = { LOCKSTEP_TRANSACTION_TIMEOUT_MS: "60000" };

/** What is on time for the generator must be so for the shards: no ticks while the load pauses, no input left waiting for. */
const ON_TIME = { LOCKSTEP_IDLE_MS: "3600000", LOCKSTEP_INPUT_WAIT_MS_MAX: "10000" };

/**
 * Nothing is to happen to the steady process, also when two busy cores keep it from its heartbeats for seconds. Sessions are a
 * member's own: that of a victim stays short, and its end is noticed as soon.
 */
const NOT_GIVEN_UP = { LOCKSTEP_SESSION_TIMEOUT_MS: "30000", LOCKSTEP_REBALANCE_TIMEOUT_MS: "20000" };

/** Its end is to be noticed soon, but it must live to meet its fault. */
const SOON_MISSED = { LOCKSTEP_SESSION_TIMEOUT_MS: "4000" };

export interface FaultBedOptions extends DeploymentOptions {
  readonly load?: Partial<LoadOptions>;
}

export class FaultBed {
  readonly deployment: Deployment;
  readonly load: FaultLoad;
  readonly #victims: Victim[] = [];
  #clean = true;

  private constructor(deployment: Deployment, load: FaultLoad) {
    this.deployment = deployment;
    this.load = load;
  }

  /** With all shards running in the steady process, and the load under way. */
  static async open(options: FaultBedOptions): Promise<FaultBed> {
    const { load, ...wanted } = options;
    const deployment = await Deployment.open({ ...wanted, env: { ...PATIENT, ...ON_TIME, ...options.env } });
    try {
      deployment.start(STEADY, { env: NOT_GIVEN_UP });
      await deployment.untilRunning();
      const bed = new FaultBed(deployment, new FaultLoad(deployment, load));
      bed.load.resume();
      return bed;
    } catch (error) {
      await deployment.close();
      throw error;
    }
  }

  startVictim(points: string, options: { env?: Readonly<Record<string, string>> } = {}): Victim {
    const name = `victim-${this.#victims.length + 1}`;
    const victim = new Victim(this.deployment, { name, points, env: { ...SOON_MISSED, ...options.env } });
    this.#victims.push(victim);
    return victim;
  }

  /** Without it, what a victim leaves is repaired by the next victim. */
  async stopSteady(): Promise<void> {
    await this.deployment.stop(STEADY);
  }

  startSteady(): void {
    this.deployment.start(STEADY, { env: NOT_GIVEN_UP });
  }

  /** Kills a process at a fail-point, and waits until the steady one runs every shard again. */
  async killAt(
    points: string,
    options: { env?: Readonly<Record<string, string>> } = {},
  ): Promise<Hit & { victim: Victim; seq: number }> {
    const victim = this.startVictim(points, options);
    const hit = await victim.untilKilled();
    await this.untilTakenOver();
    return { ...hit, victim, seq: victim.seqUnderWay(hit.shard) };
  }

  /**
   * Stops a process at a fail-point (SIGSTOP), and waits until the steady one, which has had no sign of life from it, runs
   * every shard. The zombie is to be woken by the caller.
   */
  async stopAt(points: string): Promise<Hit & { victim: Victim; seq: number }> {
    const victim = this.startVictim(points);
    const hit = await victim.untilHit();
    await this.untilTakenOver();
    return { ...hit, victim, seq: victim.seqUnderWay(hit.shard) };
  }

  async untilTakenOver(): Promise<void> {
    const { deployment } = this;
    await until(() => deployment.running(STEADY).length === deployment.shardCount, {
      what: "the steady process to run every shard",
      timeoutMs: WAIT_MS,
    });
  }

  /** What the steady process said of a shard since `victim` began to run it, for the last time: it may have lost it before. */
  said(event: string, after: { shard: number; victim: Victim }): ProcessEvent[] {
    return this.#saidSince(after).filter((line) => line.event === event);
  }

  /** The same, up to when it ran the shard: later it may publish commits of its own anew. */
  saidTakingOver(event: string, after: { shard: number; victim: Victim }): ProcessEvent[] {
    const said = this.#saidSince(after);
    return said
      .slice(
        0,
        said.findIndex((line) => line.event === "running"),
      )
      .filter((line) => line.event === event);
  }

  #saidSince({ shard, victim }: { shard: number; victim: Victim }): ProcessEvent[] {
    const { events } = this.deployment;
    const begin = events.findLastIndex(
      (line) => line.process === victim.name && line.event === "running" && line.shard === shard,
    );
    return events.slice(begin).filter((line) => line.process === STEADY && line.shard === shard);
  }

  /** At rest: the load paused, everything taken, and Postgres knows that Kafka has it. */
  async settle(): Promise<void> {
    await this.load.pause();
    await this.deployment.untilRunning();
    await this.deployment.untilDrained();
    await until(
      async () =>
        (await this.deployment.query("SELECT FROM lockstep.shard WHERE confirmed < seq OR owner IS NULL")).length === 0,
      { what: "every commit to be confirmed", timeoutMs: WAIT_MS },
    );
  }

  /** Judges all that was done since the beginning, and lets the load go on. */
  async expectClean(): Promise<void> {
    await this.settle();
    const { findings } = await quickAudit(this.deployment);
    if (findings.length > 0) this.#clean = false;
    expect(findings).toEqual([]);
    recordCheck("audit of all since the file began: no findings");
    this.load.resume();
  }

  /** The end of the file: drained by SIGTERM, and judged with the manifest. Then everything is taken back. */
  async finish(): Promise<void> {
    try {
      if (!this.#clean) return; // said already, by the test whose fault it was
      // Left by a test that failed. The system is judged all the same: it must cope with that too.
      for (const victim of this.#victims) victim.process.signal("SIGKILL");
      const manifest = await this.load.end();
      await this.deployment.untilRunning();
      await this.deployment.untilDrained();
      await this.deployment.stopAll();
      const report = await this.deployment.audit(manifest);
      expect(report.findings).toEqual([]);
      expect(report.figures["lost"]).toBe(0);
      expect(report.figures["doubled"]).toBe(0);
      expect(report.figures["outOfOrder"]).toBe(0);
    } finally {
      await this.deployment.close();
    }
  }
}
