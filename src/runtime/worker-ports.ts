/**
 * The adapters of one worker: real Kafka, real Postgres. The only file where the runtime meets both.
 */
import type { FetchSink } from "../actors/ports.ts";
import type { Config } from "../config.ts";
import { createKafkaClient } from "../kafka/client.ts";
import { openConnection } from "../kafka/connection.ts";
import { createFetcher } from "../kafka/fetcher.ts";
import { joinGroup } from "../kafka/membership.ts";
import { createPublisher, type Publisher } from "../kafka/publisher.ts";
import { createRangeReader } from "../kafka/range-reader.ts";
import type { Log } from "../log.ts";
import { createPool } from "../storage/pool.ts";
import { createShardStore } from "../storage/shard-store.ts";
import { readSnapshotVersions } from "../storage/snapshot-versions.ts";
import { createSuspectStore } from "../storage/suspect-store.ts";
import type { LoadedApp } from "./code.ts";
import type { Deployment, WorkerPorts } from "./worker.ts";

/** A shard commits on one connection and writes snapshots on another; one more reads. */
const CONNECTIONS_MAX = 12;

/** One record batch on the wire; a topic that takes less sets the measure. */
const BATCH_BYTES = 512 * 1024;

/**
 * An input is paused when its queue has its share, so it may be one answer beyond it, and a worker has many inputs: at 256 KiB each,
 * eleven times that once it is judged, what came beyond all shares was several times the budget. (Measured on Node 20: a signal of
 * 135 bytes in an uncompressed batch is 1,498 bytes of heap and buffers in a queue.)
 */
const FETCH_BYTES_PARTITION = 64 * 1024;
const FETCH_BYTES_REQUEST = 512 * 1024;

export async function openWorkerPorts(options: {
  config: Config;
  deployment: Deployment;
  loaded: LoadedApp;
  log: Log;
  index: number;
}): Promise<WorkerPorts> {
  const { config, deployment, loaded, log, index } = options;
  const { app, code } = loaded;
  const topics = app.inputs.map((definition) => definition.topic);
  const clientId = `${app.name}-${config.host}-${process.pid}-${index}`;
  const client = createKafkaClient({ brokers: config.brokers, clientId, logger: log });
  const pool = createPool(config.databaseUrl, { max: CONNECTIONS_MAX, applicationName: clientId, log });
  const publishers: Publisher[] = [];
  const sinks = new Map<number, FetchSink>();
  const fetcher = createFetcher({
    connection: openConnection(client),
    topics,
    maxBytesPerPartition: FETCH_BYTES_PARTITION,
    maxBytesPerRequest: FETCH_BYTES_REQUEST,
    onError: (error) => {
      log.warn({ event: "fetch-failed", err: error }, "fetching failed");
      const { topic, partition } = error.details as { topic?: string; partition?: number };
      if (error.code === "KAFKA_UNSUITABLE" && topic !== undefined && partition !== undefined)
        sinks.get(partition)?.onUnreadable?.(topic, error);
    },
  });
  return {
    store: (hook) => createShardStore({ pool, instance: deployment.instance, appVersion: app.version, hook }),
    suspects: createSuspectStore({ pool, instance: deployment.instance }),
    publisher: (hook) => {
      const publisher = createPublisher({
        client,
        groupId: deployment.groupId,
        topics,
        transactionTimeoutMs: config.transactionTimeoutMs,
        maxBatchBytes: Math.min(BATCH_BYTES, ...Object.values(deployment.outputs).map(({ bytesMax }) => bytesMax)),
        hook,
      });
      publishers.push(publisher);
      return publisher;
    },
    fetcher: {
      open(shard, positions, sink) {
        sinks.set(shard, sink);
        fetcher.open(shard, positions, sink);
      },
      pause: (shard, topic) => fetcher.pause(shard, topic),
      resume: (shard, topic) => fetcher.resume(shard, topic),
      close(shard) {
        sinks.delete(shard);
        fetcher.close(shard);
      },
      stop: () => fetcher.stop(),
    },
    openReader: (shard) => createRangeReader({ client, shard }),
    join: async (listener, held) =>
      joinGroup({
        client,
        groupId: deployment.groupId,
        topics,
        shardCount: deployment.shardCount,
        sessionTimeoutMs: config.sessionTimeoutMs,
        heartbeatIntervalMs: config.heartbeatIntervalMs,
        rebalanceTimeoutMs: config.rebalanceTimeoutMs,
        member: { code: { version: app.version, digest: code }, held },
        snapshotVersions: () => readSnapshotVersions(pool, deployment.instance),
        listener,
      }),
    close: async () => {
      await Promise.all(publishers.map((publisher) => publisher.close()));
      await pool.end();
    },
  };
}
