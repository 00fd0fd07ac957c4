/**
 * `lockstep relay run|status|resync`: the relay without shards, what it looks like from outside, and the way on after it has halted.
 */
import Table from "cli-table3";

import { outboxOf } from "../actors/app.ts";
import { type Config, loadConfig, maskedConfig } from "../config.ts";
import { isLockstepError, LockstepError } from "../errors.ts";
import { createKafkaClient } from "../kafka/client.ts";
import { createRelay, hostRelay, openRelayPorts } from "../relay/open.ts";
import { laterOf, parsePosition } from "../relay/position.ts";
import { resync } from "../relay/resync.ts";
import { decideStart } from "../relay/start.ts";
import type { RelayReport } from "../relay/status.ts";
import { type LoadedApp, loadApp } from "../runtime/code.ts";
import { groupIdOf } from "../runtime/deployment.ts";
import { createHook, parseFailPoints } from "../runtime/failpoints.ts";
import { RelayMeter } from "../runtime/relay-meter.ts";
import { formatLsn } from "../storage/lsn.ts";
import { createPool, query } from "../storage/pool.ts";
import { LOCK_HOLDER_SQL } from "../storage/relay-lock.ts";
import { inspectRelay } from "../storage/relay-store.ts";
import { createLog } from "../telemetry/log.ts";
import { EXIT, printJson } from "./output.ts";
import { withTelemetry } from "./telemetry.ts";

export async function relayRun(env: NodeJS.ProcessEnv): Promise<number> {
  const { config, loaded, groupId } = await prepare(env);
  const log = createLog({ level: config.logLevel });
  log.info({ event: "starting", config: maskedConfig(config), app: loaded.app.name }, "starting a relay alone");
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => stop.abort());
  const hook = createHook(parseFailPoints(config.failpoint), "relay", config.failpointLog || undefined);
  const relayMeter = new RelayMeter();
  await withTelemetry({ config, loaded, log, workers: 0, relayMeter }, async ({ metrics, health }) => {
    health.deploymentChecked(); // the relay checks what it needs by itself, and halts
    relayMeter.start(metrics);
    stop.signal.addEventListener("abort", () => health.stopping(), { once: true });
    const onReport = (report: RelayReport) => relayMeter.reported(report);
    await hostRelay(
      { app: loaded.app, config, groupId, log, hook: (point) => hook(`relay.${point}`), onReport },
      stop.signal,
    );
  });
  log.info({ event: "stopped" }, "stopped");
  return EXIT.ok;
}

export interface RelayShown {
  readonly app: string;
  readonly group: string;
  /** Session that has the lock; null: nobody. */
  readonly holder: { readonly pid: number; readonly name: string } | null;
  /** Of the holder, as seen from outside: it reads the slot; it does not (yet, or because a server is away); there is none. */
  readonly state: "running" | "starting" | "none";
  /** What a relay that starts now would meet: what it would halt for, or that Kafka does not answer. */
  readonly fault: { readonly code: string; readonly message: string } | null;
  /** null: there is none, or Kafka does not answer. */
  readonly position: {
    readonly lsn: string;
    readonly underWay: { readonly commit: string; readonly rows: number } | null;
  } | null;
  readonly slot: {
    readonly name: string;
    readonly confirmed: string;
    readonly walStatus: string;
    readonly activePid: number | null;
  } | null;
  readonly logEnd: string;
  readonly positionLagBytes: number | null;
  /** What the server keeps for the slot. */
  readonly slotLagBytes: number | null;
  /** -1: no limit. */
  readonly maxSlotWalKeepMb: number;
}

/** Exit code 0: a relay works, or could; 1: it has halted or would, or cannot work without Kafka. */
export async function relayStatus(options: { json: boolean }, env: NodeJS.ProcessEnv): Promise<number> {
  const { config, loaded, groupId } = await prepare(env);
  const shown = await readStatus({ config, loaded, groupId });
  if (options.json) printJson(shown);
  else {
    const { position, slot, holder, fault } = shown;
    const table = new Table({ style: { head: [], border: [] } });
    table.push(
      ["lock", holder === null ? "nobody has it" : `${holder.name} (session ${holder.pid})`],
      ["state", STATES[shown.state]],
      [
        "position",
        position === null
          ? "none"
          : `${position.lsn}${position.underWay ? `, and ${position.underWay.rows} rows of ${position.underWay.commit}` : ""}`,
      ],
      [
        "slot",
        slot === null
          ? "none"
          : `${slot.name}, ${slot.walStatus}, confirmed ${slot.confirmed}, ${slot.activePid === null ? "not read" : `read by ${slot.activePid}`}`,
      ],
      ["end of the log", shown.logEnd],
      ["position behind it", bytes(shown.positionLagBytes)],
      ["log kept for the slot", bytes(shown.slotLagBytes)],
      ["max_slot_wal_keep_size", shown.maxSlotWalKeepMb < 0 ? "no limit" : `${shown.maxSlotWalKeepMb} MB`],
    );
    process.stdout.write(`${table.toString()}\n`);
    if (fault !== null) process.stdout.write(`${fault.code}: ${fault.message}\n`);
  }
  return shown.fault === null ? EXIT.ok : EXIT.failure;
}

const STATES: Readonly<Record<RelayShown["state"], string>> = {
  running: "running: the holder reads the slot",
  starting: "starting: the holder does not read the slot; its log, and /readyz?verbose, say why",
  none: "no relay has the lock",
};

export async function readStatus(of: { config: Config; loaded: LoadedApp; groupId: string }): Promise<RelayShown> {
  const { config, loaded, groupId } = of;
  const { app } = loaded;
  const log = createLog({ level: "error", fd: 2 });
  const pool = createPool(config.databaseUrl, { max: 1, applicationName: "lockstep-relay-status", log });
  const ports = openRelayPorts({ app, config, groupId, log, hook: () => {} });
  try {
    // A relay that works moves on between two looks, so in this order: confirmed, then K, then the end of the log; each is at most the next.
    const inspect = () =>
      inspectRelay(async (text, values) => (await query(pool, text, values)).rows as never, app.name);
    const before = await inspect();
    let fault: RelayShown["fault"] = null;
    let committed: Awaited<ReturnType<typeof ports.committed>> = null;
    try {
      committed = laterOf(await ports.committed(), await ports.committedInLog());
    } catch (error) {
      fault = faultOf(error);
    }
    const inspection = { ...before, server: (await inspect()).server };
    const { rows: holders } = await query<{ pid: number; name: string }>(pool, LOCK_HOLDER_SQL, [app.name]);
    try {
      if (fault === null) decideStart({ ...inspection, app: app.name, groupId, committed });
    } catch (error) {
      fault = faultOf(error);
    }
    const { row, slot, server, slotKeepMb } = inspection;
    const position = committed && (parsePosition(committed.offset, committed.metadata)?.position ?? null);
    const underWay = position?.underWay;
    return {
      app: app.name,
      group: groupId,
      holder: holders[0] ?? null,
      state: holders.length === 0 ? "none" : slot === null || slot.activePid === null ? "starting" : "running",
      fault,
      position: position && {
        lsn: formatLsn(position.lsn),
        underWay: underWay ? { commit: formatLsn(underWay.commitLsn), rows: underWay.rows } : null,
      },
      slot: row &&
        slot && {
          name: row.slot,
          confirmed: formatLsn(slot.confirmed),
          walStatus: slot.walStatus,
          activePid: slot.activePid,
        },
      logEnd: formatLsn(server.flushed),
      positionLagBytes: position && Math.max(0, Number(server.flushed - position.lsn)),
      slotLagBytes: slot && Number(server.flushed - slot.restart),
      maxSlotWalKeepMb: slotKeepMb,
    };
  } finally {
    await ports.close();
    await pool.end();
  }
}

function faultOf(error: unknown): { code: string; message: string } {
  if (!isLockstepError(error)) throw error;
  return { code: error.code, message: error.message };
}

export async function relayResync(
  options: { yes: boolean; since?: Date; json: boolean },
  env: NodeJS.ProcessEnv,
): Promise<number> {
  const { config, loaded, groupId } = await prepare(env);
  const log = createLog({ level: "warn", fd: 2 });
  const context = createRelay({ app: loaded.app, config, groupId, log });
  try {
    const report = await resync({
      context,
      client: createKafkaClient({ brokers: config.brokers, clientId: "lockstep-relay-resync", logger: log }),
      databaseUrl: config.databaseUrl,
      since: options.since ?? null,
      dryRun: !options.yes,
      say: (text) => process.stderr.write(`${text}\n`),
    });
    if (options.json) printJson({ ...report, done: options.yes });
    else {
      const { rows, onTopic, missing, oldestMissing } = report;
      process.stdout.write(
        `${rows} rows compared with ${onTopic} events on the topic; ${missing} rows are not there${oldestMissing ? `, the oldest occurred at ${oldestMissing}` : ""}.\n`,
      );
      process.stdout.write(
        options.yes
          ? `They were published; the relay goes on at ${report.position} of slot ${report.slot}.\n`
          : "Nothing was changed. With --yes they are published, and the relay goes on from there. Records that the topic's retention has removed look unpublished: --since leaves older rows out.\n",
      );
    }
    return EXIT.ok;
  } finally {
    await context.ports.close();
  }
}

async function prepare(env: NodeJS.ProcessEnv): Promise<{ config: Config; loaded: LoadedApp; groupId: string }> {
  const config = loadConfig(env);
  const loaded = await loadApp(config.app);
  if (outboxOf(loaded.app) === null)
    throw new LockstepError("APP_INVALID", `App "${loaded.app.name}" has no outbox route: there is nothing to relay.`);
  return { config, loaded, groupId: groupIdOf(config, loaded) };
}

function bytes(count: number | null): string {
  return count === null ? "-" : `${count} bytes`;
}
