/**
 * Fetches input partitions outside the consumer group: one loop per broker that leads any of them.
 *
 *   one partition:   open -> fetching <-> paused        close, from any of them
 *                              \-> halted (out of range, refused, undecodable)   open or resume starts it again
 *
 * Invariants
 *   P1  Positions are the caller's: nothing but `open` sets one, nothing but an answer moves it, and there is no reset.
 *   P2  An answer to a request sent before open, pause or close is dropped: each of them makes a new generation.
 *   P3  What is delivered of a partition tiles its log: each batch goes on where the one before ended.
 *   P4  "Caught up" compares with the last stable offset of the same answer, and comes again with every answer, also an empty one.
 *   P5  A partition without a leader, or with a failure of its own, holds up no other one.
 *   P6  Of two answers for one position, as when a leader moves during a fetch, the second is dropped.
 *   P7  A position moves after its batch was taken. A sink that throws halts its partition there, and nothing else.
 *   P8  One answer holds at most `maxBytesPerRequest`, however many partitions it is asked for. Each request begins with those that
 *       were served longest ago: who comes first gets a whole batch, however large, so that none starves.
 *   P9  With several inputs, the request after records were brought, by whichever broker, does not wait for more: whether the
 *       other inputs are empty is what the shard needs to know next (IQ5).
 *
 * A broker serves the requests of a connection one after the other, so a partition opened while a long poll is under way
 * waits for its end: at most `maxWaitMs`. kafkajs throws the first error of an answer, so when an answer for several
 * partitions fails each is asked for alone, and those that fail then stay apart until they succeed.
 */
import type { Fetcher, FetchSink } from "../actors/ports.ts";
import type { Positions } from "../actors/record.ts";
import { assert, LockstepError } from "../errors.ts";
import type { Connection } from "./connection.ts";
import { BACKOFF_FIRST_MS, BACKOFF_MAX_MS } from "./connection.ts";
import type { PartitionAnswer } from "./fetch-request.ts";
import { fetchPositions } from "./fetch-request.ts";
import { createLeaders, pauseFor } from "./leaders.ts";
import { lastingFault, nextFailure, type PartitionFailure } from "./partition-failure.ts";
import type { WireBroker } from "./wire.ts";
import { errorText, errorType, isConnectionFailure, isRefused, unavailable } from "./wire-errors.ts";

/** One failure of a kind is reported in so long; what halts a partition always is. */
const REPORT_EVERY_MS = 1_000;

export interface FetcherOptions {
  /** The fetcher's own; it is destroyed by `stop`. */
  readonly connection: Connection;
  /** Input topics, in order of definition. */
  readonly topics: readonly string[];
  /** Bytes of one partition in one answer, default 256 KiB; a greater batch still comes whole. */
  readonly maxBytesPerPartition?: number;
  /** Bytes of one answer, default 1 MiB: it is decoded and judged in one go, while nothing else of the thread moves. */
  readonly maxBytesPerRequest?: number;
  /** Longest wait of the broker for data, default 100. */
  readonly maxWaitMs?: number;
  /**
   * Every failure, also those the fetcher recovers from: KAFKA_UNAVAILABLE is being retried, KAFKA_UNSUITABLE with a topic
   * and partition has halted that partition, and so has INVARIANT_BROKEN, which is a sink that threw. At most once a second
   * of each type, but for those that halt.
   */
  readonly onError: (error: LockstepError) => void;
}

interface Slot {
  readonly topic: string;
  readonly partition: number;
  readonly sink: FetchSink;
  position: bigint;
  generation: number;
  /** Count at which it was last given something, or found to be at the end. */
  servedAt: number;
  state: "fetching" | "paused" | "halted";
  /** Since the last success. While there is one, the partition is asked for alone. */
  failure: PartitionFailure | null;
  /** Monotonic, ms. */
  retryAtMs: number;
}

/** A slot as it was when its request was sent. */
interface Sent {
  readonly slot: Slot;
  readonly generation: number;
  readonly position: bigint;
}

export function createFetcher(options: FetcherOptions): Fetcher {
  const { connection, topics, onError } = options;
  const maxBytesPerPartition = options.maxBytesPerPartition ?? 262_144;
  const maxBytesPerRequest = options.maxBytesPerRequest ?? 1_048_576;
  const maxWaitMs = options.maxWaitMs ?? 100;

  const slots = new Map<string, Slot>();
  const loops = new Map<number, Promise<void>>();
  const reportedAtMs = new Map<string, number>();
  const stopping = new AbortController();
  /** Counts what partitions were served, P8. */
  let served = 0;
  /** Counts answers with records, P9. */
  let brought = 0;
  const leaders = createLeaders({
    connection,
    topics,
    signal: stopping.signal,
    leaderless: () => wantedLeaderless().map(({ topic, partition }) => keyOf(topic, partition)),
    onRefreshed: startLoops,
    report,
  });

  return {
    open(shard, positions, sink) {
      assert(!stopping.signal.aborted, "a fetcher that was stopped opens no shard");
      for (const topic of topics) {
        slots.set(keyOf(topic, shard), {
          topic,
          partition: shard,
          sink,
          position: positionOf(positions, topic),
          generation: 0,
          servedAt: 0,
          state: "fetching",
          failure: null,
          retryAtMs: 0,
        });
      }
      startLoops();
    },
    pause(shard, topic) {
      const slot = slots.get(keyOf(topic, shard));
      // A shard that was closed meanwhile has nothing to pause; the same holds for resume.
      if (slot === undefined) return;
      slot.generation += 1;
      slot.state = "paused";
    },
    resume(shard, topic) {
      const slot = slots.get(keyOf(topic, shard));
      if (slot === undefined) return;
      slot.state = "fetching";
      slot.failure = null;
      startLoops();
    },
    close(shard) {
      for (const topic of topics) slots.delete(keyOf(topic, shard));
    },
    async stop() {
      stopping.abort();
      connection.destroy();
      await Promise.all([...loops.values(), leaders.settled()]);
    },
  };

  /** Sees to it that a loop runs for each broker that leads something wanted, and that missing leaders are looked for. */
  function startLoops(): void {
    if (stopping.signal.aborted) return;
    for (const slot of slots.values()) {
      if (slot.state !== "fetching") continue;
      const nodeId = connection.leader(slot.topic, slot.partition);
      if (nodeId !== null && !loops.has(nodeId)) loops.set(nodeId, runLoop(nodeId));
    }
    if (wantedLeaderless().length > 0) leaders.search();
  }

  /** Ends when nothing led by this broker is wanted; `startLoops` begins it anew. */
  async function runLoop(nodeId: number): Promise<void> {
    let backoffMs = BACKOFF_FIRST_MS;
    let broughtBefore = 0;
    for (;;) {
      const wanted = stopping.signal.aborted ? [] : wantedFrom(nodeId);
      if (wanted.length === 0) break;
      try {
        const waitMs = topics.length > 1 && brought > broughtBefore ? 0 : maxWaitMs; // P9
        broughtBefore = brought;
        await askRound(nodeId, wanted, waitMs);
        backoffMs = BACKOFF_FIRST_MS;
      } catch (error) {
        if (stopping.signal.aborted) break;
        report(error, `fetch from broker ${nodeId}`);
        await pauseFor(backoffMs, stopping.signal);
        backoffMs = Math.min(backoffMs * 2, BACKOFF_MAX_MS);
        // Once, not until all is well: what this broker leads still can be fetched (P5).
        await leaders.refresh();
      }
    }
    loops.delete(nodeId);
  }

  /**
   * One request for all that are well, and one for each that is not and whose pause is over.
   * @throws what is no single partition's failure
   */
  async function askRound(nodeId: number, wanted: readonly Sent[], waitMs: number): Promise<void> {
    const nowMs = performance.now();
    const well = wanted.filter(({ slot }) => slot.failure === null);
    const failing = wanted.filter(({ slot }) => slot.failure !== null);
    const due = failing.filter(({ slot }) => slot.retryAtMs <= nowMs);
    if (well.length === 0 && due.length === 0) {
      const dueInMs = Math.min(...failing.map(({ slot }) => slot.retryAtMs - nowMs));
      // No longer than a long poll, since a partition can be opened meanwhile.
      return pauseFor(Math.ceil(Math.min(dueInMs, maxWaitMs)), stopping.signal);
    }
    const broker = await connection.broker(nodeId);
    if (well.length === 1) await askAlone(broker, well[0]!, waitMs);
    else if (well.length > 1) await askTogether(broker, well, waitMs);
    for (const sent of due) await askAlone(broker, sent, 0);
  }

  async function askTogether(broker: WireBroker, wanted: readonly Sent[], waitMs: number): Promise<void> {
    try {
      await fetchOnce(broker, wanted, waitMs);
    } catch (error) {
      if (stopping.signal.aborted || isConnectionFailure(error)) throw error;
      let found = false;
      for (const sent of wanted) {
        if (!(await askAlone(broker, sent, 0))) found = true;
      }
      // Nobody's failure is the broker's: without its back-off this would repeat without a pause.
      if (!found) throw error;
    }
  }

  /** @returns false when the partition failed, which is dealt with then */
  async function askAlone(broker: WireBroker, sent: Sent, waitMs: number): Promise<boolean> {
    if (!isCurrent(sent)) return true;
    try {
      await fetchOnce(broker, [sent], waitMs);
      sent.slot.failure = null;
      return true;
    } catch (error) {
      if (stopping.signal.aborted || isConnectionFailure(error)) throw error;
      await takeFailure(sent, error);
      return false;
    }
  }

  async function takeFailure(sent: Sent, error: unknown): Promise<void> {
    const { slot } = sent;
    const what = `fetch ${keyOf(slot.topic, slot.partition)}`;
    if (errorType(error) === "OFFSET_OUT_OF_RANGE") {
      try {
        if (await haltWhenOutOfRange(sent)) return;
      } catch (second) {
        // Says nothing about this partition: the metadata of another topic may be refused.
        report(second, what);
      }
    }
    if (!isCurrent(sent)) return;
    slot.failure = nextFailure(slot.failure, error);
    slot.retryAtMs = performance.now() + slot.failure.backoffMs;
    const fault = lastingFault(slot.topic, slot.partition, slot.failure);
    if (fault === null) {
      report(unavailable(what, error, { topic: slot.topic, partition: slot.partition }), what);
      // The leader may have moved. Nobody waits for it; `settled` does.
      void leaders.refresh();
    } else {
      halt(slot);
      onError(fault);
    }
  }

  /** A new leader can say "out of range" before it has caught up, so the watermarks are asked for first. */
  async function haltWhenOutOfRange(sent: Sent): Promise<boolean> {
    const { slot, position } = sent;
    await connection.refresh();
    const range = (await connection.offsets(slot.topic, [slot.partition])).get(slot.partition);
    if (range === undefined || (range.low <= position && position <= range.high)) return false;
    if (isCurrent(sent)) {
      halt(slot);
      tell(slot, () => slot.sink.onOutOfRange(slot.topic, position));
    }
    return true;
  }

  async function fetchOnce(broker: WireBroker, wanted: readonly Sent[], waitMs: number): Promise<void> {
    const askedAtMs = performance.now();
    const answers = await fetchPositions(
      broker,
      wanted.map(({ slot, position }) => ({ topic: slot.topic, partition: slot.partition, position })),
      { maxBytes: maxBytesPerRequest, maxBytesPerPartition, maxWaitMs: waitMs },
    );
    const answeredAtMs = performance.now();
    for (const answer of answers) {
      const sent = wanted.find(({ slot }) => slot.topic === answer.topic && slot.partition === answer.partition);
      if (sent !== undefined && isCurrent(sent)) deliver(sent.slot, answer, { askedAtMs, answeredAtMs });
    }
  }

  function deliver(slot: Slot, answer: PartitionAnswer, times: { askedAtMs: number; answeredAtMs: number }): void {
    const caughtUp = answer.nextOffset >= answer.lastStableOffset;
    const taken = tell(slot, () =>
      slot.sink.onFetched({
        topic: slot.topic,
        records: answer.records,
        nextOffset: answer.nextOffset,
        lastStableOffset: answer.lastStableOffset,
        logStartOffset: answer.logStartOffset,
        caughtUp,
        ...times,
      }),
    );
    if (!taken) return;
    if (answer.records.length > 0) brought += 1;
    if (answer.nextOffset > slot.position || caughtUp) slot.servedAt = ++served;
    slot.position = answer.nextOffset;
  }

  /** Calls the sink. How much it took before it threw is not known, so nothing is given to it again. @returns whether it returned */
  function tell(slot: Slot, call: () => void): boolean {
    try {
      call();
      return true;
    } catch (error) {
      halt(slot);
      const { topic, partition } = slot;
      const fault = new LockstepError("INVARIANT_BROKEN", `The sink of ${keyOf(topic, partition)} threw: ${error}`, {
        details: { topic, partition },
        cause: error,
      });
      onError(fault);
      slot.sink.onUnreadable?.(topic, fault);
      return false;
    }
  }

  function halt(slot: Slot): void {
    slot.generation += 1;
    slot.state = "halted";
    slot.failure = null;
  }

  function isCurrent({ slot, generation, position }: Sent): boolean {
    return (
      slot.generation === generation &&
      slot.position === position &&
      slots.get(keyOf(slot.topic, slot.partition)) === slot
    );
  }

  function wantedFrom(nodeId: number): Sent[] {
    const wanted: Sent[] = [];
    for (const slot of slots.values()) {
      if (slot.state !== "fetching" || connection.leader(slot.topic, slot.partition) !== nodeId) continue;
      wanted.push({ slot, generation: slot.generation, position: slot.position });
    }
    return wanted.sort((a, b) => a.slot.servedAt - b.slot.servedAt);
  }

  function wantedLeaderless(): Slot[] {
    return [...slots.values()].filter(
      (slot) => slot.state === "fetching" && connection.leader(slot.topic, slot.partition) === null,
    );
  }

  function report(error: unknown, what: string): void {
    if (stopping.signal.aborted) return;
    const failure = asLockstep(error, what);
    const kind = `${failure.code} ${failure.details["type"]}`;
    const nowMs = performance.now();
    if (nowMs - (reportedAtMs.get(kind) ?? -REPORT_EVERY_MS) < REPORT_EVERY_MS) return;
    reportedAtMs.set(kind, nowMs);
    onError(failure);
  }
}

function asLockstep(error: unknown, what: string): LockstepError {
  if (error instanceof LockstepError) return error;
  const type = errorType(error);
  if (!isRefused(error) || type === "UNKNOWN_TOPIC_OR_PARTITION") return unavailable(what, error);
  return new LockstepError("KAFKA_UNSUITABLE", `Kafka refuses: ${what} (${errorText(error)}).`, {
    details: { type },
    cause: error,
  });
}

function keyOf(topic: string, partition: number): string {
  return `${topic}/${partition}`;
}

function positionOf(positions: Positions, topic: string): bigint {
  const position = positions[topic];
  assert(position !== undefined, `input ${topic} has no position`);
  return position;
}
