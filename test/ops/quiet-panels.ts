/**
 * Queries of the boards that find nothing, or only zeros, while all is well: each with its reason. Every other query must return
 * a value other than zero in the run of live-panels.test.ts, which has load with bad and late records in it, rebalances and a kill.
 *
 *   empty  no series: the thing has never happened
 *   zero   series that stay at 0
 *
 * A query listed here may find something all the same: a machine that is slow enough makes a retry.
 */
import type { BOARDS } from "../../ops/grafana/index.ts";

export interface QuietPanel {
  readonly board: keyof typeof BOARDS;
  readonly panel: string;
  readonly legend: string;
  readonly quiet: "empty" | "zero";
  readonly why: string;
}

export const PANELS_QUIET: readonly QuietPanel[] = [
  quiet("overview", "Shards halted", "halted", "zero", "No shard halts."),
  quiet(
    "overview",
    "Late, and known already",
    "known already {{topic}}",
    "empty",
    "Only records of other apps of ours are known by their source.",
  ),
  quiet(
    "overview",
    "Verdicts",
    "{{code}}",
    "empty",
    "No record meets a limit of time or memory, and Postgres refuses no row.",
  ),
  quiet("overview", "Steps that did not end", "killed", "zero", "All steps end."),
  quiet("overview", "Asserts failed", "{{name}}", "empty", "None fails."),
  quiet(
    "overview",
    "Workers",
    "{{instance}} restarted",
    "zero",
    "No worker dies alone: the kill ends the whole process.",
  ),
  quiet("overview", "Retries", "{{code}}", "empty", "Kafka and Postgres are there all the time."),
  quiet("rebalances", "Rebalances, kept", "kept", "zero", "Only when the members of one process join one by one."),
  quiet("rebalances", "Fenced", "fenced", "zero", "Who is killed does not live to be fenced."),
  quiet("rebalances", "Takeovers, fenced, lost", "fenced", "zero", "As above."),
  quiet(
    "rebalances",
    "Takeovers, fenced, lost",
    "lost",
    "zero",
    "Who is killed does not live to find its shards lost; only a hand-over that takes too long makes one.",
  ),
  quiet("rebalances", "Rebalances by kind", "failed", "zero", "No membership ends by an error."),
  quiet("rebalances", "Acquired again", "{{code}}", "empty", "No outcome is unknown to an owner that lives."),
  quiet(
    "rebalances",
    "Progress of replays",
    "shard {{shard}}",
    "empty",
    "A replay of seconds may lie between two scrapes.",
  ),
  quiet("commits", "Aborted", "aborted", "zero", "Nothing is given up by an owner that lives."),
  quiet("commits", "Abort ratio", "aborted", "zero", "As above."),
  quiet("commits", "Not confirmed", "", "zero", "At rest Kafka has every commit."),
  quiet(
    "commits",
    "Waits for an input that lasted too long",
    "given up",
    "zero",
    "The inputs are on time with each other.",
  ),
  quiet("commits", "Asserts failed", "{{name}}", "empty", "None fails."),
  quiet("commits", "Retries", "{{code}}", "empty", "Kafka and Postgres are there all the time."),
  quiet("actors", "Under (other)", "(other)", "zero", "The load has fewer keys than there are series."),
  quiet(
    "actors",
    "Threw",
    "{{actor_type}} {{key}}",
    "empty",
    "No step throws: bad records are refused before they reach an actor.",
  ),
  quiet("actors", "Paused inputs", "shard {{shard}}", "zero", "The shards keep up, so nothing is held back."),
  quiet("overview", "Oldest outbox row", "age", "zero", "A row waits for less than the time between two scrapes."),
  quiet("relay", "Rows that wait", "rows", "zero", "As above."),
  quiet("relay", "Age of the oldest row", "age", "zero", "As above."),
  quiet("relay", "Restarts", "restarts", "zero", "Kafka and Postgres are there all the time."),
  quiet("relay", "Restarts", "threads that died", "zero", "None dies."),
  quiet(
    "relay",
    "Left until the slot is lost",
    "left",
    "empty",
    "The servers of the tests have no max_slot_wal_keep_size.",
  ),
  quiet("relay", "Rows set aside", "rows", "zero", "Every row of the app can be published."),
  quiet("relay", "Rows pruned", "rows", "zero", "Rows are kept: LOCKSTEP_OUTBOX_KEEP_MS is 0."),
  quiet("overview", "annotation Fenced or lost", "", "empty", "As the panel of that name."),
];

/** Recording rules without a series in that run. */
export const RECORDINGS_QUIET: Readonly<Record<string, string>> = {};

function quiet(
  board: QuietPanel["board"],
  panel: string,
  legend: string,
  kind: QuietPanel["quiet"],
  why: string,
): QuietPanel {
  return { board, panel, legend, quiet: kind, why };
}
