/**
 * A stream of committed rows from Postgres' log: the walsender's protocol over a connection of `pg`.
 *
 * Invariants
 *   RS1  Nothing is confirmed to the slot but what `acknowledge` was given: no timer and no close confirms what was merely received.
 *   RS2  What is held in memory is bounded: above `QUEUE_BYTES_HIGH` the socket is paused, also in the middle of a database transaction.
 *   RS3  A stream that failed is over: whoever goes on opens a new one, at the position that was published.
 *   RS4  A line that has died without a word is noticed: the server answers each of our status messages, or the stream fails.
 *   RS5  Opening ends: it fails when the stream has not begun `timeoutMs` after the connection was made, or the signal aborts.
 *
 * docs/decisions/0008-own-walsender-client.md says why this is ours.
 */
import pg from "pg";

import { LockstepError } from "../errors.ts";
import { formatLsn } from "./lsn.ts";
import { sqlState, storeError } from "./pg-errors.ts";
import { createDecoder, type LoggedChange } from "./pgoutput.ts";

export type StreamEvent =
  | LoggedChange
  /** Everything committed below `endLsn` has been sent. `asked`: the server waits to hear that it is confirmed, as when it shuts down. */
  | { readonly kind: "reached"; readonly endLsn: bigint; readonly asked: boolean };

export interface ReplicationStream {
  /**
   * What has come since the last call, in order; waits for the first, at most `waitMs`. Empty when nothing came, or the signal aborted.
   * @throws {LockstepError} STORE_UNAVAILABLE the stream is over; RELAY_SLOT_LOST the slot is not there
   */
  take(waitMs: number, signal: AbortSignal): Promise<readonly StreamEvent[]>;
  /** RS1. All below `lsn` is published for good. */
  acknowledge(lsn: bigint): void;
  /** Received and not yet taken. */
  readonly queuedBytes: number;
  readonly queuedRows: number;
  close(): Promise<void>;
}

export interface StreamOptions {
  readonly url: string;
  readonly applicationName: string;
  readonly slot: string;
  readonly publication: string;
  /** Database transactions whose commit record begins below are not sent. */
  readonly startLsn: bigint;
  /** Silence after which either side gives the other up, default 10,000. */
  readonly timeoutMs?: number;
  /** Ends the opening; an open stream is closed. */
  readonly signal: AbortSignal;
}

/** Rows of 500 bytes: some 16,000. With what one socket read holds, and two batches on their way to Kafka, well below 64 MiB. */
const QUEUE_BYTES_HIGH = 8 * 1_048_576;
const CONNECT_MS = 5_000;
const CLOSE_MS = 1_000;

const XLOG_DATA = 0x77;
const KEEPALIVE = 0x6b;
/** Of an 'w' message: its tag, where the record begins, where the log ends, the server's time. */
const XLOG_HEADER_BYTES = 25;
const EPOCH_US = 946_684_800_000_000n;

/** What we use of pg's connection beyond its type declarations. */
interface WireConnection {
  readonly stream: { pause(): void; resume(): void; destroy(): void };
  on(event: "copyData", listener: (message: { chunk: Buffer }) => void): void;
  once(event: "replicationStart", listener: () => void): void;
  sendCopyFromChunk(chunk: Buffer): void;
}

/**
 * @throws {LockstepError} STORE_UNAVAILABLE it cannot be opened now (`details.sqlstate` 55006: another session holds the slot); RELAY_SLOT_LOST
 */
export async function openReplicationStream(options: StreamOptions): Promise<ReplicationStream> {
  const { signal, timeoutMs = 10_000 } = options;
  const client = new pg.Client({
    connectionString: options.url,
    application_name: options.applicationName,
    connectionTimeoutMillis: CONNECT_MS,
    keepAlive: true,
    ...({ replication: "database", client_encoding: "UTF8" } as object),
  });
  const stream = createStream(client, { ...options, timeoutMs });
  const onAbort = () => stream.abandon(new Error("it was not waited for any longer"));
  signal.addEventListener("abort", onAbort, { once: true });
  let timer: NodeJS.Timeout | null = null;
  try {
    if (signal.aborted) throw new Error("it was not waited for");
    await client.connect();
    timer = setTimeout(
      () => stream.abandon(new Error(`the server has not begun the stream within ${timeoutMs} ms`)),
      timeoutMs,
    );
    // Of this session alone, and whatever the URL sets: times in one zone and form, and no limit on the one endless statement.
    await client.query("SET TimeZone = 'UTC'");
    await client.query("SET DateStyle = 'ISO, YMD'");
    await client.query("SET statement_timeout = 0");
    await client.query("SET idle_session_timeout = 0");
    await client.query(`SET wal_sender_timeout = ${timeoutMs}`);
    await stream.start();
    return stream;
  } catch (error) {
    await stream.close();
    throw stream.failure ?? streamError(error, options.slot);
  } finally {
    if (timer !== null) clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}

/** A stream that is being opened. */
interface Opening extends ReplicationStream {
  start(): Promise<void>;
  /** RS5. Whatever is waited for fails. */
  abandon(why: Error): void;
  /** The first. */
  readonly failure: LockstepError | null;
}

function createStream(client: pg.Client, options: StreamOptions & { timeoutMs: number }): Opening {
  const { slot, publication, startLsn, timeoutMs } = options;
  const connection = (client as unknown as { connection: WireConnection }).connection;
  const decode = createDecoder();
  let queue: StreamEvent[] = [];
  let queuedBytes = 0;
  let queuedRows = 0;
  let paused = false;
  let failure: LockstepError | null = null;
  let closed = false;
  let confirmed = startLsn;
  let heardMs = performance.now();
  let wake = (): void => {};
  let statusTimer: NodeJS.Timeout | null = null;

  function fail(error: unknown): void {
    failure ??= streamError(error, slot);
    wake();
  }

  function receive(chunk: Buffer): void {
    if (failure !== null || closed) return;
    heardMs = performance.now();
    try {
      if (chunk[0] === XLOG_DATA) push(decode(chunk.subarray(XLOG_HEADER_BYTES)));
      else if (chunk[0] === KEEPALIVE) {
        const asked = chunk[17] === 1;
        push({ kind: "reached", endLsn: chunk.readBigUInt64BE(1), asked });
        if (asked) sendStatus({ ask: false });
      }
    } catch (error) {
      fail(error);
    }
  }

  function push(event: StreamEvent | null): void {
    if (event === null) return;
    const last = queue.at(-1);
    // Only the latest says anything new; a question stays one.
    if (event.kind === "reached" && last?.kind === "reached") {
      queue[queue.length - 1] = { ...event, asked: event.asked || last.asked };
    } else queue.push(event);
    if (event.kind === "insert") {
      queuedBytes += event.bytes;
      queuedRows += 1;
    }
    if (queuedBytes > QUEUE_BYTES_HIGH && !paused) {
      paused = true;
      connection.stream.pause();
    }
    wake();
  }

  /** Standby status update: written, flushed and applied are all what was confirmed. */
  function sendStatus({ ask }: { ask: boolean }): void {
    const message = Buffer.alloc(34);
    message[0] = 0x72;
    message.writeBigUInt64BE(confirmed, 1);
    message.writeBigUInt64BE(confirmed, 9);
    message.writeBigUInt64BE(confirmed, 17);
    message.writeBigInt64BE(BigInt(Date.now()) * 1000n - EPOCH_US, 25);
    message[33] = ask ? 1 : 0;
    connection.sendCopyFromChunk(message);
  }

  /** RS4. While we do not read, silence says nothing. */
  function onStatusTimer(): void {
    if (paused) heardMs = performance.now();
    if (performance.now() - heardMs > timeoutMs) abandon(new Error(`the server has said nothing for ${timeoutMs} ms`));
    else sendStatus({ ask: true });
  }

  function abandon(why: Error): void {
    fail(why);
    connection.stream.destroy();
  }

  // From before it connects: an error that nobody listens to would end the process.
  client.on("error", fail);
  client.on("end", () => fail(new Error("the connection ended")));

  return {
    get queuedBytes() {
      return queuedBytes;
    },
    get queuedRows() {
      return queuedRows;
    },
    get failure() {
      return failure;
    },
    abandon,
    async start() {
      connection.on("copyData", ({ chunk }) => receive(chunk));
      const begun = new Promise<void>((resolve) => connection.once("replicationStart", resolve));
      const ended = client.query(
        `START_REPLICATION SLOT ${pg.escapeIdentifier(slot)} LOGICAL ${formatLsn(startLsn)} (proto_version '1', publication_names ${pg.escapeLiteral(pg.escapeIdentifier(publication))})`,
      );
      ended.then(() => fail(new Error("the server ended the stream")), fail);
      await Promise.race([begun, ended]);
      if (failure !== null) throw failure;
      heardMs = performance.now();
      statusTimer = setInterval(onStatusTimer, timeoutMs / 4);
      sendStatus({ ask: true });
    },
    async take(waitMs, signal) {
      if (queue.length === 0 && failure === null && !signal.aborted) {
        await new Promise<void>((resolve) => {
          const done = () => {
            clearTimeout(timer);
            signal.removeEventListener("abort", done);
            resolve();
          };
          const timer = setTimeout(done, waitMs);
          signal.addEventListener("abort", done, { once: true });
          wake = done;
        });
        wake = () => {};
      }
      // What came before the failure is whole and can still be published.
      if (queue.length === 0 && failure !== null) throw failure;
      const taken = queue;
      queue = [];
      queuedBytes = 0;
      queuedRows = 0;
      if (paused) {
        paused = false;
        connection.stream.resume();
      }
      return taken;
    },
    acknowledge(lsn) {
      if (lsn <= confirmed) return;
      confirmed = lsn;
      if (failure === null && !closed) sendStatus({ ask: false });
    },
    async close() {
      if (closed) return;
      closed = true;
      if (statusTimer !== null) clearInterval(statusTimer);
      client.on("error", () => {}); // whatever ends it now, it is over
      if (paused) connection.stream.resume(); // else the end of the connection is never read
      const grace = setTimeout(() => connection.stream.destroy(), CLOSE_MS);
      await client.end().catch(() => undefined); // it had ended already
      clearTimeout(grace);
    },
  };
}

/** Undefined object: the slot was dropped between the look at it and the start, or the publication while it was decoded. */
const UNDEFINED_OBJECT = "42704";

function streamError(error: unknown, slot: string): LockstepError {
  if (sqlState(error) === UNDEFINED_OBJECT) {
    return new LockstepError("RELAY_SLOT_LOST", `Postgres refuses slot "${slot}": ${(error as Error).message}.`, {
      details: { slot },
      cause: error,
    });
  }
  return storeError(error);
}
