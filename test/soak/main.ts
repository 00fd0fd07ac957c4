/**
 * `npm run test:soak`: the trading app on real servers, under every fault there is, for as long as one likes.
 *
 *   1. schedule   drawn from the seed (schedule.ts) and printed whole
 *   2. stack      three brokers of Kafka and a Postgres of our own, with fsync; they are killed too
 *   3. soak       two processes and more, load with duplicates, late and poisoned input; faults by the schedule, each proven (faults.ts)
 *   4. recovery   faults off, nothing more is sent: until the lag is 0, and the relay has passed all rows
 *   5. stop       SIGTERM: everything drained, exit code 0
 *   6. audit      of every record, with the sender's manifest, read by Kafka's own consumer
 *
 * Exit code 0 only if lost, doubled and outOfOrder are 0, the audit is clean, the lag came down in time, and every kind of fault hit
 * (figures.ts). A shard that halts, or a process that ends by itself, ends the run at once.
 */
import { randomBytes } from "node:crypto";
import { appendFile, mkdir, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";

import { createProgress, EXIT, printJson } from "../../src/cli/output.ts";
import { type Stack, startStack } from "../../src/stack/index.ts";
import { faultsOf, table } from "./figures.ts";
import { keepServers } from "./keep.ts";
import { optionsOf } from "./options.ts";
import { BROKERS, prepare } from "./prepare.ts";
import { drawSchedule, scheduleText } from "./schedule.ts";
import { soak } from "./soak.ts";

/** Of the shell: ended by a signal. */
const SIGNALLED = { SIGINT: 130, SIGTERM: 143 } as const;

export async function main(args: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const options = optionsOf(args);
  if ("usage" in options) {
    (options.asked ? process.stdout : process.stderr).write(`${options.usage}\n`);
    return options.asked ? EXIT.ok : EXIT.usage;
  }
  const schedule = drawSchedule(options);
  if (options.plan) {
    if (options.json) printJson(schedule);
    else process.stdout.write(`${scheduleText(schedule)}\n`);
    return EXIT.ok;
  }
  const progress = createProgress(process.stderr, env);
  const stop = new AbortController();
  const endings = (["SIGINT", "SIGTERM"] as const).map((name) => {
    const handler = () => {
      progress.say(`${name}: stopping`);
      stop.abort(name);
    };
    process.on(name, handler);
    return () => process.off(name, handler);
  });
  const dir = resolve(".lockstep", `soak-${randomBytes(3).toString("hex")}`);
  let stack: Stack | null = null;
  let failed = true;
  try {
    await mkdir(dir, { recursive: true });
    await writeFile(join(dir, "schedule.json"), `${JSON.stringify(schedule, null, 2)}\n`);
    progress.say(scheduleText(schedule));
    progress.say("starting Kafka and Postgres");
    stack = await startStack({
      log: (line) => progress.say(line),
      brokers: BROKERS,
      kafkaConfig: { "group.min.session.timeout.ms": "1000" },
    });
    const bed = await prepare({ options, stack, dir, progress, signal: stop.signal });
    progress.say(`Kafka ${bed.config.brokers.join(",")}, Postgres, ${bed.shards} shards; logs in ${dir}`);
    const figures = await soak(bed, { schedule, signal: stop.signal });
    const faults = faultsOf(figures);
    progress.end();
    if (options.json)
      printJson({ ...figures, ok: faults.length === 0, ...(faults.length > 0 ? { failed: faults } : {}) });
    else process.stdout.write(`${table(figures)}\n`);
    for (const fault of faults) process.stderr.write(`FAILED: ${fault}\n`);
    failed = faults.length > 0;
    return failed ? EXIT.failure : EXIT.ok;
  } catch (error) {
    progress.end();
    const name = stop.signal.reason as keyof typeof SIGNALLED;
    if (stop.signal.aborted) return SIGNALLED[name];
    process.stderr.write(`FAILED: ${(error as Error).stack}\n`);
    await appendFile(join(dir, "failure.txt"), `${(error as Error).stack}\n`);
    return EXIT.failure;
  } finally {
    const keeps = failed && !stop.signal.aborted;
    // It has failed already: what cannot be kept is said, and does not stand in the way of the stack's end.
    const kept = keeps && stack !== null ? await keepServers(stack, dir).catch(notKept) : [];
    await stack?.stop();
    if (keeps) {
      progress.say(`kept: ${[join(dir, "instances"), ...kept].join(", ")}`);
      progress.say(
        `the same schedule again: --seed ${options.seed} --minutes ${options.minutes} --session-ms ${options.sessionMs}`,
      );
    } else if (!options.keep) await rm(dir, { recursive: true, force: true });
    for (const end of endings) end();
  }
}

function notKept(error: unknown): string[] {
  return [`not the servers' folders (${(error as Error).message})`];
}
