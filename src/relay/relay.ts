/**
 * A relay: stands by for the lock, works while it has it, and says what it does (docs/relay.md).
 *
 *   starting -> standby -> running -> standby      the lock or the fence was lost
 *                             |-----> halted -> standby      what it found needs a person; it looks again every `haltMs`
 *                             '-----> stopped
 *
 * A failure that can pass ends the session, not the lock: the next session begins with a fence, after a pause. Nothing here ends the
 * process: shards go on without a relay.
 */
import { hasCode, isLockstepError } from "../errors.ts";
import { parseLsn } from "../storage/lsn.ts";
import type { LockSession } from "../storage/relay-lock.ts";
import { inspectRelay } from "../storage/relay-store.ts";
import type { RelayContext } from "./context.ts";
import { runSession } from "./session.ts";

const BACKOFF_MS_MIN = 100;
const BACKOFF_MS_MAX = 10_000;

/** Resolves when the signal aborts and everything is closed. Never rejects for an operating error. */
export async function runRelay(context: RelayContext, signal: AbortSignal): Promise<void> {
  const { ports, clock, log, observer, settings } = context;
  let backoffMs = BACKOFF_MS_MIN;
  while (!signal.aborted) {
    let session: LockSession | null = null;
    try {
      session = await ports.openSession();
      const relay = createHolder(context, session);
      while (!signal.aborted && !session.lost.aborted) {
        if (!(await session.tryLock())) {
          relay.standingBy();
          await clock.sleep(settings.lockPollMs, AbortSignal.any([signal, session.lost]));
          continue;
        }
        backoffMs = BACKOFF_MS_MIN;
        await relay.hold(signal);
      }
      if (!signal.aborted)
        log.warn({ event: "relay-lost", err: session.lost.reason }, "the lock of the relay was lost");
    } catch (error) {
      if (!isLockstepError(error)) throw error;
      log.warn({ event: "relay-retrying", err: error, inMs: backoffMs }, "the relay cannot take part; trying again");
      await clock.sleep(backoffMs, signal);
      backoffMs = Math.min(backoffMs * 2, BACKOFF_MS_MAX);
    } finally {
      observer.lag = null;
      await session?.close();
    }
  }
  observer.state = "stopped";
}

function createHolder(context: RelayContext, session: LockSession) {
  const { clock, log, observer, settings, hook, app } = context;
  let saidStandby = false;
  let saidHalt = "";

  /** Sessions, one after the other, until the lock is lost, the relay halts, or it is stopped. */
  async function hold(stop: AbortSignal): Promise<void> {
    const ended = new AbortController();
    const signal = AbortSignal.any([stop, session.lost, ended.signal]);
    const measuring = measure(signal);
    let backoffMs = BACKOFF_MS_MIN;
    saidStandby = false;
    try {
      await hook("locked");
      while (!signal.aborted) {
        const begunMs = clock.monotonicMs();
        try {
          await runSession(context, session, signal);
        } catch (error) {
          if (session.lost.aborted || stop.aborted) break;
          observer.waitingSinceMs ??= clock.wallMs();
          if (isFenced(error)) {
            log.warn({ event: "relay-fenced", err: error }, "another relay has fenced this one");
            await giveWay(stop);
            return;
          }
          if (!isLockstepError(error) || error.remedy === "halt" || error.remedy === "stop") {
            await halt(error, stop);
            return;
          }
          if (clock.monotonicMs() - begunMs > BACKOFF_MS_MAX * 2) backoffMs = BACKOFF_MS_MIN;
          observer.count("restarts");
          observer.reason = { code: error.code, message: error.message };
          log.warn(
            { event: "relay-retrying", err: error, inMs: backoffMs },
            "the relay was interrupted; it begins again at its position",
          );
          await clock.sleep(backoffMs, signal);
          backoffMs = Math.min(backoffMs * 2, BACKOFF_MS_MAX);
        }
      }
    } finally {
      ended.abort();
      await measuring;
      if (!stop.aborted) observer.lag = null;
    }
  }

  async function giveWay(stop: AbortSignal): Promise<void> {
    observer.state = "standby";
    await session.unlock();
    await clock.sleep(settings.lockPollMs * 2, AbortSignal.any([stop, session.lost]));
  }

  /**
   * The lock is free meanwhile, for `relay resync`; the lags are still measured. It is let go of first: a relay that has lost its lock without
   * knowing may find that the slot has moved on, which contradicts nothing. It gets no answer here, so it has not halted but lost.
   */
  async function halt(error: unknown, stop: AbortSignal): Promise<void> {
    await session.unlock();
    const { code = "INVARIANT_BROKEN", message = String(error) } = (error ?? {}) as { code?: string; message?: string };
    const hadRun = observer.state === "running";
    observer.state = "halted";
    observer.reason = { code, message };
    // Said once until it has run again; messages name positions, and the server's log moves on.
    if (code !== saidHalt || hadRun)
      log.error(
        { event: "relay-halted", app, err: error },
        "the relay halted; shards go on, and the outbox table fills",
      );
    saidHalt = code;
    await clock.sleep(settings.haltMs, AbortSignal.any([stop, session.lost]));
  }

  async function measure(signal: AbortSignal): Promise<void> {
    let warned = false;
    while (!signal.aborted) {
      try {
        const { slot, server, published, slotKeepMb } = await inspectRelay(session.query, app);
        const position = observer.position;
        observer.setUpChanged = observer.state === "running" && !published;
        observer.lag = slot && {
          slotBytes: Number(server.flushed - slot.confirmed),
          positionBytes: position === null ? null : Math.max(0, Number(server.flushed - parseLsn(position))),
          walStatus: slot.walStatus,
          safeBytes: slot.safeBytes === null ? null : Number(slot.safeBytes),
        };
        if (!warned && slotKeepMb < 0) {
          log.warn(
            { event: "relay-warning", max_slot_wal_keep_size: slotKeepMb },
            "max_slot_wal_keep_size is -1: while no relay runs, the slot keeps all log and can fill the server's disk. Set a limit, or alert on lockstep_replication_slot_lag_bytes",
          );
        }
        warned = true;
      } catch (error) {
        // A session that is over shows as lost; anything else is measured again.
        if (!isLockstepError(error)) throw error;
        log.debug({ event: "relay-measure-failed", err: error }, "the lag of the relay was not measured");
      }
      await clock.sleep(settings.measureMs, signal);
    }
  }

  return {
    hold,
    standingBy() {
      observer.state = "standby";
      if (!saidStandby) log.info({ event: "relay-standby", app }, "another relay works; standing by");
      saidStandby = true;
    },
  };
}

function isFenced(error: unknown): boolean {
  return hasCode(error, "PUBLISH_FAILED") && (error as { details?: { fenced?: unknown } }).details?.fenced === true;
}
