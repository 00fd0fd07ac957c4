/**
 * Broker settings of the stack, embedded or in a container: those of a small development cluster, with few partitions of internal
 * topics, so that it starts in seconds, and no waiting for members of a group.
 */

export type BrokerSettings = Record<string, string | number | boolean>;

/** Few: each costs files and a place in the start-up. They still spread over three brokers. */
const INTERNAL_PARTITIONS = 4;

/** All that does not say who and where a node is. */
export function brokerSettings(brokers: number): BrokerSettings {
  const replicas = Math.min(3, brokers);
  const inSync = Math.min(2, replicas);
  return {
    "default.replication.factor": replicas,
    "min.insync.replicas": inSync,
    "offsets.topic.replication.factor": replicas,
    "offsets.topic.num.partitions": INTERNAL_PARTITIONS,
    "transaction.state.log.replication.factor": replicas,
    "transaction.state.log.min.isr": inSync,
    "transaction.state.log.num.partitions": INTERNAL_PARTITIONS,
    "share.coordinator.state.topic.replication.factor": replicas,
    "share.coordinator.state.topic.min.isr": inSync,
    "share.coordinator.state.topic.num.partitions": INTERNAL_PARTITIONS,
    "group.initial.rebalance.delay.ms": 0,
    // A killed node may register again only when its old session has ended (default 9 s); this is how long a restart takes.
    "broker.session.timeout.ms": 4000,
    "broker.heartbeat.interval.ms": 500,
    "auto.create.topics.enable": false,
    // Record timestamps are event time. Data with times of last month would otherwise be deleted minutes after it was written.
    "log.retention.ms": -1,
    // Of the heap; the default of 128 MB is for compacting much larger topics than offsets and transactions here.
    "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
    "num.io.threads": 4,
    "group.coordinator.threads": 2,
  };
}
