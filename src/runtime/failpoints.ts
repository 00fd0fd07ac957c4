/**
 * Fail-points: named places where a test makes this process die, stop, hang or throw, to prove what a crash there leaves.
 *
 *   LOCKSTEP_FAILPOINT=pg.committed:3:kill        the third time this process passes the point
 *   LOCKSTEP_FAILPOINT=kafka.produced:1:stop@4    only on shard 4
 *
 * Several are separated by commas. Without the variable every call is a property read and a return. A hit is written to
 * stderr, and to the file that LOCKSTEP_FAILPOINT_LOG names, BEFORE it takes effect: a fault that never fired proves nothing.
 *
 * Points, in the order of one commit: take.before, fold.before, fold.after, pg.begun, pg.updated, pg.before-commit,
 * pg.commit-sent, pg.committed, kafka.begun, kafka.produced, kafka.offsets-sent, kafka.before-end, kafka.ended, commit.done.
 * Of an acquire: acquire.start, acquire.f1, acquire.f2, acquire.r2, acquire.r1, reconcile.published, restore.loaded,
 * restore.row, acquire.done. Of a snapshot: snapshot.captured, snapshot.piece, snapshot.published. Of a release: release.start,
 * release.drained, release.done.
 * Of the relay: relay.locked, relay.fenced, relay.position-read, relay.position-written, relay.streaming; per Kafka transaction
 * relay.before-publish (also of a position alone), relay.kafka.begun ... relay.kafka.ended as above, relay.published, relay.acknowledged.
 */
import { appendFileSync, writeSync } from "node:fs";

/** A stop reaches every thread within microseconds, on a busy machine within a few ms. */
const STOP_MS = 100;

export type FailAction = "kill" | "stop" | "throw" | "hang";

interface FailPoint {
  readonly name: string;
  readonly nth: number;
  readonly action: FailAction;
  readonly shard: number | null;
  hits: number;
}

export type Hook = (point: string) => void | Promise<void>;

/** @throws when the text is not of the form above */
export function parseFailPoints(text: string): FailPoint[] {
  return text
    .split(",")
    .filter((part) => part.trim() !== "")
    .map((part) => {
      const match = /^\s*([a-z0-9.-]+):(\d+):(kill|stop|throw|hang)(?:@(\d+))?\s*$/.exec(part);
      if (!match) throw new Error(`fail-point "${part}" is not of the form name:nth:kill|stop|throw|hang[@shard]`);
      return {
        name: match[1]!,
        nth: Number(match[2]),
        action: match[3] as FailAction,
        shard: match[4] === undefined ? null : Number(match[4]),
        hits: 0,
      };
    });
}

/** The hook of one shard, or of the relay; does nothing when no fail-point is configured. */
export function createHook(points: FailPoint[], where: number | "relay", logFile: string | undefined): Hook {
  if (points.length === 0) return () => {};
  return (name) => {
    for (const point of points) {
      if (point.name !== name || (point.shard !== null && point.shard !== where)) continue;
      point.hits += 1;
      if (point.hits !== point.nth) continue;
      const line = `failpoint ${name} ${where === "relay" ? where : `shard ${where}`} hit ${point.nth} -> ${point.action} pid ${process.pid}\n`;
      if (logFile) appendFileSync(logFile, line);
      writeSync(2, line);
      switch (point.action) {
        case "kill":
          process.kill(process.pid, "SIGKILL");
          return new Promise(() => {});
        case "stop":
          process.kill(process.pid, "SIGSTOP");
          // Another thread may be the one that takes the signal: this one goes nowhere until all are stopped.
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, STOP_MS);
          return;
        case "hang":
          return new Promise(() => {});
        case "throw":
          throw new Error(`fail-point ${name}`);
      }
    }
  };
}
