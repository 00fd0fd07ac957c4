/**
 * The demo's fleet: `lockstep run` processes on one stack, what they say of themselves, and what chaos does to them.
 *
 * Counted from their logs, which are written synchronously and so survive a SIGKILL: takeovers of shards and of the relay, redo
 * published, fences and halts.
 */
import { join } from "node:path";

import type { Clock } from "../clock.ts";
import type { ChaosPlan } from "./chaos.ts";
import { type LogLine, RunProcess } from "./processes.ts";

export interface FleetCounts {
  kills: number;
  pauses: number;
  takeovers: number;
  redoPublished: number;
  /** Owners that Kafka fenced, or that found another token in their row. */
  fenced: number;
  halted: number;
  /** The relay runs in another process than before. */
  relayTakeovers: number;
}

export interface Fleet {
  readonly counts: Readonly<FleetCounts>;
  /** Shards in state running, over all processes. */
  running(): number;
  /** Sentences of shards that halted, and of the relay. */
  halts(): readonly string[];
  rssBytes(): number;
  /** Throws when a process ended that nobody ended. */
  check(): void;
  /** Carries out a plan; resolves when all of it is done. `lag` says whether there is work in flight. */
  chaos(
    plan: ChaosPlan,
    options: { lag: () => number; signal: AbortSignal; say: (text: string) => void },
  ): Promise<void>;
  /** SIGTERM to all. @returns true when every one drained and exited with 0 */
  stop(deadlineMs: number): Promise<boolean>;
  kill(): void;
}

export function startFleet(options: {
  processes: number;
  main: string;
  env: NodeJS.ProcessEnv;
  /** Per process, where it serves metrics and health: the same again after a kill, so that whoever scrapes it finds it. */
  httpPorts: readonly number[];
  dir: string;
  clock: Clock;
  /** The processes host relays. */
  relay: boolean;
}): Fleet {
  const { clock } = options;
  const counts: FleetCounts = {
    kills: 0,
    pauses: 0,
    takeovers: 0,
    redoPublished: 0,
    fenced: 0,
    halted: 0,
    relayTakeovers: 0,
  };
  const halts: string[] = [];
  /** Shards that each process says it runs; emptied when it is killed. */
  const shards: Set<number>[] = [];
  const fleet: RunProcess[] = [];
  const expectedToEnd = new Set<RunProcess>();
  let generation = 0;
  /** Of the relay that ran last: the process's place, and its generation. */
  let relay: { readonly index: number; readonly generation: number; readonly running: boolean } | null = null;

  function start(index: number): void {
    const held = new Set<number>();
    shards[index] = held;
    generation += 1;
    const mine = generation;
    fleet[index] = new RunProcess({
      name: `process-${index}`,
      main: options.main,
      env: { ...options.env, LOCKSTEP_HTTP_PORT: String(options.httpPorts[index]) },
      logFile: join(options.dir, `process-${index}.${generation}.log`),
      onLine: (line) => {
        onLine(line, held);
        onRelayLine(line, { index, generation: mine });
      },
    });
  }

  function onRelayLine({ event, ...line }: LogLine, of: { index: number; generation: number }): void {
    if (event === "relay-running") {
      if (relay !== null && relay.generation !== of.generation) counts.relayTakeovers += 1;
      relay = { ...of, running: true };
    }
    if (event === "relay-halted") {
      halts.push(`the relay: ${String((line["err"] as { message?: unknown } | undefined)?.message ?? line.msg)}`);
    }
    const ended = event === "relay-lost" || event === "relay-fenced" || event === "relay-halted";
    if (ended && relay?.generation === of.generation) relay = { ...relay, running: false };
  }

  function onLine(line: LogLine, held: Set<number>): void {
    const { event, shard } = line;
    if (event === "took-over") counts.takeovers += 1;
    if (event === "redo-published") counts.redoPublished += Number(line["to"]) - Number(line["from"]) + 1;
    const code = (line["err"] as { code?: unknown } | undefined)?.code;
    if (event === "fenced" || (event === "lost" && code === "SHARD_LOST")) counts.fenced += 1;
    if (event === "halted") {
      counts.halted += 1;
      halts.push(String((line["err"] as { message?: unknown } | undefined)?.message ?? line.msg));
    }
    if (shard === undefined) return;
    if (event === "running") held.add(shard);
    else if (
      event === "released" ||
      event === "lost" ||
      event === "halted" ||
      event === "restoring" ||
      event === "fenced"
    )
      held.delete(shard);
  }

  for (let index = 0; index < options.processes; index += 1) start(index);

  async function kill(target: number): Promise<void> {
    const process = fleet[target]!;
    expectedToEnd.add(process);
    process.signal("SIGKILL");
    await process.exited;
    shards[target]!.clear();
    if (relay?.index === target) relay = { ...relay, running: false };
    counts.kills += 1;
    start(target);
  }

  /** Waits for a relay to run. Where there is none by design, the first process stands in. @returns null: aborted */
  async function relayHolder(signal: AbortSignal): Promise<number | null> {
    if (!options.relay) return 0;
    while (!signal.aborted) {
      if (relay?.running) return relay.index;
      await clock.sleep(10, signal);
    }
    return null;
  }

  async function pause(target: number, pauseMs: number): Promise<void> {
    const process = fleet[target]!;
    process.signal("SIGSTOP");
    counts.pauses += 1;
    await clock.sleep(pauseMs);
    process.signal("SIGCONT");
  }

  return {
    counts,
    running: () => new Set(shards.flatMap((held) => [...held])).size,
    halts: () => halts,
    rssBytes: () => fleet.reduce((sum, process) => sum + process.rssBytes(), 0),
    check() {
      for (const process of fleet) {
        if (process.ended && !expectedToEnd.has(process))
          throw new Error(
            `${process.name} ended by itself:\n${process.stderr || "(it said nothing on stderr; see its log)"}`,
          );
      }
    },
    async chaos(plan, { lag, signal, say }) {
      const startMs = clock.monotonicMs();
      for (const step of plan.steps) {
        await clock.sleep(Math.max(0, step.atMs - (clock.monotonicMs() - startMs)), signal);
        while (!signal.aborted && lag() === 0) await clock.sleep(5, signal);
        if (signal.aborted) return;
        const target = step.target === "relay" ? await relayHolder(signal) : step.target;
        if (target === null) return;
        if (step.kind === "kill") {
          const what = step.target === "relay" ? ", which holds the relay," : "";
          say(`chaos: SIGKILL process-${target}${what} with ${lag()} records of lag`);
          await kill(target);
        } else {
          say(`chaos: SIGSTOP process-${target} for ${plan.pauseMs} ms, with ${lag()} records of lag`);
          await pause(target, plan.pauseMs);
          say(`chaos: SIGCONT process-${target}`);
        }
      }
    },
    async stop(deadlineMs) {
      for (const process of fleet) expectedToEnd.add(process);
      for (const process of fleet) process.signal("SIGTERM");
      const ended = Promise.all(fleet.map((process) => process.exited));
      const results = await Promise.race([ended, clock.sleep(deadlineMs).then(() => null)]);
      return results?.every(({ code }) => code === 0) ?? false;
    },
    kill() {
      for (const process of fleet) {
        expectedToEnd.add(process);
        process.signal("SIGCONT");
        process.signal("SIGKILL");
      }
    },
  };
}
