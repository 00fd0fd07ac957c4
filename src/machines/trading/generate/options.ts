/**
 * What a run of generated signals is made of. Shares are of all records, kinds included.
 */
import { LockstepError } from "../../../errors.ts";
import { TIMEFRAMES, type Timeframe } from "../schemas.ts";

export interface GeneratorOptions {
  /** Number of symbols, 1..1000. */
  readonly symbols: number;
  /** Share of the signals by timeframe; 0 leaves one out. */
  readonly timeframes: Readonly<Record<Timeframe, number>>;
  /** Records per second of wall time. */
  readonly rate: number;
  /** Length of the run, seconds of wall time. */
  readonly seconds: number;
  /** Seconds of event time per second of wall time, 1 or more. */
  readonly speed: number;
  readonly duplicates: number;
  readonly late: number;
  readonly bad: number;
  readonly seed: number;
  /** Partitions of each input topic. */
  readonly partitions: number;
  /** Event time of the first record, ms since the Unix epoch; null: event time meets the wall clock at the end of the run. */
  readonly startMs: number | null;
  /** A backlog: this many records on the same timeline, sent as fast as possible; null: `seconds` counts. */
  readonly total: number | null;
}

export const GENERATOR_DEFAULTS: GeneratorOptions = {
  symbols: 20,
  timeframes: { "1m": 0.6, "5m": 0.25, "15m": 0.15 },
  rate: 500,
  seconds: 60,
  speed: 60,
  duplicates: 0.05,
  late: 0.01,
  bad: 0.005,
  seed: 1,
  partitions: 6,
  startMs: null,
  total: null,
};

/** @throws {LockstepError} CONFIG_INVALID with every fault at once */
export function generatorOptions(given: Partial<GeneratorOptions> = {}): GeneratorOptions {
  const options = { ...GENERATOR_DEFAULTS, ...given };
  const faults: string[] = [];
  const demand = (holds: boolean, sentence: string) => {
    if (!holds) faults.push(sentence);
  };
  const isCount = (value: number) => Number.isSafeInteger(value) && value >= 1;
  const isTime = (value: number) => Number.isSafeInteger(value) && value >= 0;
  const shares = [options.duplicates, options.late, options.bad];
  const weights = TIMEFRAMES.map((timeframe) => options.timeframes[timeframe]);
  demand(isCount(options.symbols) && options.symbols <= 1000, `symbols is 1 to 1000, not ${options.symbols}`);
  demand(
    weights.every((weight) => weight >= 0) && weights.some((weight) => weight > 0),
    "timeframes are shares of 0 or more, one of them above 0",
  );
  demand(options.rate > 0 && Number.isFinite(options.rate), `rate is above 0, not ${options.rate}`);
  demand(options.seconds > 0 && Number.isFinite(options.seconds), `seconds is above 0, not ${options.seconds}`);
  demand(
    options.speed >= 1 && Number.isFinite(options.speed),
    `speed is 1 or more, not ${options.speed}: below it event time would run ahead of the wall clock`,
  );
  demand(
    shares.every((share) => share >= 0) && shares.reduce((a, b) => a + b) <= 0.9,
    "duplicates, late and bad are shares that leave a tenth for normal signals",
  );
  demand(Number.isSafeInteger(options.seed), `seed is an integer, not ${options.seed}`);
  demand(isCount(options.partitions), `partitions is 1 or more, not ${options.partitions}`);
  demand(
    options.startMs === null || isTime(options.startMs),
    `startMs is an integer of 0 or more, not ${options.startMs}`,
  );
  demand(options.total === null || isCount(options.total), `total is 1 or more, not ${options.total}`);
  if (faults.length > 0)
    throw new LockstepError("CONFIG_INVALID", `The generator cannot run: ${faults.join("; ")}.`, {
      details: { faults },
    });
  return options;
}

/** Records that a run sends. */
export function recordCount(options: GeneratorOptions): number {
  return options.total ?? Math.max(1, Math.round(options.rate * options.seconds));
}

/** Event time of the first record when it is not given, ms: such that the last record's event time is the end of the run. */
export function defaultStartMs(options: GeneratorOptions, beginMs: number): number {
  const runMs = (recordCount(options) / options.rate) * 1000;
  const endMs = options.total === null ? beginMs + runMs : beginMs;
  return Math.max(0, Math.floor(endMs - runMs * options.speed));
}
