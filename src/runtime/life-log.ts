/**
 * The life of a shard as log lines: every change of its state is one method here, so that they can be read as a list.
 *
 * `event` is the stable name that tools count (the demo counts takeovers, redo published and fences by it).
 * info: a change of life. warn: handled, unusual. error: someone must act. debug: per commit.
 */
import type { LockstepError } from "../errors.ts";
import type { Log } from "../log.ts";

export interface LifeLog {
  acquiring(why: string): void;
  tookOver(details: { epoch: number; from: string }): void;
  fencing(transactionalId: string, attempt: number): void;
  started(positions: Record<string, string>): void;
  redoPublished(details: { from: number; to: number; records: number }): void;
  offsetsRewritten(seq: number): void;
  offsetsStale(details: { answered: number | null; inLog: number }): void;
  offsetsUnwitnessed(): void;
  replaying(details: { from: number; to: number }): void;
  replayProgress(details: { seq: number; to: number; records: number }): void;
  running(details: { epoch: number; seq: number; replayed: number; reused: boolean; ms: number }): void;
  committed(details: {
    seq: number;
    records: number;
    published: number;
    rows: number;
    foldMs: number;
    postgresMs: number;
    kafkaMs: number;
  }): void;
  rowRefused(details: { seq: number; items: number; sqlstate: unknown; message: string }): void;
  verdict(details: object): void;
  inDoubt(details: object): void;
  retrying(error: LockstepError, inMs: number): void;
  restoring(error: LockstepError): void;
  fenced(error: LockstepError): void;
  lost(error: LockstepError | null): void;
  halted(error: LockstepError): void;
  snapshotPublished(details: { seq: number; actors: number; bytes: number; ms: number }): void;
  snapshotFailed(error: unknown): void;
  draining(why: string): void;
  notDrained(error: LockstepError): void;
  notClosed(error: unknown): void;
  notCounted(error: unknown): void;
  released(details: { seq: number; drained: boolean }): void;
  waitedForInput(details: { ms: number }): void;
}

export function createLifeLog(log: Log): LifeLog {
  const info = (event: string, message: string) => (details: object) => log.info({ event, ...details }, message);
  return {
    acquiring: (why) => log.info({ event: "acquiring", why }, "acquiring shard"),
    tookOver: info("took-over", "took the shard over from an owner that had not released it"),
    fencing: (transactionalId, attempt) =>
      log.debug({ event: "fencing", transactionalId, attempt }, "predecessor's transaction is still being completed"),
    started: (positions) => log.info({ event: "started", positions }, "fixed the start positions of a new shard"),
    redoPublished: info("redo-published", "published commits that Postgres had and Kafka had not"),
    offsetsStale: (details) =>
      log.warn(
        { event: "offsets-stale", ...details },
        "the group's coordinator does not know what its log has; went by the log",
      ),
    offsetsUnwitnessed: () =>
      log.warn(
        { event: "offsets-unwitnessed" },
        "went by the word of the group's coordinator alone: its log, __consumer_offsets, may not be read (K1 in docs/protocol.md)",
      ),
    offsetsRewritten: (seq) =>
      log.warn({ event: "offsets-rewritten", seq }, "the group's offsets had expired; wrote them again from Postgres"),
    replaying: info("replaying", "replaying the journal"),
    replayProgress: info("replay-progress", "replaying the journal"),
    running: info("running", "shard is running"),
    committed: (details) => log.debug({ event: "committed", ...details }, "committed"),
    rowRefused: (details) =>
      log.warn({ event: "row-refused", ...details }, "Postgres refused a row; taking the batch again in halves"),
    verdict: (details) => log.warn({ event: "verdict", ...details }, "set a record or timer aside by verdict"),
    inDoubt: (details) =>
      log.warn(
        { event: "in-doubt", ...details },
        "owners died one after the other at this commit; taking records one by one until it is known why",
      ),
    retrying: (err, inMs) => log.warn({ event: "retrying", err, inMs }, "a dependency is unavailable; trying again"),
    restoring: (err) => log.warn({ event: "restoring", err }, "outcome unknown; acquiring the shard again"),
    fenced: (err) => log.warn({ event: "fenced", err }, "Kafka fenced this owner"),
    lost: (err) => log.warn({ event: "lost", ...(err ? { err } : {}) }, "another owner has the shard; dropped it"),
    halted: (err) => log.error({ event: "halted", err }, "shard halted; a person must decide"),
    snapshotPublished: info("snapshot-published", "published a snapshot"),
    snapshotFailed: (err) =>
      log.warn({ event: "snapshot-failed", err }, "snapshot not written; trying again after the next commits"),
    draining: (why) => log.info({ event: "draining", why }, "draining shard"),
    notDrained: (err) =>
      log.warn(
        { event: "not-drained", err },
        "shard not drained; the next owner replays, and publishes what is missing",
      ),
    notClosed: (err) => log.warn({ event: "not-closed", err }, "a producer did not close in order"),
    notCounted: (err) =>
      log.warn(
        { event: "not-counted", err },
        "Postgres did not say whether the last commit was made; metrics may lack it",
      ),
    released: info("released", "released shard"),
    waitedForInput: (details) =>
      log.debug(
        { event: "waited-for-input", ...details },
        "took a record although another input was not known to be caught up",
      ),
  };
}
