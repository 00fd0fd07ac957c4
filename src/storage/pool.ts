/**
 * Connections to Postgres, each with limits on everything that can wait.
 *
 * Invariants
 *   P-limits  A process that is stopped inside an open transaction does not hold a shard row for ever: the server ends its
 *             session (idle_in_transaction_session_timeout) or its statement. docs/protocol.md, row Z4.
 *   P-half    A connection whose other end is gone fails within `queryTimeoutMs`, and is thrown away.
 *   P-flight  What is sent is on its way at once, also while an earlier answer is awaited: a distant server costs one round trip
 *             for statements that do not wait for each other.
 *   P-errors  No error of an idle or busy connection ends the process: it fails the query, or is logged.
 */
import pg from "pg";

import { sqlState, storeError } from "./pg-errors.ts";

export type Pool = pg.Pool;
export type Client = pg.PoolClient;
export type Result<R extends pg.QueryResultRow> = pg.QueryResult<R>;

/** The part of a logger that storage uses; pino's fits. */
export interface Log {
  info(data: object, message: string): void;
  warn(data: object, message: string): void;
}

export interface PoolLimits {
  readonly statementTimeoutMs: number;
  readonly lockTimeoutMs: number;
  readonly idleInTransactionMs: number;
  /** Deadline on the client's side: above the server's, so that it is met only when the server does not answer at all. */
  readonly queryTimeoutMs: number;
  /** To get a connection, new or from the pool. */
  readonly connectTimeoutMs: number;
}

export const POOL_LIMITS: PoolLimits = {
  statementTimeoutMs: 10_000,
  lockTimeoutMs: 10_000,
  idleInTransactionMs: 10_000,
  queryTimeoutMs: 12_000,
  connectTimeoutMs: 5_000,
};

/** A time without a zone in a row of an app means the same on every server. An `options` parameter of the URL takes its place. */
const SESSION_OPTIONS = "-c TimeZone=UTC -c DateStyle=ISO,YMD";

/** OID of int8. */
const INT8 = 20;

/**
 * @param url             postgresql://user:password@host:port/database
 * @param options.max     connections at most
 * @param options.limits  in place of single ones of POOL_LIMITS
 */
export function createPool(
  url: string,
  options: { max: number; applicationName: string; log: Log; limits?: Partial<PoolLimits> },
): Pool {
  const limits = { ...POOL_LIMITS, ...options.limits };
  const config: pg.PoolConfig & { readonly pipeline: true } = {
    connectionString: url,
    max: options.max,
    application_name: options.applicationName,
    statement_timeout: limits.statementTimeoutMs,
    lock_timeout: limits.lockTimeoutMs,
    idle_in_transaction_session_timeout: limits.idleInTransactionMs,
    query_timeout: limits.queryTimeoutMs,
    connectionTimeoutMillis: limits.connectTimeoutMs,
    options: SESSION_OPTIONS,
    pipeline: true, // P-flight
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    types: {
      // An int8 stays text, whatever parser an app has set for the whole process: a double would round it.
      getTypeParser: (oid: number, format?: "text" | "binary") =>
        oid === INT8 ? (text: string) => text : pg.types.getTypeParser(oid, format as "text"),
    } as pg.CustomTypesConfig,
  };
  const pool = new pg.Pool(config);
  // P-errors. The pool has thrown the connection away already.
  pool.on("error", (err) => options.log.warn({ err }, "an idle connection to Postgres was lost"));
  return pool;
}

/**
 * Lends a connection for the time of `work`. When `work` fails, it is closed rather than handed on in an unknown state.
 * @throws {LockstepError} STORE_UNAVAILABLE when none can be had; else what `work` throws, driver errors translated
 */
export async function withClient<T>(pool: Pool, work: (client: Client) => Promise<T>): Promise<T> {
  const client = await checkOut(pool);
  let broken = false;
  const onError = () => {
    broken = true; // P-errors: the query under way fails with the same error.
  };
  client.on("error", onError);
  let failed = true;
  try {
    const result = await work(client);
    failed = false;
    return result;
  } catch (error) {
    throw broken || sqlState(error) !== null ? storeError(error) : error;
  } finally {
    client.removeListener("error", onError);
    client.release(failed);
  }
}

/** @throws {LockstepError} STORE_UNAVAILABLE */
export async function checkOut(pool: Pool): Promise<Client> {
  try {
    return await pool.connect();
  } catch (error) {
    throw storeError(error);
  }
}

/** One statement of ours outside a transaction. @throws {LockstepError} as pg-errors.ts */
export async function query<R extends pg.QueryResultRow>(
  pool: Pool,
  text: string,
  values: readonly unknown[] = [],
): Promise<Result<R>> {
  try {
    return await pool.query<R>(text, [...values]);
  } catch (error) {
    throw storeError(error);
  }
}
