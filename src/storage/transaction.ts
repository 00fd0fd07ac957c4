/**
 * One transaction, whose outcome is always named: it happened, nothing happened, or nobody can know.
 *
 *   open --- COMMIT written to the socket ---> sent --- answered COMMIT ---> done
 *     |                                          |--- answered with an error, the session goes on ---> nothing happened
 *     |                                          '--- anything else ---> COMMIT_UNKNOWN
 *     '--- any failure ---> nothing happened: without COMMIT the server rolls back, at the latest when the connection closes
 *
 * Invariants
 *   T-unknown  A failure after COMMIT was written is never reported as "nothing happened" unless the server said so.
 *   T-tag      COMMIT answered by ROLLBACK is an error: the server had rolled back.
 *   T-clean    A connection goes back to the pool only after its transaction has ended; else it is closed.
 *   T-flight   BEGIN and every statement that the work sends before it waits for one go out together: one round trip. COMMIT is a
 *              second one, sent when all of them were answered well; until then nothing can have happened.
 */
import { LockstepError } from "../errors.ts";
import { type Author, sqlState, storeError } from "./pg-errors.ts";
import { type Client, checkOut, type Pool, type Result } from "./pool.ts";

/** READ COMMITTED whatever the database's default is: a guarded WHERE must see what it waited for. */
const BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL synchronous_commit = on";

/** For reads that must fit together. */
const BEGIN_READ_ONLY = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/** For the server's answer to ROLLBACK, after which the connection is given up. */
const ROLLBACK_MS_MAX = 2_000;

/** 25P03: the session was ended because it sat idle inside the transaction, so before COMMIT was read. */
const ENDED_WHILE_IDLE = "25P03";

export interface Transaction {
  /** Passes a fail-point. */
  at(point: string): Promise<void>;
  /**
   * Sent at once. Statements that do not need each other's answers may be sent together, and are carried out in order; after one
   * that failed the others fail too, and the first error is the one that tells.
   * @throws {LockstepError} as pg-errors.ts; nothing of the transaction takes effect then
   */
  query<R extends Record<string, unknown>>(
    text: string,
    values?: readonly unknown[],
    author?: Author,
  ): Promise<Result<R>>;
}

export interface TransactionOptions {
  /** Reads only, all as of one moment; then no outcome is ever unknown. */
  readonly readOnly?: boolean;
  /**
   * Called at pg.begun, pg.before-commit, pg.commit-sent, pg.committed, and where `work` says. What it throws counts as a break of the connection there.
   */
  readonly at?: (point: string) => void | Promise<void>;
}

/**
 * Runs `work` inside a transaction and commits it.
 * @throws {LockstepError} COMMIT_UNKNOWN the outcome is unknown; any other error: nothing happened
 */
export async function inTransaction<T>(
  pool: Pool,
  work: (transaction: Transaction) => Promise<T>,
  options: TransactionOptions = {},
): Promise<T> {
  const client = await checkOut(pool);
  const session = new Session(client, options);
  try {
    const begun = session.begin(options.readOnly ? BEGIN_READ_ONLY : BEGIN);
    const result = await work(session);
    await begun; // for work that asked nothing
    await session.at("pg.before-commit");
    await session.commit();
    return result;
  } catch (error) {
    throw await session.settle(error);
  } finally {
    session.giveBack();
  }
}

/** Waits for statements that were sent together. @throws the error of the first one that failed: those of the others follow from it */
export async function together<T extends readonly Promise<unknown>[]>(
  ...statements: T
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  for (const statement of statements) statement.catch(() => {}); // The first failure is thrown; nobody waits for the rest.
  const results: unknown[] = [];
  for (const statement of statements) results.push(await statement);
  return results as { -readonly [K in keyof T]: Awaited<T[K]> };
}

class Session implements Transaction {
  readonly #client: Client;
  readonly #options: TransactionOptions;
  readonly #onError = (error: Error): void => {
    this.#lost ??= error;
  };
  #stage: "open" | "sent" | "done" = "open";
  /** Author of the latest statements: a deferred constraint of the app fails at COMMIT. */
  #author: Author = "lockstep";
  /** Why the connection is of no more use. */
  #lost: unknown = null;
  /** BEGIN was answered, and its fail-point passed. */
  #begun: Promise<void> = Promise.resolve();

  constructor(client: Client, options: TransactionOptions) {
    this.#client = client;
    this.#options = options;
    client.on("error", this.#onError);
  }

  async at(point: string): Promise<void> {
    try {
      await this.#options.at?.(point);
    } catch (error) {
      this.#lost ??= error;
      throw storeError(error);
    }
  }

  begin(text: string): Promise<void> {
    this.#begun = this.#send(text).then(() => this.at("pg.begun"));
    this.#begun.catch(() => {}); // Met again by each statement, and by inTransaction.
    return this.#begun;
  }

  query<R extends Record<string, unknown>>(
    text: string,
    values: readonly unknown[] = [],
    author: Author = "lockstep",
  ): Promise<Result<R>> {
    if (author === "app") this.#author = "app";
    const answer = this.#send<R>(text, values, author);
    const afterBegun = this.#begun.then(() => answer);
    for (const promise of [answer, afterBegun]) promise.catch(() => {}); // Who sent several waits for the first one that failed.
    return afterBegun;
  }

  /** Writes to the socket before it returns: the connection is pipelined. */
  async #send<R extends Record<string, unknown>>(
    text: string,
    values: readonly unknown[] = [],
    author: Author = "lockstep",
  ): Promise<Result<R>> {
    if (this.#lost) throw storeError(this.#lost);
    try {
      // Without values it is a simple query, which may hold several statements.
      return await (values.length === 0 ? this.#client.query<R>(text) : this.#client.query<R>(text, [...values]));
    } catch (error) {
      if (sqlState(error) === null) this.#lost ??= error;
      throw storeError(error, author);
    }
  }

  async commit(): Promise<void> {
    if (this.#lost) throw storeError(this.#lost);
    this.#stage = "sent";
    // The driver writes COMMIT to the socket before this call returns.
    const answer = this.#client.query("COMMIT");
    answer.catch(() => {}); // Awaited below; a rejection during the hook must not count as unhandled.
    await this.at("pg.commit-sent");
    const { command } = await answer;
    if (command !== "COMMIT") {
      this.#stage = "open"; // T-tag
      throw new LockstepError(
        "INVARIANT_BROKEN",
        `COMMIT was answered by ${command}: a statement had failed unnoticed, nothing was written.`,
      );
    }
    this.#stage = "done";
    await this.at("pg.committed");
  }

  /** @returns the error that tells the outcome */
  async settle(error: unknown): Promise<unknown> {
    const state = sqlState(error);
    if (this.#stage === "sent" && state === null) this.#lost ??= error;
    const ended = this.#stage !== "done" && (await this.#rollback());
    if (this.#stage === "open") return error;
    if (this.#options.readOnly) return storeError(error);
    // A session that goes on after an error of COMMIT has rolled back: past the commit record Postgres raises no such error.
    if (this.#stage === "sent" && state !== null && (ended || state === ENDED_WHILE_IDLE))
      return storeError(error, this.#author);
    return new LockstepError("COMMIT_UNKNOWN", "COMMIT was sent to Postgres and its answer never came.", {
      cause: error,
    });
  }

  /** @returns whether the server answered */
  async #rollback(): Promise<boolean> {
    if (this.#lost) return false;
    try {
      await this.#client.query({ text: "ROLLBACK", query_timeout: ROLLBACK_MS_MAX } as { text: string });
      return true;
    } catch (error) {
      // T-clean: closing the connection rolls back too; the error that led here is the one to report.
      this.#lost ??= error;
      return false;
    }
  }

  giveBack(): void {
    this.#client.removeListener("error", this.#onError);
    this.#client.release(this.#lost !== null);
  }
}
