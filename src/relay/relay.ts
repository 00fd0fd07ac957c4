/**
 * A relay: stands by for the lock, works while it has it, and says what it does (docs/relay.md).
 *
 *   starting <-> standby      another relay has the lock, or the fence was lost
 *      |  ^
 *      v  '--- from anywhere: the session of the lock was lost or cannot be opened, or what worked with it has failed
 *   running -> halted -> starting | standby      what it found needs a person; it looks again every `haltMs`
 *   stopped, from anywhere
 *
 * A failure that can pass ends the session, not the lock: the next session begins with a fence, after a pause. Nothing here ends the
 * process: shards go on without a relay.
 *
 * Invariants
 *   RI11  A relay that cannot work says so: without Postgres, or Kafka, it is `starting`, with the reason, and what waits is the older the
 *         longer it lasts.
 *         Pending is every row that was read.
 *   RI12  To stand by, or halted, costs the same however long: nothing is added to a signal with each look.
 */
import { hasCode, isLockstepError } from "../errors.ts";
import { parseLsn } from "../storage/lsn.ts";
import { storeError } from "../storage/pg-errors.ts";
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
    let over: FirstOf | null = null;
    try {
      session = await ports.openSession();
      over = firstOf([signal, session.lost]);
      const relay = createHolder(context, session, over.signal);
      while (!over.signal.aborted) {
        if (!(await session.tryLock())) {
          relay.standingBy();
          await clock.sleep(settings.lockPollMs, over.signal);
          continue;
        }
        backoffMs = BACKOFF_MS_MIN;
        await relay.hold(signal);
      }
      if (!signal.aborted) {
        without(session.lost.reason);
        log.warn({ event: "relay-lost", err: session.lost.reason }, "the lock of the relay was lost");
      }
    } catch (error) {
      if (!isLockstepError(error)) throw error;
      without(error);
      log.warn({ event: "relay-retrying", err: error, inMs: backoffMs }, "the relay cannot take part; trying again");
      await clock.sleep(backoffMs, signal);
      backoffMs = Math.min(backoffMs * 2, BACKOFF_MS_MAX);
    } finally {
      observer.lag = null;
      over?.release();
      await session?.close();
    }
  }
  observer.state = "stopped";

  /** RI11. */
  function without(cause: unknown): void {
    const { code, message } = storeError(cause);
    observer.state = "starting";
    observer.reason = { code, message };
    observer.waitingSinceMs ??= clock.wallMs();
  }
}

/** @param over aborts when the relay is stopped, or the session lost */
function createHolder(context: RelayContext, session: LockSession, over: AbortSignal) {
  const { clock, log, observer, settings, hook, app } = context;
  let saidStandby = false;
  let saidHalt = "";

  /** Sessions, one after the other, until the lock is lost, the relay halts, or it is stopped. */
  async function hold(stop: AbortSignal): Promise<void> {
    const { signal, end, release } = firstOf([over]);
    const measuring = measure(signal);
    let backoffMs = BACKOFF_MS_MIN;
    saidStandby = false;
    if (observer.state === "standby") observer.state = "starting"; // one that has halted has, until it runs
    try {
      await hook("locked");
      while (!signal.aborted) {
        const begunMs = clock.monotonicMs();
        try {
          await runSession(context, session, signal);
        } catch (error) {
          if (session.lost.aborted || stop.aborted) break;
          observer.waitingSinceMs ??= clock.wallMs();
          if (observer.state === "running") saidHalt = "";
          if (isFenced(error)) {
            log.warn({ event: "relay-fenced", err: error }, "another relay has fenced this one");
            await giveWay();
            return;
          }
          if (!isLockstepError(error) || error.remedy === "halt" || error.remedy === "stop") {
            await halt(error);
            return;
          }
          if (clock.monotonicMs() - begunMs > BACKOFF_MS_MAX * 2) backoffMs = BACKOFF_MS_MIN;
          observer.count("restarts");
          observer.state = "starting"; // RI11
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
      end();
      release();
      await measuring;
      if (!stop.aborted) observer.lag = null;
    }
  }

  async function giveWay(): Promise<void> {
    observer.state = "standby";
    await session.unlock();
    await clock.sleep(settings.lockPollMs * 2, over);
  }

  /**
   * The lock is free meanwhile, for `relay resync`; the lags are still measured. It is let go of first: a relay that has lost its lock without
   * knowing may find that the slot has moved on, which contradicts nothing. It gets no answer here, so it has not halted but lost.
   */
  async function halt(error: unknown): Promise<void> {
    await session.unlock();
    const { code = "INVARIANT_BROKEN", message = String(error) } = (error ?? {}) as { code?: string; message?: string };
    observer.state = "halted";
    observer.reason = { code, message };
    // Said once until it has run again; messages name positions, and the server's log moves on.
    if (code !== saidHalt)
      log.error(
        { event: "relay-halted", app, err: error },
        "the relay halted; shards go on, and the outbox table fills",
      );
    saidHalt = code;
    await clock.sleep(settings.haltMs, over);
  }

  async function measure(signal: AbortSignal): Promise<void> {
    let warned = false;
    while (!signal.aborted) {
      try {
        const { slot, server, published, slotKeepMb } = await inspectRelay(session.query, app);
        const position = observer.position;
        observer.setUpChanged = observer.state === "running" && !published;
        observer.lag = slot && {
          slotBytes: Number(server.flushed - slot.restart),
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
      // What it knew to wait is the holder's now.
      Object.assign(observer, { state: "standby", reason: null, pending: 0, waitingSinceMs: null });
      if (!saidStandby) log.info({ event: "relay-standby", app }, "another relay works; standing by");
      saidStandby = true;
    },
  };
}

interface FirstOf {
  readonly signal: AbortSignal;
  /** Aborts it before any of them. */
  end(): void;
  /** Lets go of them. */
  release(): void;
}

/** Aborts with the first of several signals that outlive it. What AbortSignal.any makes of those stays with them for good (Node 20). */
function firstOf(signals: readonly AbortSignal[]): FirstOf {
  const controller = new AbortController();
  const end = () => controller.abort();
  for (const signal of signals) {
    if (signal.aborted) end();
    signal.addEventListener("abort", end, { once: true });
  }
  return {
    signal: controller.signal,
    end,
    release() {
      for (const signal of signals) signal.removeEventListener("abort", end);
    },
  };
}

function isFenced(error: unknown): boolean {
  return hasCode(error, "PUBLISH_FAILED") && (error as { details?: { fenced?: unknown } }).details?.fenced === true;
}
