/**
 * Configuration: the only reader of the environment. One table says name, default, unit, range and reason of each setting;
 * `loadConfig` is pure, checks everything, and reports every fault in one error.
 */
import { hostname } from "node:os";
import { LockstepError } from "./errors.ts";
import { parseSetting, type Setting } from "./setting.ts";

export const SETTINGS = {
  app: {
    env: "LOCKSTEP_APP",
    kind: "text",
    fallback: "trading",
    about: "app to host: a name of this package, or the path of a module",
  },
  brokers: {
    env: "LOCKSTEP_KAFKA_BROKERS",
    kind: "list",
    fallback: null,
    about: "Kafka brokers, host:port, separated by commas",
  },
  databaseUrl: {
    env: "LOCKSTEP_DATABASE_URL",
    kind: "text",
    fallback: null,
    about: "Postgres, postgres://user:password@host:port/database",
    secret: true,
  },
  instance: {
    env: "LOCKSTEP_INSTANCE",
    kind: "text",
    fallback: "main",
    about: "name of this deployment: group, database and cluster that belong together",
  },
  groupId: { env: "LOCKSTEP_GROUP_ID", kind: "text", fallback: "", about: "consumer group; default <app>-<instance>" },
  workers: {
    env: "LOCKSTEP_WORKERS",
    kind: "integer",
    fallback: "0",
    min: 0,
    max: 256,
    about: "threads; 0 = max(2, cores - 1)",
  },
  sessionTimeoutMs: {
    env: "LOCKSTEP_SESSION_TIMEOUT_MS",
    kind: "integer",
    fallback: "10000",
    min: 1000,
    max: 300_000,
    about: "ms without heartbeat until the group gives a worker's shards away",
  },
  heartbeatIntervalMs: {
    env: "LOCKSTEP_HEARTBEAT_INTERVAL_MS",
    kind: "integer",
    fallback: "1000",
    min: 100,
    max: 60_000,
    about: "ms between heartbeats; at most a third of the session time-out",
  },
  rebalanceTimeoutMs: {
    env: "LOCKSTEP_REBALANCE_TIMEOUT_MS",
    kind: "integer",
    fallback: "15000",
    min: 1000,
    max: 600_000,
    about: "ms a member may take to rejoin",
  },
  handoverMs: {
    env: "LOCKSTEP_HANDOVER_MS",
    kind: "integer",
    fallback: "500",
    min: 0,
    max: 60_000,
    about: "ms a new owner waits for the old one to drain",
  },
  drainMs: {
    env: "LOCKSTEP_DRAIN_MS",
    kind: "integer",
    fallback: "20000",
    min: 100,
    max: 600_000,
    about: "ms to drain after SIGTERM; keep it below the supervisor's kill time-out",
  },
  transactionTimeoutMs: {
    env: "LOCKSTEP_TRANSACTION_TIMEOUT_MS",
    kind: "integer",
    fallback: "15000",
    min: 2000,
    max: 900_000,
    about: "ms until Kafka aborts an open transaction; redo makes an abort harmless",
  },
  batchRecordsMax: {
    env: "LOCKSTEP_BATCH_RECORDS_MAX",
    kind: "integer",
    fallback: "1000",
    min: 1,
    max: 100_000,
    about: "records of one commit, at most; what waits for Postgres and Kafka is in memory",
  },
  batchBytesMax: {
    env: "LOCKSTEP_BATCH_BYTES_MAX",
    kind: "integer",
    fallback: "4194304",
    min: 1024,
    max: 67_108_864,
    about: "bytes of input of one commit, at most",
  },
  queueBytesMax: {
    env: "LOCKSTEP_QUEUE_BYTES_MAX",
    kind: "integer",
    fallback: "16777216",
    min: 1_048_576,
    max: 1_073_741_824,
    about:
      "bytes of memory of one worker for records that were fetched and not taken yet; full queues pause their input",
  },
  inputWaitMsMax: {
    env: "LOCKSTEP_INPUT_WAIT_MS_MAX",
    kind: "integer",
    fallback: "1000",
    min: 0,
    max: 60_000,
    about: "ms to wait for an input that is not known to be caught up",
  },
  idleMs: {
    env: "LOCKSTEP_IDLE_MS",
    kind: "integer",
    fallback: "1000",
    min: 10,
    max: 3_600_000,
    about: "ms all inputs must be caught up before ticks move stream time",
  },
  snapshotCommits: {
    env: "LOCKSTEP_SNAPSHOT_COMMITS",
    kind: "integer",
    fallback: "2000",
    min: 1,
    max: 1_000_000,
    about: "commits until a snapshot is due",
  },
  snapshotRecords: {
    env: "LOCKSTEP_SNAPSHOT_RECORDS",
    kind: "integer",
    fallback: "200000",
    min: 1,
    max: 100_000_000,
    about: "records until a snapshot is due",
  },
  snapshotMs: {
    env: "LOCKSTEP_SNAPSHOT_MS",
    kind: "integer",
    fallback: "60000",
    min: 10,
    max: 86_400_000,
    about: "ms from the first uncovered commit until a snapshot is due",
  },
  journalKeepMs: {
    env: "LOCKSTEP_JOURNAL_KEEP_MS",
    kind: "integer",
    fallback: "86400000",
    min: 0,
    max: 2_592_000_000,
    about: "ms journal rows are kept beyond the snapshot, for audit",
  },
  relay: {
    env: "LOCKSTEP_RELAY",
    kind: "flag",
    fallback: "on",
    about:
      "publish the app's outbox table: `migrate` makes a replication slot, `run` hosts a relay; off for users of Debezium",
  },
  relayBatchRecordsMax: {
    env: "LOCKSTEP_RELAY_BATCH_RECORDS_MAX",
    kind: "integer",
    fallback: "2000",
    min: 1,
    max: 100_000,
    about: "rows of one Kafka transaction of the relay, at most",
  },
  relayBatchBytesMax: {
    env: "LOCKSTEP_RELAY_BATCH_BYTES_MAX",
    kind: "integer",
    fallback: "4194304",
    min: 1024,
    max: 67_108_864,
    about: "bytes of one Kafka transaction of the relay, at most; a single row may exceed it",
  },
  relayLingerMs: {
    env: "LOCKSTEP_RELAY_LINGER_MS",
    kind: "integer",
    fallback: "100",
    min: 0,
    max: 60_000,
    about:
      "ms at least from one Kafka transaction of the relay to the next, so that database transactions share one: no row waits longer for others, and after a pause none waits; 0 = as many as Kafka takes, at the cost of the shards'",
  },
  relayTimeoutMs: {
    env: "LOCKSTEP_RELAY_TIMEOUT_MS",
    kind: "integer",
    fallback: "10000",
    min: 1000,
    max: 300_000,
    about: "ms without a sign of life until another relay takes over, and until a silent line counts as cut",
  },
  relayPositionMs: {
    env: "LOCKSTEP_RELAY_POSITION_MS",
    kind: "integer",
    fallback: "10000",
    min: 100,
    max: 3_600_000,
    about:
      "ms after which the relay's position follows a log that holds nothing for it, so that the server can remove it",
  },
  outboxKeepMs: {
    env: "LOCKSTEP_OUTBOX_KEEP_MS",
    kind: "integer",
    fallback: "0",
    min: 0,
    max: 31_536_000_000,
    about: "ms that published rows of the outbox table are kept after they occurred; 0 = for ever",
  },
  refusedRunMax: {
    env: "LOCKSTEP_QUARANTINE_RUN_MAX",
    kind: "integer",
    fallback: "1000",
    min: 0,
    max: 1_000_000_000,
    about: "records of one input in a row that may be set aside; one more halts the shard; 0 = any number",
  },
  stepMsMax: {
    env: "LOCKSTEP_STEP_MS_MAX",
    kind: "integer",
    fallback: "5000",
    min: 0,
    max: 3_600_000,
    about: "ms that one step of a machine may take before its worker is ended; steps take microseconds; 0 = for ever",
  },
  workerHeapMb: {
    env: "LOCKSTEP_WORKER_HEAP_MB",
    kind: "integer",
    fallback: "0",
    min: 0,
    max: 1_048_576,
    about: "MiB of heap of one worker, beyond which a step that takes more ends it; 0 = what Node chooses",
  },
  strict: {
    env: "LOCKSTEP_STRICT",
    kind: "flag",
    fallback: "false",
    about: "machines that read clock, chance or timers throw; contexts are frozen",
  },
  unsafe: {
    env: "LOCKSTEP_UNSAFE",
    kind: "flag",
    fallback: "false",
    about: "start although Postgres may lose commits (fsync or synchronous_commit off)",
  },
  http: {
    env: "LOCKSTEP_HTTP",
    kind: "flag",
    fallback: "true",
    about: "serve metrics, health and version over HTTP",
  },
  httpHost: {
    env: "LOCKSTEP_HTTP_HOST",
    kind: "text",
    fallback: "127.0.0.1",
    about: "address to serve them on; 0.0.0.0 or :: for all, as in a container. There is no authentication",
  },
  httpPort: {
    env: "LOCKSTEP_HTTP_PORT",
    alias: "PORT",
    kind: "integer",
    fallback: "9464",
    min: 0,
    max: 65_535,
    about: "port to serve them on; 0 = any that is free, which the log tells. PORT where it is not set",
  },
  metricsActorsMax: {
    env: "LOCKSTEP_METRICS_ACTORS_MAX",
    kind: "integer",
    fallback: "200",
    min: 0,
    max: 10_000,
    about: "actors with metrics of their own, a process; the rest share one key",
  },
  logLevel: { env: "LOG_LEVEL", kind: "text", fallback: "info", about: "debug, info, warn or error" },
  failpoint: {
    env: "LOCKSTEP_FAILPOINT",
    kind: "text",
    fallback: "",
    about: "for tests: name:nth:kill|stop|throw|hang[@shard], separated by commas",
  },
  failpointLog: {
    env: "LOCKSTEP_FAILPOINT_LOG",
    kind: "text",
    fallback: "",
    about: "for tests: file that hits of fail-points are appended to",
  },
} as const satisfies Record<string, Setting>;

type ValueOf<S> = S extends { kind: "integer" }
  ? number
  : S extends { kind: "list" }
    ? readonly string[]
    : S extends { kind: "flag" }
      ? boolean
      : string;
export type Config = { readonly [K in keyof typeof SETTINGS]: ValueOf<(typeof SETTINGS)[K]> } & {
  readonly host: string;
};

/** Those that a command may do without (an embedded stack provides them). */
export type Need = "brokers" | "databaseUrl";

/**
 * @param env  the process environment
 * @param needs settings without default that this command needs
 * @throws {LockstepError} CONFIG_INVALID with every fault, each naming its variable
 */
export function loadConfig(env: NodeJS.ProcessEnv, needs: readonly Need[] = ["brokers", "databaseUrl"]): Config {
  const faults: string[] = [];
  const values: Record<string, unknown> = { host: hostname() };
  for (const [name, setting] of Object.entries(SETTINGS) as [keyof typeof SETTINGS, Setting][]) {
    const alias = setting.alias !== undefined && !env[setting.env] ? setting.alias : setting.env;
    const given = env[alias]?.trim();
    const text = given === undefined || given === "" ? setting.fallback : given;
    if (text === null) {
      if ((needs as readonly string[]).includes(name)) faults.push(`${setting.env} is not set: ${setting.about}`);
      values[name] = setting.kind === "list" ? [] : "";
      continue;
    }
    values[name] = parseSetting({ ...setting, env: given ? alias : setting.env }, text, faults);
  }
  const config = values as unknown as Config;
  const known = new Set(Object.values(SETTINGS).map((setting) => setting.env as string));
  for (const name of Object.keys(env)) {
    if (name.startsWith("LOCKSTEP_") && !known.has(name) && !OTHER_VARIABLES.includes(name))
      faults.push(`${name} is not a setting; see lockstep run --help`);
  }
  if (!["debug", "info", "warn", "error"].includes(config.logLevel))
    faults.push(`LOG_LEVEL is "${config.logLevel}": debug, info, warn or error`);
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(config.instance))
    faults.push(`LOCKSTEP_INSTANCE is "${config.instance}": 1 to 64 letters, digits, - or _`);
  if (config.heartbeatIntervalMs * 3 > config.sessionTimeoutMs) {
    faults.push(
      `LOCKSTEP_HEARTBEAT_INTERVAL_MS (${config.heartbeatIntervalMs}) must be at most a third of LOCKSTEP_SESSION_TIMEOUT_MS (${config.sessionTimeoutMs})`,
    );
  }
  for (const broker of config.brokers)
    if (!/^[^\s:]+:\d{1,5}$/.test(broker)) faults.push(`LOCKSTEP_KAFKA_BROKERS has "${broker}": host:port is wanted`);
  if (config.databaseUrl !== "" && !/^postgres(ql)?:\/\/.+/.test(config.databaseUrl))
    faults.push("LOCKSTEP_DATABASE_URL must begin with postgres://");
  if (faults.length > 0) {
    throw new LockstepError(
      "CONFIG_INVALID",
      `The configuration has ${faults.length} fault${faults.length === 1 ? "" : "s"}:\n${faults.map((f) => `  - ${f}`).join("\n")}`,
      {
        details: { faults },
      },
    );
  }
  return Object.freeze(config);
}

/** Variables of the stack and the tests; they are not settings of a process. */
const OTHER_VARIABLES = [
  "LOCKSTEP_STACK",
  "LOCKSTEP_KAFKA_LIBS",
  "LOCKSTEP_TEST_KAFKA",
  "LOCKSTEP_TEST_POSTGRES",
  "LOCKSTEP_TEST_KAFKA_LIBS",
];

/** For logs: secrets masked. */
export function maskedConfig(config: Config): Record<string, unknown> {
  return { ...config, databaseUrl: maskUrl(config.databaseUrl) };
}

export function maskUrl(url: string): string {
  return url.replace(/(\/\/[^:/@]*):.*@/, "$1:***@").replace(/([?&]password=)[^&]*/g, "$1***");
}
