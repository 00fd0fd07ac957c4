/** Commits: how many, how long, which phase takes the time, and how far Kafka and the snapshots are behind Postgres. */
import { board } from "./board.ts";
import { heatmap, mean, overTime, perSecond, quantile, RED_ABOVE_ZERO, series, stat, UNIT } from "./panels.ts";

const COMMITTED = { where: 'outcome="commit"' };
const ABORT_RATIO = `${perSecond("lockstep_tx_total", [], 'outcome="abort"')} / ${perSecond("lockstep_tx_total")}`;

/** A shard that changes hands may be shown by two processes for a moment. */
const ofShard = (metric: "lockstep_shard_seq" | "lockstep_shard_confirmed_seq" | "lockstep_shard_snapshot_seq") =>
  `max by (shard) (${series(metric)})`;

export const commits = () =>
  board({
    uid: "lockstep-commits",
    title: "Commits",
    about: "How many commits there are, how long they take and in which phase, and what was given up.",
    rows: [
      {
        title: "Now",
        panels: [
          stat({
            title: "Commits",
            about: "Committed in Postgres and in Kafka.",
            width: 6,
            unit: UNIT.perSecond,
            queries: [{ expr: perSecond("lockstep_tx_total", [], 'outcome="commit"'), legend: "commits" }],
          }),
          stat({
            title: "Aborted",
            about: "Share of the commits that were given up. What they had taken is taken again.",
            width: 6,
            unit: UNIT.ratio,
            steps: [
              { from: 0.01, color: "orange" },
              { from: 0.05, color: "red" },
            ],
            queries: [{ expr: ABORT_RATIO, legend: "aborted" }],
          }),
          stat({
            title: "Duration, p99",
            about: "From the start of the fold to the end of the commit in Kafka.",
            width: 6,
            unit: UNIT.seconds,
            queries: [{ expr: quantile(0.99, "lockstep_tx_duration_seconds", COMMITTED), legend: "p99" }],
          }),
          stat({
            title: "Not confirmed",
            about:
              "Commits that Postgres has and Kafka is not known to have: the largest number of one shard. 1 is a commit under way.",
            width: 6,
            unit: UNIT.count,
            queries: [
              {
                expr: `max(${ofShard("lockstep_shard_seq")} - ${ofShard("lockstep_shard_confirmed_seq")})`,
                legend: "",
              },
            ],
          }),
        ],
      },
      {
        title: "Commits and aborts",
        panels: [
          overTime({
            title: "Commits and aborts",
            about: "Backlog makes batches bigger, not commits more frequent.",
            width: 12,
            unit: UNIT.perSecond,
            queries: [{ expr: perSecond("lockstep_tx_total", ["outcome"]), legend: "{{outcome}}" }],
          }),
          overTime({
            title: "Abort ratio",
            about: "Share of the commits that were given up.",
            width: 12,
            unit: UNIT.ratio,
            queries: [{ expr: ABORT_RATIO, legend: "aborted" }],
          }),
          overTime({
            title: "Duration of a commit",
            about: "From the start of the fold to the end of the commit in Kafka.",
            width: 12,
            unit: UNIT.seconds,
            queries: [0.5, 0.9, 0.99].map((q) => ({
              expr: quantile(q, "lockstep_tx_duration_seconds", COMMITTED),
              legend: `p${q * 100}`,
            })),
          }),
          heatmap({
            title: "Duration of a commit, distribution",
            about: "How many commits took how long.",
            width: 12,
            unit: UNIT.seconds,
            histogram: "lockstep_tx_duration_seconds",
            ...COMMITTED,
          }),
        ],
      },
      {
        title: "Phases",
        panels: [
          overTime({
            title: "Mean duration by phase",
            about:
              "fold: stepping the actors. postgres: the transaction that is the commit point. kafka: publishing it.",
            width: 12,
            unit: UNIT.seconds,
            stacked: true,
            queries: [{ expr: mean("lockstep_commit_phase_duration_seconds", { by: ["phase"] }), legend: "{{phase}}" }],
          }),
          overTime({
            title: "p99 by phase",
            about: "Which phase makes a slow commit slow.",
            width: 12,
            unit: UNIT.seconds,
            queries: [
              {
                expr: quantile(0.99, "lockstep_commit_phase_duration_seconds", { by: ["phase"] }),
                legend: "{{phase}}",
              },
            ],
          }),
        ],
      },
      {
        title: "What is in them",
        panels: [
          overTime({
            title: "Records of a commit",
            about: "How large batches are: small when there is no backlog.",
            width: 8,
            unit: UNIT.count,
            queries: [
              { expr: mean("lockstep_commit_records"), legend: "mean" },
              { expr: quantile(0.99, "lockstep_commit_records"), legend: "p99" },
            ],
          }),
          overTime({
            title: "Rows and timers",
            about: "Rows of the app inserted, and timers fired.",
            width: 8,
            unit: UNIT.perSecond,
            queries: [
              { expr: perSecond("lockstep_rows_written_total"), legend: "rows" },
              { expr: perSecond("lockstep_timers_fired_total"), legend: "timers" },
            ],
          }),
          overTime({
            title: "Waits for an input that lasted too long",
            about: "Records taken although another input was not known to be caught up. Its records may be late then.",
            width: 8,
            unit: UNIT.perSecond,
            queries: [{ expr: perSecond("lockstep_input_waits_total"), legend: "given up" }],
          }),
        ],
      },
      {
        title: "Snapshots",
        panels: [
          overTime({
            title: "Commits since the snapshot",
            about: "What a new owner would replay, by shard. It falls with each snapshot.",
            width: 12,
            unit: UNIT.count,
            queries: [
              {
                expr: `${ofShard("lockstep_shard_seq")} - ${ofShard("lockstep_shard_snapshot_seq")}`,
                legend: "shard {{shard}}",
              },
            ],
          }),
          overTime({
            title: "Size of the latest snapshot",
            about: "By shard. It grows with the number of actors and what they keep.",
            width: 12,
            unit: UNIT.bytes,
            queries: [{ expr: `max by (shard) (${series("lockstep_snapshot_bytes")})`, legend: "shard {{shard}}" }],
          }),
          overTime({
            title: "Snapshots",
            about: "Published, and failed. One that failed is tried again after the next commits.",
            width: 12,
            unit: UNIT.perSecond,
            queries: [{ expr: perSecond("lockstep_snapshots_total", ["outcome"]), legend: "{{outcome}}" }],
          }),
          overTime({
            title: "Duration of a snapshot, p99",
            about: "From capture to publication. The shard goes on meanwhile.",
            width: 12,
            unit: UNIT.seconds,
            queries: [{ expr: quantile(0.99, "lockstep_snapshot_duration_seconds"), legend: "p99" }],
          }),
        ],
      },
      {
        title: "What went wrong",
        panels: [
          stat({
            title: "Asserts failed",
            about: "A bug, or a server that lost data.",
            width: 8,
            unit: UNIT.count,
            steps: RED_ABOVE_ZERO,
            noValue: "0",
            queries: [{ expr: `sum by (name) (${series("lockstep_asserts_failed_total")})`, legend: "{{name}}" }],
          }),
          overTime({
            title: "Retries",
            about: "Attempts that found Kafka or Postgres unavailable and were repeated, by error code.",
            width: 16,
            height: 4,
            unit: UNIT.perSecond,
            queries: [{ expr: perSecond("lockstep_retries_total", ["code"]), legend: "{{code}}" }],
          }),
        ],
      },
    ],
  });
