/**
 * The ports of one shard in memory: small, but as strict as the real ones. A guarded write checks token, epoch and seq, a fenced
 * writer publishes nothing, and what was written can be read back.
 *
 * Faults are injected by `before` (it throws: nothing happened) and `after` (it throws: it happened, and the caller does not know).
 */
import type { RowEffect } from "../../src/actors/effects.ts";
import { formatOffsetMetadata } from "../../src/actors/offset-metadata.ts";
import type {
  CommitRequest,
  CommittedOffset,
  Fetcher,
  FetchSink,
  JournalRow,
  Ownership,
  PublisherPort,
  RangeReader,
  RedoRow,
  ShardRow,
  ShardStore,
  SnapshotManifest,
  TransactionalWriter,
} from "../../src/actors/ports.ts";
import type { InputRecord, OutputRecord, Positions } from "../../src/actors/record.ts";
import type { Clock } from "../../src/clock.ts";
import { LockstepError } from "../../src/errors.ts";

/** Called with the name of a port's method and what it was asked. */
export type Fault = (call: string, request?: unknown) => void | Promise<void>;
const NO_FAULT: Fault = () => {};

/** Time passes only where somebody sleeps, or a test says so. */
export class FakeClock implements Clock {
  nowMs = 0;
  readonly sleptMs: number[] = [];

  wallMs(): number {
    return this.nowMs;
  }
  monotonicMs(): number {
    return this.nowMs;
  }
  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return;
    this.sleptMs.push(ms);
    this.nowMs += ms;
    await turn();
  }
}

/** Lets everything that is ready run once. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

export class FakeStore implements ShardStore {
  row: ShardRow = {
    shard: 0,
    epoch: 0,
    token: null,
    owner: null,
    seq: 0,
    confirmed: 0,
    positions: null,
    streamTimeMs: 0,
    snapshotSeq: 0,
    snapshotToken: null,
    transactionalIds: [],
    code: null,
  };
  readonly journal: JournalRow[] = [];
  redo: RedoRow[] = [];
  readonly rows: RowEffect[] = [];
  /** Writes that took effect, in order. */
  readonly writes: string[] = [];
  /** Batches that `commit` was asked to write, also those that it refused. */
  readonly attempts: CommitRequest[] = [];
  before: Fault = NO_FAULT;
  after: Fault = NO_FAULT;
  readonly #pieces = new Map<string, Buffer>();
  #manifest: SnapshotManifest | null = null;

  /** Another process takes the shard, and does nothing with it. */
  takeOver(owner = "somebody else"): void {
    this.row = { ...this.row, epoch: this.row.epoch + 1, token: `token of ${owner}`, owner };
  }

  async readShard(): Promise<ShardRow> {
    await this.before("readShard");
    return this.row;
  }
  async readShards(): Promise<ShardRow[]> {
    return [await this.readShard()];
  }

  async acquire(request: Parameters<ShardStore["acquire"]>[0]): ReturnType<ShardStore["acquire"]> {
    return this.#write("acquire", request, () => {
      const before = this.row;
      if (request.expectedToken !== null && request.expectedToken !== before.token) return null;
      const { owner, token, transactionalId, shard } = request;
      const epoch = before.epoch + 1;
      const transactionalIds = [...new Set([...before.transactionalIds, transactionalId])];
      this.row = { ...before, epoch, token, owner, transactionalIds };
      return { before, ownership: { shard, epoch, token } };
    });
  }

  async fixStart(ownership: Ownership, positions: Positions): Promise<void> {
    return this.#write("fixStart", positions, () => {
      this.#guard(ownership, 0);
      this.row = { ...this.row, positions };
    });
  }

  async readRedo(_shard: number, after: number): Promise<RedoRow[]> {
    return this.redo.filter(({ seq }) => seq > after);
  }
  async readJournal(_shard: number, range: { after: number; upTo: number; limit: number }): Promise<JournalRow[]> {
    return this.journal.filter(({ seq }) => seq > range.after && seq <= range.upTo).slice(0, range.limit);
  }

  async commit(request: CommitRequest): Promise<void> {
    this.attempts.push(request);
    return this.#write("commit", request, () => {
      const { ownership, seq, positions, streamTimeMs, code, journal, digest, redo, rows } = request;
      this.#guard(ownership, seq - 1);
      const confirmed = Math.max(this.row.confirmed, request.confirmed);
      this.row = { ...this.row, seq, positions, streamTimeMs, code, confirmed };
      this.journal.push({ seq, token: ownership.token, code, journal, digest, streamTimeMs });
      this.redo = [...this.redo.filter((row) => row.seq > confirmed), { seq, payload: redo }];
      this.rows.push(...rows);
    });
  }

  async confirm(ownership: Ownership, seq: number, confirmed: number): Promise<void> {
    return this.#write("confirm", confirmed, () => {
      this.#guard(ownership, seq);
      this.row = { ...this.row, confirmed: Math.max(this.row.confirmed, confirmed) };
      this.redo = this.redo.filter((row) => row.seq > this.row.confirmed);
    });
  }

  async release(ownership: Ownership, seq: number): Promise<void> {
    return this.#write("release", seq, () => {
      this.#guard(ownership, seq);
      this.row = { ...this.row, owner: null };
    });
  }

  async writeSnapshotPiece(ownership: Ownership, seq: number, piece: number, data: Buffer): Promise<void> {
    return this.#write("writeSnapshotPiece", { seq, piece }, () => {
      this.#guard(ownership, this.row.seq);
      this.#pieces.set(`${seq}/${ownership.token}/${piece}`, data);
    });
  }

  async publishSnapshot(
    ownership: Ownership,
    request: SnapshotManifest & { currentSeq: number; journalKeepMs: number },
  ): Promise<void> {
    return this.#write("publishSnapshot", request, () => {
      this.#guard(ownership, request.currentSeq);
      this.#manifest = request;
      this.row = { ...this.row, snapshotSeq: request.seq, snapshotToken: request.token };
    });
  }

  async loadSnapshot(): ReturnType<ShardStore["loadSnapshot"]> {
    const manifest = this.#manifest;
    if (manifest === null) return null;
    const { seq, token } = manifest;
    const pieces = Array.from({ length: manifest.pieces }, (_, i) => this.#pieces.get(`${seq}/${token}/${i}`)!);
    return { manifest, pieces };
  }

  async #write<T>(call: string, request: unknown, act: () => T): Promise<T> {
    await turn();
    await this.before(call, request);
    const result = act();
    if (result !== null) this.writes.push(call);
    await this.after(call, request);
    return result;
  }

  #guard(ownership: Ownership, seq: number): void {
    if (this.row.token !== ownership.token || this.row.epoch !== ownership.epoch)
      throw new LockstepError("SHARD_LOST", `another owner has the shard: ${this.row.owner}`);
    if (this.row.seq !== seq) throw new LockstepError("STORE_WENT_BACK", `the row has ${this.row.seq}, not ${seq}`);
  }
}

/** The output topics and the group's offsets, as `read_committed` readers see them. */
export class FakePublisher implements PublisherPort {
  readonly records: OutputRecord[] = [];
  readonly offsets: Record<string, CommittedOffset> = {};
  readonly writes: string[] = [];
  before: Fault = NO_FAULT;
  after: Fault = NO_FAULT;
  /** Writers made and not closed. */
  open = 0;
  readonly #inputs: FakeInputs;
  #generation = 0;

  constructor(inputs: FakeInputs) {
    this.#inputs = inputs;
  }

  async fence(): Promise<TransactionalWriter | null> {
    await turn();
    await this.before("fence");
    this.#generation += 1;
    const generation = this.#generation;
    this.open += 1;
    let closed = false;
    return {
      publish: async ({ records, positions, metadata }) => {
        await turn();
        await this.before("publish", metadata);
        if (closed || generation !== this.#generation)
          throw new LockstepError("PUBLISH_FAILED", "fenced", { details: { fenced: true } });
        this.records.push(...records);
        for (const [topic, offset] of Object.entries(positions))
          this.offsets[topic] = { offset, metadata: formatOffsetMetadata(metadata) };
        this.writes.push("publish");
        await this.after("publish", metadata);
      },
      close: async () => {
        if (!closed) this.open -= 1;
        closed = true;
      },
    };
  }

  /** What the coordinator answers instead of what stands in its log. */
  answers: Record<string, CommittedOffset> | null = null;
  /** Whether its log may be read. */
  logIsReadable = true;
  async committed(): Promise<Record<string, CommittedOffset>> {
    await this.before("committed");
    return { ...(this.answers ?? this.offsets) };
  }
  async committedInLog(): Promise<Record<string, CommittedOffset> | null> {
    await this.before("committedInLog");
    return this.logIsReadable ? { ...this.offsets } : null;
  }
  clusterNow = "cluster";
  async clusterId(): Promise<string> {
    await this.before("clusterId");
    return this.clusterNow;
  }
  async partitionCounts(): Promise<Record<string, number>> {
    return Object.fromEntries([...this.#inputs.logs.keys()].map((topic) => [topic, 1]));
  }
  async watermarks(): Promise<Record<string, { low: bigint; high: bigint }>> {
    return Object.fromEntries(
      [...this.#inputs.logs].map(([topic, log]) => [topic, { low: 0n, high: BigInt(log.length) }]),
    );
  }
}

/** The input topics, of one partition: offsets are indices. Whoever is open is given what is appended, at once. */
export class FakeInputs implements Fetcher {
  readonly logs: ReadonlyMap<string, InputRecord[]>;
  readonly #clock: Clock;
  #open: { sink: FetchSink; next: Map<string, bigint> } | null = null;
  readonly #paused = new Set<string>();

  constructor(topics: readonly string[], clock: Clock) {
    this.logs = new Map(topics.map((topic) => [topic, []]));
    this.#clock = clock;
  }

  /** The sink of whoever has the shard open. */
  get sink(): FetchSink | null {
    return this.#open?.sink ?? null;
  }

  append(topic: string, records: ReadonlyArray<{ key: string; value: unknown; timestampMs?: number }>): void {
    const log = this.logs.get(topic)!;
    for (const { key, value, timestampMs = 0 } of records) {
      log.push({
        topic,
        partition: 0,
        offset: BigInt(log.length),
        key: Buffer.from(key),
        value: Buffer.from(JSON.stringify(value)),
        headers: [],
        timestampMs: BigInt(timestampMs),
      });
    }
    this.#deliver();
  }

  open(_shard: number, positions: Positions, sink: FetchSink): void {
    this.#open = { sink, next: new Map(Object.entries(positions)) };
    this.#paused.clear();
    setImmediate(() => this.#deliver());
  }
  pause(_shard: number, topic: string): void {
    this.#paused.add(topic);
  }
  resume(_shard: number, topic: string): void {
    this.#paused.delete(topic);
    setImmediate(() => this.#deliver());
  }
  close(): void {
    this.#open = null;
  }
  async stop(): Promise<void> {
    this.#open = null;
  }

  openReader(): RangeReader {
    return {
      read: async (topic, first, next, count) => {
        const records = this.logs.get(topic)!.slice(Number(first), Number(next));
        if (records.length !== count)
          throw new LockstepError("INPUT_CHANGED", `${records.length} records instead of ${count}`);
        return records;
      },
      close: async () => {},
    };
  }

  #deliver(): void {
    if (!this.#open) return;
    const { sink, next } = this.#open;
    for (const [topic, log] of this.logs) {
      if (this.#paused.has(topic)) continue;
      const records = log.slice(Number(next.get(topic)));
      const nextOffset = BigInt(log.length);
      next.set(topic, nextOffset);
      const nowMs = this.#clock.monotonicMs();
      const ends = { lastStableOffset: nextOffset, logStartOffset: 0n };
      sink.onFetched({ topic, records, nextOffset, ...ends, caughtUp: true, askedAtMs: nowMs, answeredAtMs: nowMs });
    }
  }
}
