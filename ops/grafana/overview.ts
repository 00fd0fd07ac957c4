/** The first board to open: does it run, does it keep up, and how are the processes. */
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
  table,
  UNIT,
} from "./panels.ts";

/** Each partition is measured by the process that owns it; while it changes hands there may be two. */
const LAG = `max by (topic, partition) (${series("kafka_consumergroup_lag")})`;

export const overview = () =>
  board({
    uid: "lockstep-overview",
    title: "Overview",
    about: "Whether an app runs and keeps up, and how its processes are.",
    rows: [
      {
        title: "Now",
        panels: [
          stat({
            title: "Shards running",
            about: "As many as an input has partitions, when all is well.",
            width: 4,
            unit: UNIT.count,
            queries: [
              {
                expr: `count(max by (shard) (${series("lockstep_shard_state", 'state="running"')}) == 1) or vector(0)`,
                legend: "running",
              },
            ],
          }),
          stat({
            title: "Shards halted",
            about: "A halted shard waits for a person. Its log line, and the runbook, say what for.",
            width: 4,
            unit: UNIT.count,
            steps: RED_ABOVE_ZERO,
            queries: [
              {
                expr: `count(max by (shard) (${series("lockstep_shard_halted")}) == 1) or vector(0)`,
                legend: "halted",
              },
            ],
          }),
          stat({
            title: "Processes",
            about: "Processes of the group that Prometheus can scrape.",
            width: 4,
            unit: UNIT.count,
            queries: [{ expr: `count(${series("lockstep_build_info")})`, legend: "processes" }],
          }),
          stat({
            title: "Lag",
            about: "Input records that no commit covers yet, over all inputs.",
            width: 4,
            unit: UNIT.count,
            queries: [{ expr: `sum(${LAG})`, legend: "records" }],
          }),
          stat({
            title: "End to end, p99",
            about: "From the Kafka timestamp of an input record to the Kafka commit that covers it.",
            width: 4,
            unit: UNIT.seconds,
            queries: [{ expr: quantile(0.99, "lockstep_end_to_end_latency_seconds"), legend: "p99" }],
          }),
          stat({
            title: "Oldest outbox row",
            about: "Age of the oldest row that the relay has not published yet.",
            width: 4,
            unit: UNIT.seconds,
            queries: [{ expr: `max(${series("lockstep_outbox_oldest_age_seconds")})`, legend: "age" }],
          }),
        ],
      },
      {
        title: "Flow",
        panels: [
          overTime({
            title: "Records taken",
            about: "By input topic. Every record that was taken counts, whatever became of it.",
            width: 12,
            unit: UNIT.perSecond,
            stacked: true,
            queries: [{ expr: perSecond("lockstep_records_taken_total", ["topic"]), legend: "{{topic}}" }],
          }),
          overTime({
            title: "Records published",
            about: "By output topic, late records and dead letters included.",
            width: 12,
            unit: UNIT.perSecond,
            stacked: true,
            queries: [{ expr: perSecond("lockstep_records_published_total", ["topic"]), legend: "{{topic}}" }],
          }),
          overTime({
            title: "Lag by topic",
            about: "Flat and small: it keeps up. A straight rise: it does not, or it stands.",
            width: 12,
            unit: UNIT.count,
            stacked: true,
            queries: [{ expr: `sum by (topic) (${LAG})`, legend: "{{topic}}" }],
          }),
          overTime({
            title: "Lag by topic and partition",
            about: "One line far above the others is one slow shard, or one hot key.",
            width: 12,
            unit: UNIT.count,
            queries: [{ expr: LAG, legend: "{{topic}} {{partition}}" }],
          }),
          overTime({
            title: "End-to-end latency",
            about: "From the Kafka timestamp of an input record to the Kafka commit that covers it.",
            width: 12,
            unit: UNIT.seconds,
            queries: [0.5, 0.9, 0.99].map((q) => ({
              expr: quantile(q, "lockstep_end_to_end_latency_seconds"),
              legend: `p${q * 100}`,
            })),
          }),
          heatmap({
            title: "End-to-end latency, distribution",
            about: "How many records took how long.",
            width: 12,
            unit: UNIT.seconds,
            histogram: "lockstep_end_to_end_latency_seconds",
          }),
        ],
      },
      {
        title: "Set aside",
        panels: [
          overTime({
            title: "Quarantined",
            about:
              "Records and timers set aside, by input and reason. Each is a dead letter with its cause in the headers.",
            width: 8,
            unit: UNIT.perSecond,
            queries: [
              { expr: perSecond("lockstep_dlq_records_total", ["topic", "reason"]), legend: "{{topic}} {{reason}}" },
            ],
          }),
          overTime({
            title: "Late, and known already",
            about:
              "Late: older than the app allows. Known already: dropped because their source had published them before.",
            width: 8,
            unit: UNIT.perSecond,
            queries: [
              { expr: perSecond("lockstep_late_events_total", ["topic"]), legend: "late {{topic}}" },
              { expr: perSecond("lockstep_source_duplicates_total", ["topic"]), legend: "known already {{topic}}" },
            ],
          }),
          overTime({
            title: "The app's own counters",
            about: "What the app counts by its `count` routes, for example signals that it knew already.",
            width: 8,
            unit: UNIT.perSecond,
            queries: [{ expr: perSecond("lockstep_app_counter_total", ["counter"]), legend: "{{counter}}" }],
          }),
          stat({
            title: "Verdicts",
            about:
              "Records and timers set aside for a reason outside the machine: time, memory, a row that Postgres refused.",
            width: 8,
            unit: UNIT.count,
            noValue: "0",
            queries: [
              { expr: `sum by (code) (increase(${series("lockstep_verdicts_total")}[$__range]))`, legend: "{{code}}" },
            ],
          }),
          stat({
            title: "Steps that did not end",
            about: "Workers ended by the watchdog, because a step did not end or ate memory.",
            width: 8,
            unit: UNIT.count,
            steps: RED_ABOVE_ZERO,
            queries: [{ expr: inRange("lockstep_steps_killed_total"), legend: "killed" }],
          }),
          stat({
            title: "Asserts failed",
            about: "A bug, or a server that lost data. The runbook says what to keep.",
            width: 8,
            unit: UNIT.count,
            steps: RED_ABOVE_ZERO,
            noValue: "0",
            queries: [{ expr: `sum by (name) (${series("lockstep_asserts_failed_total")})`, legend: "{{name}}" }],
          }),
        ],
      },
      {
        title: "Processes",
        panels: [
          overTime({
            title: "Event-loop delay, p99",
            about: "Of workers and of main threads. A worker that is late with its heartbeat loses its shards.",
            width: 12,
            unit: UNIT.seconds,
            queries: [
              {
                expr: series("lockstep_worker_event_loop_lag_seconds", 'quantile="0.99"'),
                legend: "{{instance}} worker {{worker}}",
              },
              { expr: series("nodejs_eventloop_lag_p99_seconds"), legend: "{{instance}} main" },
            ],
          }),
          overTime({
            title: "Event-loop utilization",
            about: "Share of the time that a worker is busy. Near 1 it can do no more: add workers, or processes.",
            width: 12,
            unit: UNIT.ratio,
            max: 1,
            queries: [
              {
                expr: series("lockstep_worker_event_loop_utilization_ratio"),
                legend: "{{instance}} worker {{worker}}",
              },
            ],
          }),
          overTime({
            title: "Memory",
            about: "Resident memory of each process.",
            width: 8,
            unit: UNIT.bytes,
            queries: [{ expr: series("process_resident_memory_bytes"), legend: "{{instance}}" }],
          }),
          overTime({
            title: "Heap",
            about: "Used heap of workers and of main threads.",
            width: 8,
            unit: UNIT.bytes,
            queries: [
              { expr: series("lockstep_worker_heap_used_bytes"), legend: "{{instance}} worker {{worker}}" },
              { expr: series("nodejs_heap_size_used_bytes"), legend: "{{instance}} main" },
            ],
          }),
          overTime({
            title: "CPU",
            about: "Cores that each process uses.",
            width: 8,
            unit: UNIT.count,
            queries: [{ expr: perSecond("process_cpu_seconds_total", ["instance"]), legend: "{{instance}}" }],
          }),
          overTime({
            title: "Workers",
            about: "Workers that run and report, and those started in place of one that died.",
            width: 8,
            unit: UNIT.count,
            queries: [
              { expr: `sum by (instance) (${series("lockstep_worker_up")})`, legend: "{{instance}} up" },
              {
                expr: `sum by (instance) (increase(${series("lockstep_worker_restarts_total")}[$__rate_interval]))`,
                legend: "{{instance}} restarted",
              },
            ],
          }),
          overTime({
            title: "Retries",
            about: "Attempts that found Kafka or Postgres unavailable and were repeated, by error code.",
            width: 8,
            unit: UNIT.perSecond,
            queries: [{ expr: perSecond("lockstep_retries_total", ["code"]), legend: "{{code}}" }],
          }),
          table({
            title: "Builds",
            about:
              "Which build each process is. Two values of code at once are a deployment under way, or one that got stuck.",
            width: 8,
            unit: UNIT.count,
            hidden: ["Value"],
            queries: [{ expr: series("lockstep_build_info"), legend: "" }],
          }),
        ],
      },
    ],
  });
