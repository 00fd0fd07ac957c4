/**
 * A Kafka cluster in memory: topics, the transaction coordinator, and the offsets of a group. Of each request it keeps the
 * meaning that Kafka 4 with the old transaction protocol gives it (docs/protocol.md), not the bytes.
 *
 *   transactional id   empty -> ongoing -> preparing -> complete -> ongoing ...
 *
 * Invariants
 *   K1  Only the latest epoch of a transactional id may do anything. InitProducerId, and a time-out, make a new one.
 *   K2  EndTxn is answered when the outcome is decided; markers and offsets show later, partition by partition.
 *   K3  While an outcome is being written, InitProducerId and the next transaction meet CONCURRENT_TRANSACTIONS.
 *   K4  Offsets of an open transaction are pending: who asks sees the ones before.
 */
import type { CommittedOffset } from "../actors/ports.ts";
import type { InputRecord, OutputRecord } from "../actors/record.ts";
import { assert } from "../errors.ts";
import type { Faults } from "./faults.ts";
import { PartitionLog, type TransactionMark } from "./kafka-log.ts";
import type { Random } from "./random.ts";
import type { Schedule } from "./schedule.ts";

export type BrokerErrorType =
  | "CONCURRENT_TRANSACTIONS"
  | "INVALID_PRODUCER_EPOCH"
  | "INVALID_TXN_STATE"
  | "OUT_OF_ORDER_SEQUENCE_NUMBER"
  | "UNKNOWN_TOPIC_OR_PARTITION";

export class BrokerError extends Error {
  readonly type: BrokerErrorType;
  constructor(type: BrokerErrorType, what: string) {
    super(`${type}: ${what}`);
    this.name = "BrokerError";
    this.type = type;
  }
}

export interface ProducerIdentity {
  readonly transactionalId: string;
  readonly epoch: number;
}

export interface GroupOffset {
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  readonly metadata: string;
}

interface TransactionalId {
  epoch: number;
  state: "empty" | "ongoing" | "preparing" | "complete";
  /** Outcome of the latest transaction. */
  outcome: "committed" | "aborted" | null;
  readonly partitions: Map<string, TransactionMark>;
  /** Of partitions that an abort passed over: what stands there ends with the next transaction that touches it. */
  readonly leftovers: Map<string, TransactionMark>;
  withOffsets: boolean;
  /** Next sequence number a partition, of this epoch. */
  readonly sequences: Map<string, number>;
  pending: readonly GroupOffset[];
  cancelTimeout: () => void;
}

/** One committed transaction that carried offsets: for whoever judges a run. */
export interface CommittedTransaction {
  readonly transactionalId: string;
  readonly offsets: readonly GroupOffset[];
}

const MARKER_MS_MAX = 12;

export interface KafkaOptions {
  readonly schedule: Schedule;
  readonly faults: Faults;
  readonly random: Random;
  /** Partition count by topic. */
  readonly topics: Readonly<Record<string, number>>;
}

export class MemoryKafka {
  readonly schedule: Schedule;
  readonly #faults: Faults;
  readonly #random: Random;
  readonly #logs = new Map<string, PartitionLog[]>();
  readonly #ids = new Map<string, TransactionalId>();
  readonly #offsets = new Map<string, CommittedOffset>();
  /** In the order in which their offsets became visible. */
  readonly transactions: CommittedTransaction[] = [];

  constructor({ schedule, faults, random, topics }: KafkaOptions) {
    this.schedule = schedule;
    this.#faults = faults;
    this.#random = random;
    for (const [topic, partitions] of Object.entries(topics)) this.createTopic(topic, partitions);
  }

  createTopic(topic: string, partitions: number): void {
    assert(!this.#logs.has(topic), `there is a topic ${topic}`);
    this.#logs.set(
      topic,
      Array.from({ length: partitions }, (_, partition) => new PartitionLog(topic, partition)),
    );
  }

  log(topic: string, partition: number): PartitionLog {
    const log = this.#logs.get(topic)?.[partition];
    if (log) return log;
    throw new BrokerError("UNKNOWN_TOPIC_OR_PARTITION", `${topic}/${partition}`);
  }

  partitions(topic: string): number {
    return this.#logs.get(topic)?.length ?? 0;
  }

  get topics(): string[] {
    return [...this.#logs.keys()];
  }

  /** Everything that a `read_committed` reader gets of a topic, partition by partition. */
  readTopic(topic: string): InputRecord[] {
    return (this.#logs.get(topic) ?? []).flatMap((log) => log.read(0n, Number.POSITIVE_INFINITY).records);
  }

  offsetsOf(partition: number, topics: readonly string[]): Record<string, CommittedOffset> {
    return Object.fromEntries(
      topics.map((topic) => [topic, this.#offsets.get(`${topic}/${partition}`) ?? { offset: null, metadata: "" }]),
    );
  }

  /** What the group's coordinator answers: from memory, which it may not have filled from the log yet. */
  offsetsAnswered(partition: number, topics: readonly string[]): Record<string, CommittedOffset> {
    const asOf = this.#faults.answersAsOf();
    if (asOf === null) return this.offsetsOf(partition, topics);
    const written = this.transactions.filter(({ offsets }) => offsets[0]!.partition === partition);
    const last = written[Math.floor(asOf * (written.length + 1)) - 1];
    return Object.fromEntries(
      topics.map((topic) => {
        const found = last?.offsets.find((each) => each.topic === topic);
        return [topic, found ? { offset: found.offset, metadata: found.metadata } : { offset: null, metadata: "" }];
      }),
    );
  }

  // ------------------------------------------------------------------------------------------------------------ requests

  initProducerId(transactionalId: string, timeoutMs: number): ProducerIdentity & { timeoutMs: number } {
    let id = this.#ids.get(transactionalId);
    if (!id) {
      id = {
        epoch: -1,
        state: "empty",
        outcome: null,
        partitions: new Map(),
        leftovers: new Map(),
        withOffsets: false,
        sequences: new Map(),
        pending: [],
        cancelTimeout: () => {},
      };
      this.#ids.set(transactionalId, id);
    }
    if (id.state === "preparing") throw concurrent(transactionalId); // K3
    if (id.state === "ongoing") {
      this.#fence(id);
      this.#prepare(transactionalId, id, "aborted");
      throw concurrent(transactionalId);
    }
    this.#fence(id);
    return { transactionalId, epoch: id.epoch, timeoutMs };
  }

  addPartitions(
    who: ProducerIdentity,
    partitions: readonly { topic: string; partition: number }[],
    timeoutMs: number,
  ): void {
    const id = this.#begin(who, timeoutMs);
    for (const { topic, partition } of partitions) {
      this.log(topic, partition);
      const key = `${topic}/${partition}`;
      if (id.partitions.has(key)) continue;
      id.partitions.set(key, id.leftovers.get(key) ?? { state: "open" });
      id.leftovers.delete(key);
    }
  }

  /** @param batch.sequence of its first record, in this partition and epoch */
  produce(
    who: ProducerIdentity,
    batch: { topic: string; partition: number; sequence: number; records: readonly OutputRecord[] },
  ): void {
    const id = this.#current(who);
    const key = `${batch.topic}/${batch.partition}`;
    const mark = id.partitions.get(key);
    if (id.state !== "ongoing" || !mark) throw new BrokerError("INVALID_TXN_STATE", `produce to ${key}`);
    const next = id.sequences.get(key) ?? 0;
    if (batch.sequence + batch.records.length <= next) return; // written before, and its answer was lost
    if (batch.sequence !== next) throw new BrokerError("OUT_OF_ORDER_SEQUENCE_NUMBER", `${batch.sequence} on ${key}`);
    id.sequences.set(key, next + batch.records.length);
    this.log(batch.topic, batch.partition).append(batch.records, mark);
  }

  addOffsets(who: ProducerIdentity, timeoutMs: number): void {
    this.#begin(who, timeoutMs).withOffsets = true;
  }

  commitOffsets(who: ProducerIdentity, offsets: readonly GroupOffset[]): void {
    const id = this.#current(who);
    if (id.state === "preparing") throw concurrent(who.transactionalId);
    if (id.state !== "ongoing" || !id.withOffsets)
      throw new BrokerError("INVALID_TXN_STATE", "offsets without a transaction");
    id.pending = offsets;
  }

  endTransaction(who: ProducerIdentity, outcome: "committed" | "aborted"): void {
    const id = this.#current(who);
    if (id.state === "preparing") {
      if (id.outcome === outcome) return;
      throw new BrokerError("INVALID_TXN_STATE", `it is being ${id.outcome}`);
    }
    if (id.state === "complete" && id.outcome === outcome) return;
    if (id.state !== "ongoing") throw new BrokerError("INVALID_TXN_STATE", `no transaction to be ${outcome}`);
    this.#prepare(who.transactionalId, id, outcome, { asked: true });
  }

  // ----------------------------------------------------------------------------------------------------------- coordinator

  #current({ transactionalId, epoch }: ProducerIdentity): TransactionalId {
    const id = this.#ids.get(transactionalId);
    assert(id, `the transactional id "${transactionalId}" was never used`);
    if (id.epoch !== epoch)
      throw new BrokerError("INVALID_PRODUCER_EPOCH", `${transactionalId} is at ${id.epoch}, not ${epoch}`);
    return id;
  }

  #begin(who: ProducerIdentity, timeoutMs: number): TransactionalId {
    const id = this.#current(who);
    if (id.state === "preparing") throw concurrent(who.transactionalId); // K3
    if (id.state === "ongoing") return id;
    id.state = "ongoing";
    id.outcome = null;
    id.withOffsets = false;
    id.pending = [];
    id.partitions.clear();
    id.cancelTimeout = this.schedule.after(timeoutMs, () => {
      this.#faults.count("transaction timed out");
      this.#fence(id);
      this.#prepare(who.transactionalId, id, "aborted");
    });
    return id;
  }

  #fence(id: TransactionalId): void {
    id.epoch += 1; // K1
    id.sequences.clear();
  }

  /** The outcome is decided; what follows only shows it. */
  #prepare(
    transactionalId: string,
    id: TransactionalId,
    outcome: "committed" | "aborted",
    { asked } = { asked: false },
  ): void {
    id.cancelTimeout();
    id.state = "preparing";
    id.outcome = outcome;
    const { pending } = id;
    const later = () => this.#random.next() * MARKER_MS_MAX;
    const steps = [...id.partitions].map(([key, mark]) => () => {
      // Not where the producer asked for it: it has just seen the leader of each partition.
      if (outcome === "aborted" && !asked && this.#faults.passesOver()) {
        id.leftovers.set(key, mark);
        return;
      }
      const slash = key.lastIndexOf("/");
      this.log(key.slice(0, slash), Number(key.slice(slash + 1))).endTransaction(mark, outcome);
    });
    if (id.withOffsets)
      steps.push(() => {
        if (outcome === "aborted" || pending.length === 0) return;
        for (const { topic, partition, offset, metadata } of pending)
          this.#offsets.set(`${topic}/${partition}`, { offset, metadata });
        this.transactions.push({ transactionalId, offsets: pending });
      });
    let left = steps.length;
    const complete = () => {
      id.state = "complete";
    };
    if (left === 0) complete();
    for (const step of steps) {
      this.schedule.after(later(), () => {
        step();
        left -= 1;
        if (left === 0) complete();
      });
    }
  }
}

function concurrent(transactionalId: string): BrokerError {
  return new BrokerError("CONCURRENT_TRANSACTIONS", `${transactionalId} completes its transaction`);
}
