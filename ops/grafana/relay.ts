/** The relay: whether it runs, how far it is behind the table, and how much WAL its slot keeps back. */
import { board } from "./board.ts";
import {
  heatmap,
  inRange,
  overTime,
  perSecond,
  quantile,
  RED_ABOVE_ZERO,
  series,
  stat,
  stateTimeline,
  UNIT,
} from "./panels.ts";

export const relay = () =>
  board({
    uid: "lockstep-relay",
    title: "Relay",
    about: "The relay publishes the outbox table. Rows wait for it in the table, and WAL in its replication slot.",
    rows: [
      {
        title: "Now",
        panels: [
          stat({
            title: "Rows published",
            about: "A second.",
            width: 4,
            unit: UNIT.perSecond,
            queries: [{ expr: perSecond("lockstep_relay_records_total"), legend: "rows" }],
          }),
          stat({
            title: "Latency, p99",
            about: "From the commit of a row in Postgres to its commit in Kafka.",
            width: 4,
            unit: UNIT.seconds,
            queries: [{ expr: quantile(0.99, "lockstep_relay_latency_seconds"), legend: "p99" }],
          }),
          stat({
            title: "Rows that wait",
            about: "Outbox rows that the relay has read from the log and not published yet.",
            width: 4,
            unit: UNIT.count,
            queries: [{ expr: `max(${series("lockstep_outbox_pending")})`, legend: "rows" }],
          }),
          stat({
            title: "WAL kept back",
            about:
              "What Postgres keeps on disk for the slot. It grows while no relay reads, and while a transaction stays open.",
            width: 4,
            unit: UNIT.bytes,
            steps: [
              { from: 256 * 2 ** 20, color: "orange" },
              { from: 2 ** 30, color: "red" },
            ],
            queries: [{ expr: `max(${series("lockstep_replication_slot_lag_bytes")})`, legend: "slot" }],
          }),
          stat({
            title: "Since the last commit",
            about: "Since the relay last committed in Kafka. It may be long when no rows are written.",
            width: 4,
            unit: UNIT.seconds,
            queries: [
              { expr: `time() - max(${series("lockstep_relay_last_commit_timestamp_seconds")} > 0)`, legend: "ago" },
            ],
          }),
          stat({
            title: "Restarts",
            about: "Starts of the relay after a failure, in the time shown; and of those, for its thread had died.",
            width: 4,
            unit: UNIT.count,
            steps: RED_ABOVE_ZERO,
            queries: [
              { expr: inRange("lockstep_relay_restarts_total"), legend: "restarts" },
              { expr: inRange("lockstep_relay_thread_deaths_total"), legend: "threads that died" },
            ],
          }),
        ],
      },
      {
        title: "Relay",
        panels: [
          stateTimeline({
            title: "State in each process",
            about: "One process runs the relay, the others stand by. A halted one waits for a person.",
            width: 12,
            height: 6,
            expr: `max by (instance, state) (${series("lockstep_relay_state")} == 1)`,
            line: "instance",
            text: "state",
            colors: { running: "green", standby: "blue", starting: "yellow", halted: "red", stopped: "gray" },
          }),
          stateTimeline({
            title: "Slot",
            about:
              "wal_status of the replication slot. unreserved: WAL that it needs may go at the next checkpoint. lost: it has gone.",
            width: 12,
            height: 6,
            expr: `max by (slot, status) (label_replace(${series("lockstep_replication_slot_wal_status")} == 1, "slot", "slot", "app", ".*"))`,
            line: "slot",
            text: "status",
            colors: { reserved: "green", extended: "yellow", unreserved: "orange", lost: "red" },
          }),
          overTime({
            title: "Rows published",
            about: "A second, by the process that has the relay.",
            width: 12,
            unit: UNIT.perSecond,
            queries: [{ expr: perSecond("lockstep_relay_records_total", ["instance"]), legend: "{{instance}}" }],
          }),
          overTime({
            title: "Kafka transactions",
            about: "By outcome. A large database transaction may take several.",
            width: 12,
            unit: UNIT.perSecond,
            queries: [{ expr: perSecond("lockstep_relay_transactions_total", ["outcome"]), legend: "{{outcome}}" }],
          }),
          overTime({
            title: "Latency",
            about: "From the commit of a row in Postgres to its commit in Kafka.",
            width: 12,
            unit: UNIT.seconds,
            queries: [0.5, 0.9, 0.99].map((q) => ({
              expr: quantile(q, "lockstep_relay_latency_seconds"),
              legend: `p${q * 100}`,
            })),
          }),
          heatmap({
            title: "Latency, distribution",
            about: "How many rows took how long.",
            width: 12,
            unit: UNIT.seconds,
            histogram: "lockstep_relay_latency_seconds",
          }),
        ],
      },
      {
        title: "Behind",
        panels: [
          overTime({
            title: "WAL behind",
            about:
              "slot: what Postgres keeps on disk for it. position: what a restart would read again. Both count all WAL of the server, " +
              "not only that of the table.",
            width: 12,
            unit: UNIT.bytes,
            queries: [
              { expr: `max(${series("lockstep_replication_slot_lag_bytes")})`, legend: "slot" },
              { expr: `max(${series("lockstep_relay_position_lag_bytes")})`, legend: "position" },
            ],
          }),
          overTime({
            title: "Rows that wait",
            about: "Outbox rows that the relay has read from the log and not published yet.",
            width: 6,
            unit: UNIT.count,
            queries: [{ expr: `max(${series("lockstep_outbox_pending")})`, legend: "rows" }],
          }),
          overTime({
            title: "Age of the oldest row",
            about: "How long the oldest row has waited; while nothing can be read, how long that has been so.",
            width: 6,
            unit: UNIT.seconds,
            queries: [{ expr: `max(${series("lockstep_outbox_oldest_age_seconds")})`, legend: "age" }],
          }),
          stat({
            title: "Left until the slot is lost",
            about:
              "WAL that may still be written. Without max_slot_wal_keep_size there is no limit, and the disk may fill.",
            width: 8,
            unit: UNIT.bytes,
            noValue: "no limit",
            queries: [{ expr: `min(${series("lockstep_replication_slot_safe_bytes")})`, legend: "left" }],
          }),
          stat({
            title: "Rows set aside",
            about:
              "Rows that could not be published, in the time shown. They are among the dead letters of the outbox topic.",
            width: 8,
            unit: UNIT.count,
            steps: RED_ABOVE_ZERO,
            queries: [{ expr: inRange("lockstep_relay_dead_letters_total"), legend: "rows" }],
          }),
          stat({
            title: "Rows pruned",
            about: "Published rows that were removed after LOCKSTEP_OUTBOX_KEEP_MS, in the time shown.",
            width: 8,
            unit: UNIT.count,
            queries: [{ expr: inRange("lockstep_outbox_pruned_total"), legend: "rows" }],
          }),
        ],
      },
    ],
  });
