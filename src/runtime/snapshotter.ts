/**
 * Snapshots of a running shard, beside its loop: captured at once, written in pieces, published by one pointer.
 *
 * Due after `snapshotCommits` commits, `snapshotRecords` records, or `snapshotMs` since the first commit that no snapshot covers;
 * and on release. At most one is under way. Losing the shard meanwhile makes the pieces garbage that the next snapshot prunes.
 *
 * Invariants
 *   S1  The pointer never moves to a lower seq.
 *   S2  Pieces of an unpublished snapshot are invisible to restore.
 *   S3  Commits go on while pieces are written: the state written is the captured one. The pointer is flipped by the loop,
 *       between two commits, because its WHERE names the shard's seq.
 */
import { createHash } from "node:crypto";

import type { Ownership } from "../actors/ports.ts";
import type { Positions } from "../actors/record.ts";
import type { SnapshotCapture } from "../actors/shard-model.ts";
import { isLockstepError, type LockstepError } from "../errors.ts";
import type { Standing } from "./commit.ts";
import type { ShardContext } from "./shard-context.ts";

/** Bytes a piece: big enough to be few, small enough that encoding one does not hold the event loop for long. */
const PIECE_BYTES = 512 * 1024;

/** Wait after a snapshot that could not be written. */
const RETRY_MS = 5_000;

export class Snapshotter {
  readonly #context: ShardContext;
  #seq: number;
  #commits = 0;
  #records = 0;
  #firstUncoveredMs: number | null = null;
  #writing: Promise<void> | null = null;
  #written: Written | null = null;
  #failure: LockstepError | null = null;
  #retryAtMs = 0;

  /**
   * Commits between the snapshot that was found and the row are not covered yet, also when nothing follows them.
   * @param found.wasReplayed a replay is paid for once: the next snapshot is due at once
   */
  constructor(context: ShardContext, found: { seq: number; rowSeq: number; wasReplayed: boolean }) {
    this.#context = context;
    this.#seq = found.seq;
    if (found.wasReplayed) this.#firstUncoveredMs = Number.NEGATIVE_INFINITY;
    else if (found.seq < found.rowSeq) this.#firstUncoveredMs = context.clock.monotonicMs();
  }

  /** S: seq of the latest snapshot published by this owner or found by it. */
  get seq(): number {
    return this.#seq;
  }

  /** Counts a commit. */
  committed(records: number): void {
    this.#commits += 1;
    this.#records += records;
    this.#firstUncoveredMs ??= this.#context.clock.monotonicMs();
  }

  /**
   * Called by the loop between two commits: publishes what has been written, starts the next when due.
   * @throws {LockstepError} what ends the ownership (lost, halt); any other failure is logged and tried again later
   */
  async step(standing: Standing): Promise<void> {
    if (this.#failure) throw this.#failure;
    if (this.#written) {
      const written = this.#written;
      this.#written = null;
      await this.#orLater(written.startMs, () => this.#publish(standing, written));
      if (this.#failure) throw this.#failure;
    }
    if (this.#writing || !this.#due()) return;
    const capture = this.#capture(standing);
    this.#writing = this.#orLater(capture.startMs, async () => {
      this.#written = await this.#write(standing.ownership, capture);
    }).finally(() => {
      this.#writing = null;
    });
  }

  /** Release: settles the one under way, then covers everything up to the standing's seq. @throws {LockstepError} when it cannot */
  async finish(standing: Standing): Promise<void> {
    await this.#writing;
    if (this.#failure) throw this.#failure;
    this.#written = null; // older than the one that follows
    if (this.#seq < standing.seq)
      await this.#publish(standing, await this.#write(standing.ownership, this.#capture(standing)));
  }

  /** Waits for the one under way without judging it. */
  async settle(): Promise<void> {
    await this.#writing;
  }

  #due(): boolean {
    if (this.#firstUncoveredMs === null) return false;
    const { settings, clock } = this.#context;
    const now = clock.monotonicMs();
    if (now < this.#retryAtMs) return false;
    return (
      this.#commits >= settings.snapshotCommits ||
      this.#records >= settings.snapshotRecords ||
      now - this.#firstUncoveredMs >= settings.snapshotMs
    );
  }

  async #orLater(startMs: number, act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      if (
        isLockstepError(error) &&
        (error.remedy === "surrender" || error.remedy === "halt" || error.remedy === "restore")
      ) {
        this.#failure = error;
        return;
      }
      this.#context.log.snapshotFailed(error);
      this.#firstUncoveredMs ??= startMs;
      this.#retryAtMs = this.#context.clock.monotonicMs() + RETRY_MS;
    }
  }

  #capture(standing: Standing): Captured {
    this.#commits = 0;
    this.#records = 0;
    this.#firstUncoveredMs = null;
    const { model, seq, positions } = standing;
    return { startMs: this.#context.clock.monotonicMs(), seq, positions, capture: model.capture() };
  }

  async #write(ownership: Ownership, captured: Captured): Promise<Written> {
    const { store, hook } = this.#context;
    await hook("snapshot.captured");
    const digest = createHash("sha256");
    let pieces = 0;
    let bytes = 0;
    for (const piece of captured.capture.pieces(PIECE_BYTES)) {
      await store.writeSnapshotPiece(ownership, captured.seq, pieces, piece);
      digest.update(piece);
      pieces += 1;
      bytes += piece.length;
      await hook("snapshot.piece");
    }
    return { ...captured, pieces, bytes, digest: digest.digest("hex") };
  }

  async #publish(standing: Standing, written: Written): Promise<void> {
    const { store, hook, log, clock, code, app, settings } = this.#context;
    const { seq, positions, pieces, bytes, digest, capture } = written;
    await store.publishSnapshot(standing.ownership, {
      seq,
      token: standing.ownership.token,
      pieces,
      bytes,
      digest,
      code,
      appVersion: app.version,
      streamTimeMs: capture.streamTimeMs,
      positions,
      counters: capture.counters,
      currentSeq: standing.seq,
      journalKeepMs: settings.journalKeepMs,
    });
    this.#seq = seq;
    await hook("snapshot.published");
    log.snapshotPublished({
      seq,
      actors: capture.actorCount,
      bytes,
      ms: Math.round(clock.monotonicMs() - written.startMs),
    });
  }
}

interface Captured {
  readonly startMs: number;
  readonly seq: number;
  readonly positions: Positions;
  readonly capture: SnapshotCapture;
}

interface Written extends Captured {
  readonly pieces: number;
  readonly bytes: number;
  readonly digest: string;
}
