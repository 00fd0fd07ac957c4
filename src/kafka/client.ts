/**
 * The one place that makes `Kafka` objects.
 *
 * A `Kafka` object shares a map of committed offsets between its clients, so whoever needs a client of its own opens its
 * own object. We also own its sockets: `destroy()` cuts them at once and lets no new one be made, so that after a failure
 * nothing more can leave this process in the name of that client. kafkajs' own `disconnect()` waits for requests under
 * way instead, up to their time-out.
 */
import net from "node:net";
import tls from "node:tls";
import type { ISocketFactory, Kafka, KafkaConfig, LogEntry } from "kafkajs";
import kafkajs from "kafkajs";

import { installGzip } from "./codecs.ts";
import { installHeaderDecoder } from "./record-headers.ts";

/** Object first, constant message: the shape of pino, without importing it. */
export interface KafkaLogger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface KafkaClientOptions {
  /** `host:port`, one or more. */
  readonly brokers: readonly string[];
  readonly clientId: string;
  readonly logger?: KafkaLogger;
  readonly ssl?: NonNullable<KafkaConfig["ssl"]>;
  readonly sasl?: NonNullable<KafkaConfig["sasl"]>;
  /** Time to open a TCP connection, default 3,000. */
  readonly connectionTimeoutMs?: number;
  /** Time to wait for one answer, default 10,000. */
  readonly requestTimeoutMs?: number;
}

export interface KafkaHandle {
  readonly kafka: Kafka;
  readonly destroyed: boolean;
  /** Cuts all sockets, which fails every request under way, and refuses new ones. Idempotent. */
  destroy(): void;
}

export interface KafkaClient {
  readonly brokers: readonly string[];
  readonly clientId: string;
  readonly logger: KafkaLogger;
  /** A `Kafka` object of its own. All of its log goes to debug: each failure also reaches us, as an error or an event. */
  open(options?: { requestTimeoutMs?: number }): KafkaHandle;
}

const SILENT: KafkaLogger = { debug() {}, info() {}, warn() {}, error() {} };

/**
 * kafkajs' retries of its own, below ours: few, since every caller here has a loop with a deadline and a back-off.
 * 2 retries at 50 and 100 ms bridge a broker that is closing an old connection.
 */
const INNER_RETRY = { retries: 2, initialRetryTime: 50, multiplier: 2, maxRetryTime: 500 };

const KEEP_ALIVE_DELAY_MS = 60_000;

export function createKafkaClient(options: KafkaClientOptions): KafkaClient {
  const logger = options.logger ?? SILENT;
  // Read once, at the first producer without a partitioner; each of ours sets partitions itself.
  process.env.KAFKAJS_NO_PARTITIONER_WARNING = "1";
  installGzip();
  installHeaderDecoder();

  return {
    brokers: options.brokers,
    clientId: options.clientId,
    logger,
    open({ requestTimeoutMs } = {}) {
      const sockets = trackSockets();
      const kafka = new kafkajs.Kafka({
        brokers: [...options.brokers],
        clientId: options.clientId,
        ...(options.ssl === undefined ? {} : { ssl: options.ssl }),
        ...(options.sasl === undefined ? {} : { sasl: options.sasl }),
        connectionTimeout: options.connectionTimeoutMs ?? 3_000,
        requestTimeout: requestTimeoutMs ?? options.requestTimeoutMs ?? 10_000,
        retry: INNER_RETRY,
        logLevel: kafkajs.logLevel.INFO,
        logCreator: () => (entry) => log(logger, entry),
        socketFactory: sockets.factory,
      });
      return {
        kafka,
        get destroyed() {
          return sockets.destroyed();
        },
        destroy: sockets.destroy,
      };
    },
  };
}

function trackSockets(): { factory: ISocketFactory; destroyed(): boolean; destroy(): void } {
  const open = new Set<net.Socket>();
  let destroyed = false;
  return {
    factory: ({ host, port, ssl, onConnect }) => {
      if (destroyed) throw new Error("the client is closed");
      const socket = ssl
        ? tls.connect({ host, port, ...(net.isIP(host) ? {} : { servername: host }), ...ssl }, onConnect)
        : net.connect({ host, port }, onConnect);
      socket.setKeepAlive(true, KEEP_ALIVE_DELAY_MS);
      socket.setNoDelay(true);
      open.add(socket);
      socket.once("close", () => {
        open.delete(socket);
        // kafkajs disconnects a dead socket again at each retry, and each `unref` of one adds a listener to it.
        socket.unref = () => socket;
      });
      return socket;
    },
    destroyed: () => destroyed,
    destroy: () => {
      destroyed = true;
      for (const socket of open) socket.destroy(new Error("the client is closed"));
      open.clear();
    },
  };
}

function log(logger: KafkaLogger, { namespace, log: entry }: LogEntry): void {
  const { message, ...fields } = entry;
  logger.debug({ ...fields, namespace }, message);
}
