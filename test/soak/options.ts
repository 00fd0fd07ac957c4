/**
 * The command line of the soak.
 */
import { parseArgs } from "node:util";

export interface Options {
  readonly minutes: number;
  readonly seed: number;
  /** Signals a second. */
  readonly rate: number;
  /** Without a heartbeat, until others get a process's shards. */
  readonly sessionMs: number;
  readonly plan: boolean;
  readonly keep: boolean;
  readonly json: boolean;
}

const USAGE = `Usage: npm run test:soak -- [options]

  --minutes <n>     how long load and faults last (default 3); recovery and audit come after it
  --seed <n>        of the schedule and of the load (default: another each time; it is printed)
  --rate <n>        signals a second (default 250)
  --session-ms <n>  session time-out of the processes (default 6000); longer on a machine that is busy with other things
  --plan            print the schedule of this seed, these minutes and this session time-out, and end
  --keep            keep logs when all went well (they are kept when something failed)
  --json            print one JSON object on stdout

Exit code 0: every kind of fault hit, and nothing was lost, doubled or out of order. 1: it was not so, and stderr says what.
2: these options were not understood.`;

const SEEDS = 1_000_000;
/** In the input the clock runs 20 times as fast, and what is published is kept for 30 days of it. */
const MINUTES = [1, 720] as const;

/** @returns `usage`, and whether it was asked for */
export function optionsOf(args: readonly string[]): Options | { readonly usage: string; readonly asked: boolean } {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        minutes: { type: "string", default: "3" },
        seed: { type: "string", default: String(Math.floor(Math.random() * SEEDS)) },
        rate: { type: "string", default: "250" },
        "session-ms": { type: "string", default: "6000" },
        plan: { type: "boolean", default: false },
        keep: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    });
    if (values.help) return { usage: USAGE, asked: true };
    const whole = (name: string, text: string, [min, max]: readonly [number, number]): number => {
      const value = Number(text);
      if (!Number.isInteger(value) || value < min || value > max)
        throw new Error(`--${name} is a whole number from ${min} to ${max}, not "${text}"`);
      return value;
    };
    return {
      minutes: whole("minutes", values.minutes, MINUTES),
      seed: whole("seed", values.seed, [0, 2 ** 32 - 1]),
      rate: whole("rate", values.rate, [1, 100_000]),
      sessionMs: whole("session-ms", values["session-ms"], [1_000, 60_000]),
      plan: values.plan,
      keep: values.keep,
      json: values.json,
    };
  } catch (error) {
    return { usage: `${(error as Error).message}\n\n${USAGE}`, asked: false };
  }
}
