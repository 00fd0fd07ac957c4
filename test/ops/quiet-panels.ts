/**
 * Queries of the boards that may find nothing, or only zeros, in the run of the test: each with its reason. Every other query must return
 * a value other than zero in the run of live-panels.test.ts, which has load with bad and late records, lost answers, rebalances, a kill and a stop in it.
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
  quiet(
    "rebalances",
    "Fenced",
    "fenced",
    "zero",
    "Who was stopped and replaced finds another token in Postgres before it asks Kafka.",
  ),
  quiet("rebalances", "Takeovers, fenced, lost", "fenced", "zero", "As above."),
  quiet("rebalances", "Rebalances by kind", "failed", "zero", "No membership ends by an error."),
  quiet(
    "rebalances",
    "Progress of replays",
    "shard {{shard}}",
    "empty",
    "A replay of seconds may lie between two scrapes.",
  ),
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
  quiet(
    "actors",
    "Threw",
    "{{actor_type}} {{key}}",
    "empty",
    "No step throws: bad records are refused before they reach an actor.",
  ),
  quiet("actors", "Paused inputs", "shard {{shard}}", "zero", "The shards keep up, so nothing is held back."),
  quiet("relay", "Restarts", "restarts", "zero", "Kafka and Postgres are there all the time."),
  quiet("relay", "Restarts", "threads that died", "zero", "None dies."),
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
