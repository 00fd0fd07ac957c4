/**
 * The demo's fleet: `lockstep run` processes on one stack, what they say of themselves, and what chaos does to them.
 *
 * Counted from their logs, which are written synchronously and so survive a SIGKILL: takeovers, redo published, fences and halts.
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
}

export interface Fleet {
  readonly counts: Readonly<FleetCounts>;
  /** Shards in state running, over all processes. */
  running(): number;
  /** Sentences of shards that halted. */
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
}): Fleet {
  const { clock } = options;
  const counts: FleetCounts = { kills: 0, pauses: 0, takeovers: 0, redoPublished: 0, fenced: 0, halted: 0 };
  const halts: string[] = [];
  /** Shards that each process says it runs; emptied when it is killed. */
  const shards: Set<number>[] = [];
  const fleet: RunProcess[] = [];
  const expectedToEnd = new Set<RunProcess>();
  let generation = 0;

  function start(index: number): void {
    const held = new Set<number>();
    shards[index] = held;
    generation += 1;
    fleet[index] = new RunProcess({
      name: `process-${index}`,
      main: options.main,
      env: { ...options.env, LOCKSTEP_HTTP_PORT: String(options.httpPorts[index]) },
      logFile: join(options.dir, `process-${index}.${generation}.log`),
      onLine: (line) => onLine(line, held),
    });
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
    counts.kills += 1;
    start(target);
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
        if (step.kind === "kill") {
          say(`chaos: SIGKILL process-${step.target}, with ${lag()} records of lag`);
          await kill(step.target);
        } else {
          say(`chaos: SIGSTOP process-${step.target} for ${plan.pauseMs} ms, with ${lag()} records of lag`);
          await pause(step.target, plan.pauseMs);
          say(`chaos: SIGCONT process-${step.target}`);
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
