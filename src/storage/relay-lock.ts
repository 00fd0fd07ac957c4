/**
 * The lock that says which relay of a database works: an advisory lock of one session, with a heartbeat.
 *
 * Invariants
 *   RL1  A holder that is stopped, or cut off, loses the lock within `timeoutMs`: the server ends a session that sends nothing
 *        (idle_session_timeout).
 *        A statement of ours that runs, or waits for a lock, is ended sooner than that (statement_timeout, lock_timeout), and so is a
 *        transaction left open: none of them counts as idle.
 *   RL2  A holder learns of it: `lost` aborts when the session ends, or when a heartbeat is not answered within `timeoutMs`.
 *
 * The lock keeps two relays out of each other's way. It is no fence: that is the transactional id (docs/relay.md, R6).
 */
import pg from "pg";

import { storeError } from "./pg-errors.ts";

export interface LockSession {
  /** @returns false while another session has the lock @throws {LockstepError} STORE_UNAVAILABLE */
  tryLock(): Promise<boolean>;
  unlock(): Promise<void>;
  /** RL2: aborts when the session is over, and the lock with it; the reason says why. */
  readonly lost: AbortSignal;
  /** A statement on this session: when it is answered, the lock was still ours. @throws {LockstepError} */
  query<R extends pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<R[]>;
  close(): Promise<void>;
}

/** "LKre", with the app's name hashed: two numbers, so never the lock of migrations, which is one. */
const LOCK_CLASS = 0x4c4b7265;
const CONNECT_MS = 5_000;
/** Heartbeats wait behind a statement that waits for a lock. */
const LOCK_WAIT_MS = 2_000;

export interface RelayLockOptions {
  readonly url: string;
  readonly app: string;
  readonly applicationName: string;
  readonly timeoutMs: number;
}

/** Standing by takes one connection, not one a try. @throws {LockstepError} STORE_UNAVAILABLE */
export async function openLockSession(options: RelayLockOptions): Promise<LockSession> {
  const { app, timeoutMs } = options;
  const client = new pg.Client({
    connectionString: options.url,
    application_name: options.applicationName,
    connectionTimeoutMillis: CONNECT_MS,
    query_timeout: timeoutMs,
    keepAlive: true,
  });
  const gone = new AbortController();
  const end = (why: unknown): void => {
    if (!gone.signal.aborted) gone.abort(why);
  };
  client.on("error", end);
  client.on("end", () => end(new Error("the session of the lock ended")));
  let heartbeat: NodeJS.Timeout | null = null;
  const close = async (): Promise<void> => {
    if (heartbeat !== null) clearInterval(heartbeat);
    end(new Error("released"));
    const connection = (client as unknown as { connection: { stream: { destroy(): void } } }).connection;
    const grace = setTimeout(() => connection.stream.destroy(), 1_000);
    await client.end().catch(() => undefined); // it had ended already
    clearTimeout(grace);
  };
  // One after the other: the relay, its measuring and the heartbeat share the session.
  let under = Promise.resolve<unknown>(null);
  const query = async <R extends pg.QueryResultRow>(text: string, values: readonly unknown[] = []): Promise<R[]> => {
    const answer = under.then(() => client.query<R>(text, [...values]));
    under = answer.catch(() => null); // its own caller hears of it
    try {
      return (await answer).rows;
    } catch (error) {
      throw storeError(error);
    }
  };
  try {
    await client.connect();
    await query(`SET idle_session_timeout = ${timeoutMs}`);
    await query(`SET idle_in_transaction_session_timeout = ${timeoutMs}`);
    await query(`SET statement_timeout = ${Math.ceil(timeoutMs * 0.75)}`);
    await query(`SET lock_timeout = ${Math.min(LOCK_WAIT_MS, Math.ceil(timeoutMs / 2))}`);
    await query("SET TimeZone = 'UTC'");
  } catch (error) {
    await close();
    throw storeError(error);
  }
  heartbeat = setInterval(() => {
    query("SELECT").catch((error: unknown) => {
      end(error);
      void close();
    });
  }, timeoutMs / 4);
  return {
    async tryLock() {
      const [row] = await query<{ taken: boolean }>("SELECT pg_try_advisory_lock($1, hashtext($2)) AS taken", [
        LOCK_CLASS,
        app,
      ]);
      return row?.taken === true;
    },
    async unlock() {
      await query("SELECT pg_advisory_unlock_all()");
    },
    lost: gone.signal,
    query,
    close,
  };
}

/** Application name and process id of the session that has the lock; null when nobody has it. */
export const LOCK_HOLDER_SQL = `
  SELECT a.pid, a.application_name AS name FROM pg_locks l JOIN pg_stat_activity a USING (pid)
  WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.classid = ${LOCK_CLASS} AND l.objid::bigint = (hashtext($1)::bigint & 4294967295) AND l.objsubid = 2`;
