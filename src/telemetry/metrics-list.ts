/**
 * Every metric that a process shows on `/metrics`, besides those of Node.js: ONE table. docs/metrics.md lists the same with what
 * they mean and when they are absent; test/house/metrics.test.ts compares the two, and holds the rules for names.
 *
 * Names: prefix `lockstep_`, or the name that kafka_exporter uses. Durations and times in seconds, sizes in bytes, counters end in
 * `_total`. Every series also has the labels `app` and `group`. A label takes few values: topics, shards, workers, codes, states.
 * Keys of actors are many, so only the first of them get series of their own (`LOCKSTEP_METRICS_ACTORS_MAX`), and the rest share one.
 *
 *   counter    grows as long as the process lives, over the death of its workers too
 *   gauge      as it is now; of a shard that is not ours, or a worker that is dead, there is none
 *   histogram  a counter of observations, by upper bound
 *   summary    quantiles of the last 10 to 20 seconds, and count and sum since the start
 */

export type MetricType = "counter" | "gauge" | "histogram" | "summary";

export interface MetricDefinition {
  readonly type: MetricType;
  /** A sentence for whoever reads `/metrics`. */
  readonly help: string;
  readonly labels: readonly string[];
  /** Upper bounds, ascending, without +Inf. Of histograms. */
  readonly buckets?: readonly number[];
  /** Label values that exist from the start, with 0: a rate can be taken of the first event. */
  readonly zeros?: readonly (readonly string[])[];
}

/** The key of all actors beyond the first `LOCKSTEP_METRICS_ACTORS_MAX`. An actor that has just this key is counted with them. */
export const OTHER_KEY = "(other)";

/** A commit of a busy shard takes 5 to 50 ms; beyond 10 s a transaction is close to its time-out. */
const COMMIT_SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10];
/** From a quiet stream to a backlog of minutes. */
const LATENCY_SECONDS = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300];
/** From memory that is reused to the replay of a whole day. */
const RECOVERY_SECONDS = [0.01, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1200];
const RECORDS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];

export const METRICS = {
  // ------------------------------------------------------------------------------------------------------------- actors
  lockstep_actor_events_total: counter("Events that actors took: stepped, or threw and were undone.", [
    "actor_type",
    "key",
    "result",
  ]),
  lockstep_actor_emitted_total: counter("Events that actors emitted.", ["actor_type", "key"]),
  lockstep_actor_last_event_timestamp_seconds: gauge("Event time of the latest event that the actor took.", [
    "actor_type",
    "key",
  ]),
  lockstep_actor_active: gauge("Actors that have state.", ["actor_type", "shard"]),

  // ------------------------------------------------------------------------------------------------------------- shards
  lockstep_shard_state: gauge("1 for the state that the shard is in.", ["shard", "state"]),
  lockstep_shard_epoch: gauge("Number of the ownership.", ["shard"]),
  lockstep_shard_seq: gauge("Latest commit in Postgres.", ["shard"]),
  lockstep_shard_confirmed_seq: gauge("Latest commit that Kafka is known to have.", ["shard"]),
  lockstep_shard_snapshot_seq: gauge("Commit that the published snapshot covers.", ["shard"]),
  lockstep_shard_stream_time_seconds: gauge("Stream time: the greatest event time accepted, or reached by a tick.", [
    "shard",
  ]),
  lockstep_shard_timers: gauge("Timers that wait.", ["shard"]),
  lockstep_shard_queue_records: gauge("Records that were fetched and not yet taken.", ["shard", "topic"]),
  lockstep_shard_paused_inputs: gauge("Inputs that are not fetched, because enough of them is queued.", ["shard"]),
  lockstep_shard_owner: gauge("1 for who has the shard.", ["shard", "worker", "owner"]),
  lockstep_shard_halted: gauge("1 while the shard is halted, with the error code.", ["shard", "code"]),
  lockstep_shard_halts_total: counter("Shards that halted.", ["code"]),

  // ------------------------------------------------------------------------------------------------------------- commit
  lockstep_tx_total: counter("Commits that Postgres has, and attempts that failed.", ["outcome"], {
    zeros: [["commit"], ["abort"]],
  }),
  lockstep_tx_duration_seconds: histogram("From the start of the fold to the end of the commit.", COMMIT_SECONDS, [
    "outcome",
  ]),
  lockstep_commit_phase_duration_seconds: histogram("Parts of a commit.", COMMIT_SECONDS, ["phase"]),
  lockstep_commit_records: histogram("Records taken by one commit.", RECORDS),
  lockstep_records_taken_total: counter("Input records taken, whatever became of them.", ["topic"]),
  lockstep_records_published_total: counter("Records that commits publish, dead letters and late records included.", [
    "topic",
  ]),
  lockstep_rows_written_total: counter("Rows of the app, inserted by commits.", [], { zeros: [[]] }),
  lockstep_timers_fired_total: counter("Timers fired.", [], { zeros: [[]] }),
  lockstep_input_waits_total: counter(
    "Records taken although another input was not known to be caught up, because the wait for it had lasted too long.",
    [],
    { zeros: [[]] },
  ),
  lockstep_shard_lost_total: counter("Shards dropped because another owner has them.", [], { zeros: [[]] }),
  lockstep_fenced_total: counter("Owners that Kafka fenced while Postgres still had them.", [], { zeros: [[]] }),
  lockstep_redo_published_total: counter("Records published from redo, after a crash or an unknown outcome.", [], {
    zeros: [[]],
  }),
  lockstep_reacquires_total: counter("Shards acquired again by the same owner, because an outcome was unknown.", [
    "code",
  ]),
  lockstep_retries_total: counter("Attempts that found a dependency unavailable and will be repeated.", ["code"]),
  lockstep_asserts_failed_total: counter("Run-time asserts that failed: a bug, or a server that lost data.", ["name"]),

  // ----------------------------------------------------------------------------------------------------------- recovery
  lockstep_acquire_duration_seconds: histogram(
    "From the start of an acquire to its end: fences, reconcile, redo.",
    RECOVERY_SECONDS,
  ),
  lockstep_actor_recovery_duration_seconds: histogram(
    "Restore of all actors of a shard: snapshot and replay.",
    RECOVERY_SECONDS,
  ),
  lockstep_replayed_records_total: counter("Records stepped again by replays.", [], { zeros: [[]] }),
  lockstep_restore_progress_ratio: gauge("Share of the journal that a replay under way has done.", ["shard"]),
  lockstep_takeovers_total: counter("Shards taken over from an owner that had not released them.", [], {
    zeros: [[]],
  }),
  lockstep_snapshots_total: counter("Snapshots.", ["outcome"], { zeros: [["published"], ["failed"]] }),
  lockstep_snapshot_duration_seconds: histogram("From capture to publication of a snapshot.", RECOVERY_SECONDS),
  lockstep_snapshot_bytes: gauge("Size of the latest snapshot that this owner published.", ["shard"]),

  // ---------------------------------------------------------------------------------------------------------- rebalance
  lockstep_rebalances_total: counter(
    "Rebalances that a worker of this process came out of: with other shards than before (moved), or the same (kept).",
    ["kind"],
    { zeros: [["moved"], ["kept"]] },
  ),
  lockstep_rebalance_failures_total: counter("Memberships of the group that ended by an error.", [], { zeros: [[]] }),
  lockstep_rebalance_duration_seconds: histogram(
    "From the first word of a rebalance, or from the join, to the new assignment.",
    RECOVERY_SECONDS,
  ),
  lockstep_rebalance_shards_total: counter("Shards in assignments, compared with the assignment before.", ["change"], {
    zeros: [["gained"], ["lost"], ["kept"]],
  }),
  lockstep_rebalance_last_timestamp_seconds: gauge("When the worker was last assigned shards.", ["worker"]),
  lockstep_group_answer_timestamp_seconds: gauge("When the group's coordinator last answered the worker.", ["worker"]),
  lockstep_assigned_shards: gauge("Shards assigned to the worker.", ["worker"]),

  // ---------------------------------------------------------------------------------------- lag, as kafka_exporter names it
  kafka_consumergroup_lag: gauge("Records of the input that the group has not committed; of shards of this process.", [
    "consumergroup",
    "topic",
    "partition",
  ]),
  kafka_consumergroup_lag_sum: gauge("The same, summed over the shards of this process.", ["consumergroup", "topic"]),
  kafka_consumergroup_current_offset: gauge("The group's committed offset; of shards of this process.", [
    "consumergroup",
    "topic",
    "partition",
  ]),
  kafka_topic_partition_current_offset: gauge("End of the partition's committed data; of shards of this process.", [
    "topic",
    "partition",
  ]),
  kafka_topic_partition_oldest_offset: gauge("First offset that is still there; of shards of this process.", [
    "topic",
    "partition",
  ]),

  // --------------------------------------------------------------------------------------------------------------- data
  lockstep_late_events_total: counter("Records older than the app allows.", ["topic"]),
  lockstep_dlq_records_total: counter("Records and timers set aside, by input and error code.", ["topic", "reason"]),
  lockstep_source_duplicates_total: counter("Records dropped because their source had published them before.", [
    "topic",
  ]),
  lockstep_app_counter_total: counter("The app's own counters (`count` routes).", ["counter"]),
  lockstep_verdicts_total: counter("Records and timers set aside for a reason outside the machine.", ["code"]),
  lockstep_steps_killed_total: counter("Workers ended because a step did not end, or ate memory.", [], {
    zeros: [[]],
  }),
  lockstep_end_to_end_latency_seconds: histogram(
    "From the Kafka timestamp of an input record to the Kafka commit that covers it.",
    LATENCY_SECONDS,
  ),

  // -------------------------------------------------------------------------------------------------------------- relay
  lockstep_relay_state: gauge("1 for the state that the relay is in.", ["state"]),
  lockstep_relay_records_total: counter("Outbox rows published."),
  lockstep_relay_dead_letters_total: counter("Outbox rows that could not be published, set aside."),
  lockstep_relay_transactions_total: counter("Kafka transactions of the relay.", ["outcome"]),
  lockstep_relay_restarts_total: counter("Starts of the relay after a failure."),
  lockstep_relay_thread_deaths_total: counter("Threads of the relay that died."),
  lockstep_relay_latency_seconds: histogram(
    "From the commit of a database transaction with outbox rows to its commit in Kafka.",
    LATENCY_SECONDS,
  ),
  lockstep_relay_last_commit_timestamp_seconds: gauge("When the relay last committed in Kafka."),
  lockstep_relay_position_lag_bytes: gauge("WAL between the server's end and the position committed in Kafka."),
  lockstep_replication_slot_lag_bytes: gauge("WAL that the server keeps for the slot, from its restart_lsn on."),
  lockstep_replication_slot_safe_bytes: gauge("WAL that may still be written before the slot is lost."),
  lockstep_replication_slot_wal_status: gauge("1 for the slot's wal_status.", ["status"]),
  lockstep_outbox_pending: gauge("Outbox rows that the relay has read and not published yet."),
  lockstep_outbox_oldest_age_seconds: gauge("How long the oldest unpublished outbox row that is known has waited."),
  lockstep_outbox_pruned_total: counter("Published outbox rows removed after the time that they are kept."),

  // ------------------------------------------------------------------------------------------------------------ process
  lockstep_worker_up: gauge("1 while the worker runs and reports, else 0.", ["worker"]),
  lockstep_worker_restarts_total: counter("Workers started in place of one that died.", ["worker"]),
  lockstep_worker_event_loop_lag_seconds: summary("Delay of the worker's event loop.", ["worker"]),
  lockstep_worker_event_loop_utilization_ratio: gauge(
    "Share of the last second that the worker's event loop was busy.",
    ["worker"],
  ),
  lockstep_worker_heap_used_bytes: gauge("Used heap of the worker.", ["worker"]),
  lockstep_build_info: gauge("1; the labels say which build this is.", ["version", "code", "node"]),
} as const satisfies Record<string, MetricDefinition>;

export type MetricName = keyof typeof METRICS;

export type MetricLabels<N extends MetricName> = (typeof METRICS)[N]["labels"][number];

/** Names of the metrics of one type. */
export type NameOf<T extends MetricType> = {
  [N in MetricName]: (typeof METRICS)[N]["type"] extends T ? N : never;
}[MetricName];

/** A base unit, as the name says it; null for what is counted. */
export function unitOf(name: string): "seconds" | "bytes" | "ratio" | null {
  return (/_(seconds|bytes|ratio)$/.exec(name)?.[1] as "seconds" | "bytes" | "ratio" | undefined) ?? null;
}

function counter<const L extends readonly string[] = []>(
  help: string,
  labels?: L,
  more: Pick<MetricDefinition, "zeros"> = {},
) {
  return { type: "counter", help, labels: labels ?? ([] as unknown as L), ...more } as const;
}

function gauge<const L extends readonly string[] = []>(help: string, labels?: L) {
  return { type: "gauge", help, labels: labels ?? ([] as unknown as L) } as const;
}

function histogram<const L extends readonly string[] = []>(help: string, buckets: readonly number[], labels?: L) {
  return { type: "histogram", help, labels: labels ?? ([] as unknown as L), buckets } as const;
}

function summary<const L extends readonly string[] = []>(help: string, labels?: L) {
  return { type: "summary", help, labels: labels ?? ([] as unknown as L) } as const;
}
