/** Rebalances: who had each shard when, how long it stood still, and what had to be repaired; all on one time axis. */
import { board } from "./board.ts";
import { inRange, mean, overTime, perStep, quantile, series, stat, stateTimeline, UNIT } from "./panels.ts";

const STATE_COLORS = {
  running: "green",
  acquiring: "orange",
  restoring: "yellow",
  draining: "blue",
  lost: "purple",
  halted: "red",
  idle: "gray",
  released: "gray",
};

export const rebalances = () =>
  board({
    uid: "lockstep-rebalances",
    title: "Rebalances",
    about: "Who had each shard when, how long it stood still, and what had to be repaired.",
    rows: [
      {
        title: "In the time shown",
        panels: [
          stat({
            title: "Rebalances, moved",
            about:
              "Times a worker came out of a rebalance with other shards than before. One rebalance counts once for each such worker.",
            width: 4,
            unit: UNIT.count,
            queries: [{ expr: inRange("lockstep_rebalances_total", 'kind="moved"'), legend: "moved" }],
          }),
          stat({
            title: "Rebalances, kept",
            about: "Times a worker came out of a rebalance with the shards it had. They went on without a pause.",
            width: 4,
            unit: UNIT.count,
            queries: [{ expr: inRange("lockstep_rebalances_total", 'kind="kept"'), legend: "kept" }],
          }),
          stat({
            title: "Since the last one",
            about: "Since a worker was last assigned shards.",
            width: 4,
            unit: UNIT.seconds,
            queries: [{ expr: `time() - max(${series("lockstep_rebalance_last_timestamp_seconds")})`, legend: "ago" }],
          }),
          stat({
            title: "Takeovers",
            about: "Shards whose last owner had not released them: it was killed, cut off, or too slow.",
            width: 4,
            unit: UNIT.count,
            queries: [{ expr: inRange("lockstep_takeovers_total"), legend: "takeovers" }],
          }),
          stat({
            title: "Fenced",
            about: "Owners that Kafka fenced while Postgres still had them as the owner. They acquire the shard again.",
            width: 4,
            unit: UNIT.count,
            queries: [{ expr: inRange("lockstep_fenced_total"), legend: "fenced" }],
          }),
          stat({
            title: "Redo published",
            about: "Records that Postgres had committed and Kafka had not, published by the next owner.",
            width: 4,
            unit: UNIT.count,
            queries: [{ expr: inRange("lockstep_redo_published_total"), legend: "records" }],
          }),
        ],
      },
      {
        title: "Shards",
        panels: [
          stateTimeline({
            title: "Owner of each shard",
            about: "Host, process and worker that had the shard. A gap is a time without an owner.",
            width: 24,
            height: 9,
            expr: `max by (shard, owner) (${series("lockstep_shard_owner")})`,
            line: "shard",
            text: "owner",
          }),
          stateTimeline({
            title: "State of each shard",
            about: "Everything but running is a time in which the shard takes no records.",
            width: 24,
            height: 9,
            expr: `max by (shard, state) (${series("lockstep_shard_state")} == 1)`,
            line: "shard",
            text: "state",
            colors: STATE_COLORS,
          }),
          overTime({
            title: "Shards of each worker",
            about: "Even, when the keys are.",
            width: 24,
            unit: UNIT.count,
            stacked: true,
            queries: [{ expr: series("lockstep_assigned_shards"), legend: "{{instance}} worker {{worker}}" }],
          }),
        ],
      },
      {
        title: "Rebalances",
        panels: [
          overTime({
            title: "Pause of a rebalance",
            about:
              "From the first word of a rebalance, or from the join, to the new assignment: the mean of those in one step. " +
              "Shards that are kept run on meanwhile.",
            width: 12,
            unit: UNIT.seconds,
            bars: true,
            queries: [
              {
                expr: `${mean("lockstep_rebalance_duration_seconds", { by: ["instance"] })} > 0`,
                legend: "{{instance}}",
              },
            ],
          }),
          overTime({
            title: "Pause of a shard that moves",
            about:
              "What comes on top for the new owner: acquire (fences, reconcile, redo), then recovery (snapshot and replay). Means of one step.",
            width: 12,
            unit: UNIT.seconds,
            bars: true,
            stacked: true,
            queries: [
              { expr: `${mean("lockstep_acquire_duration_seconds")} > 0`, legend: "acquire" },
              { expr: `${mean("lockstep_actor_recovery_duration_seconds")} > 0`, legend: "recovery" },
            ],
          }),
          overTime({
            title: "Shards moved and kept",
            about: "Shards in new assignments, compared with the assignment before, within one step.",
            width: 12,
            unit: UNIT.count,
            bars: true,
            stacked: true,
            queries: [{ expr: perStep("lockstep_rebalance_shards_total", ["change"]), legend: "{{change}}" }],
          }),
          overTime({
            title: "Rebalances by kind",
            about:
              "Moved: the worker has other shards than before. Kept: the same. Failed: its membership ended by an error.",
            width: 12,
            unit: UNIT.count,
            bars: true,
            stacked: true,
            queries: [
              { expr: perStep("lockstep_rebalances_total", ["kind"]), legend: "{{kind}}" },
              { expr: perStep("lockstep_rebalance_failures_total"), legend: "failed" },
            ],
          }),
          overTime({
            title: "Since the coordinator answered",
            about: "A worker that hears nothing for LOCKSTEP_SESSION_TIMEOUT_MS has been put out of the group.",
            width: 24,
            height: 6,
            unit: UNIT.seconds,
            queries: [
              {
                expr: `time() - ${series("lockstep_group_answer_timestamp_seconds")}`,
                legend: "{{instance}} worker {{worker}}",
              },
            ],
          }),
        ],
      },
      {
        title: "Recovery",
        panels: [
          overTime({
            title: "Replayed records",
            about: "Records stepped again to bring actors back, within one step. Snapshots keep it short.",
            width: 12,
            unit: UNIT.count,
            bars: true,
            queries: [{ expr: perStep("lockstep_replayed_records_total", ["instance"]), legend: "{{instance}}" }],
          }),
          overTime({
            title: "Progress of replays",
            about: "Share of the journal done, of shards that are being restored. Empty when none is.",
            width: 12,
            unit: UNIT.ratio,
            max: 1,
            queries: [
              { expr: `max by (shard) (${series("lockstep_restore_progress_ratio")})`, legend: "shard {{shard}}" },
            ],
          }),
          overTime({
            title: "Takeovers, fenced, lost",
            about:
              "Lost: another owner has the shard. All three belong to deaths, pauses and partitions, not to orderly rebalances.",
            width: 12,
            unit: UNIT.count,
            bars: true,
            stacked: true,
            queries: [
              { expr: perStep("lockstep_takeovers_total"), legend: "takeovers" },
              { expr: perStep("lockstep_fenced_total"), legend: "fenced" },
              { expr: perStep("lockstep_shard_lost_total"), legend: "lost" },
            ],
          }),
          overTime({
            title: "Redo published",
            about: "Records published from redo within one step.",
            width: 12,
            unit: UNIT.count,
            bars: true,
            queries: [{ expr: perStep("lockstep_redo_published_total", ["instance"]), legend: "{{instance}}" }],
          }),
          overTime({
            title: "Acquire and recovery, p99",
            about: "Of the acquires and recoveries within one step.",
            width: 12,
            unit: UNIT.seconds,
            queries: [
              { expr: quantile(0.99, "lockstep_acquire_duration_seconds"), legend: "acquire" },
              { expr: quantile(0.99, "lockstep_actor_recovery_duration_seconds"), legend: "recovery" },
            ],
          }),
          overTime({
            title: "Acquired again",
            about:
              "Shards that their owner acquired once more because the outcome of a commit was unknown, by error code.",
            width: 12,
            unit: UNIT.count,
            bars: true,
            queries: [{ expr: perStep("lockstep_reacquires_total", ["code"]), legend: "{{code}}" }],
          }),
        ],
      },
    ],
  });
