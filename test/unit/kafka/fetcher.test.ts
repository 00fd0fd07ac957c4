/** The fetch loops over a connection whose leaders, answers and failures the test decides. P: src/kafka/fetcher.ts. */
import { afterEach, expect, test } from "vitest";

import type { Fetcher, FetchSink } from "../../../src/actors/ports.ts";
import type { LockstepError } from "../../../src/errors.ts";
import type { Connection } from "../../../src/kafka/connection.ts";
import { createFetcher } from "../../../src/kafka/fetcher.ts";
import type { WireBroker } from "../../../src/kafka/wire.ts";
import { until } from "../../support/until.ts";

const TOPIC = "in";

type Request = Parameters<WireBroker["fetch"]>[0];
type Answer = Awaited<ReturnType<WireBroker["fetch"]>>;
/** Resolves with how many records each partition gives, or rejects for all of them. */
type Serve = (partitions: number[], offsets: number[]) => Promise<number>;

/** One topic, whose record at each offset is only its offset. A partition is led by `leaders`' broker of that number. */
class FakeCluster {
  readonly leaders: (number | null)[];
  readonly brokers = new Map<number, Serve>();
  refreshed = 0;
  onRefresh: () => void = () => {};

  constructor(leaders: (number | null)[]) {
    this.leaders = leaders;
  }

  connection(): Connection {
    const refresh = async () => {
      await pass();
      this.refreshed += 1;
      this.onRefresh();
    };
    let destroyed = false;
    return {
      get destroyed() {
        return destroyed;
      },
      watch: refresh,
      clusterId: async () => "cluster",
      refresh,
      partitions: () => this.leaders.map((_, partition) => partition),
      leader: (_, partition) => this.leaders[partition] ?? null,
      // Only `fetch` is ever asked of it.
      broker: async (nodeId) => ({ fetch: (request: Request) => this.#fetch(nodeId, request) }) as WireBroker,
      coordinator: () => Promise.reject(new Error("no coordinator is wanted")),
      forgetCoordinators: () => {},
      offsets: async () => new Map(),
      destroy: () => {
        destroyed = true;
      },
    };
  }

  async #fetch(nodeId: number, { topics }: Request): Promise<Answer> {
    const wanted = topics.flatMap(({ partitions }) => partitions);
    await pass();
    const count = await this.brokers.get(nodeId)!(
      wanted.map(({ partition }) => partition),
      wanted.map(({ fetchOffset }) => Number(fetchOffset)),
    );
    const partitions = wanted.map(({ partition, fetchOffset }) => ({
      partition,
      highWatermark: "1000000",
      lastStableOffset: "1000000",
      abortedTransactions: [],
      messages: Array.from({ length: count }, (_, i) => recordAt(Number(fetchOffset) + i)),
    }));
    return { responses: [{ topicName: TOPIC, partitions }] };
  }
}

function recordAt(offset: number) {
  return {
    offset: String(offset),
    timestamp: "0",
    key: null,
    value: null,
    headers: [],
    isControlRecord: false,
    batchContext: { firstOffset: String(offset), lastOffsetDelta: 0, producerId: "-1", inTransaction: false },
  };
}

/** Lets timers and the test itself run: a fake broker that answers at once would starve them. */
const pass = () => new Promise<void>((resolve) => setTimeout(resolve, 1));

const protocolError = (type: string) => Object.assign(new Error(type), { name: "KafkaJSProtocolError", type });

/** A promise and what settles it. */
function gate() {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open, opened };
}

class Sink implements FetchSink {
  readonly offsets: number[] = [];
  readonly unreadable: LockstepError[] = [];
  onFetched({ records }: Parameters<FetchSink["onFetched"]>[0]): void {
    this.offsets.push(...records.map(({ offset }) => Number(offset)));
  }
  onOutOfRange(): void {}
  onUnreadable(_: string, error: LockstepError): void {
    this.unreadable.push(error);
  }
  /** Resolves once `more` records came from now on. */
  async grows(more: number): Promise<void> {
    const end = this.offsets.length + more;
    await until(() => this.offsets.length >= end, { what: `${more} more records` });
  }
}

const fetchers: Fetcher[] = [];
afterEach(async () => {
  await Promise.all(fetchers.splice(0).map((fetcher) => fetcher.stop()));
});

function fetcherOf(cluster: FakeCluster): { fetcher: Fetcher; errors: LockstepError[] } {
  const errors: LockstepError[] = [];
  const fetcher = createFetcher({
    connection: cluster.connection(),
    topics: [TOPIC],
    maxWaitMs: 5,
    onError: (error) => errors.push(error),
  });
  fetchers.push(fetcher);
  return { fetcher, errors };
}

function openAll(fetcher: Fetcher, count: number): Sink[] {
  const sinks = Array.from({ length: count }, () => new Sink());
  for (const [shard, sink] of sinks.entries()) fetcher.open(shard, { [TOPIC]: 0n }, sink);
  return sinks;
}

const tiled = (count: number) => Array.from({ length: count }, (_, i) => i);

test("P5: at the start, what has a leader is fetched while another partition has none, which is reported by name", async () => {
  const cluster = new FakeCluster([null, null]);
  cluster.onRefresh = () => {
    cluster.leaders[0] = 1;
  };
  cluster.brokers.set(1, async () => 1);
  const { fetcher, errors } = fetcherOf(cluster);
  const [healthy, leaderless] = openAll(fetcher, 2);
  await healthy!.grows(5);
  const refreshed = cluster.refreshed;
  await until(() => cluster.refreshed >= refreshed + 3, { what: "the search to go on" });
  expect(errors.length).toBeLessThan(cluster.refreshed - 1); // One a second, not one a refresh.
  expect(errors[0]).toMatchObject({
    code: "KAFKA_UNAVAILABLE",
    details: { type: "LEADER_NOT_AVAILABLE", partitions: [`${TOPIC}/1`] },
  });
  expect(leaderless!.offsets).toEqual([]);

  cluster.leaders[1] = 1;
  await leaderless!.grows(1);
});

test("P5: a broker that failed once is asked again while another partition has no leader", async () => {
  const cluster = new FakeCluster([1, 1]);
  let failing = false;
  cluster.brokers.set(1, async () => {
    if (!failing) return 1;
    failing = false;
    throw Object.assign(new Error("closed"), { name: "KafkaJSConnectionError" });
  });
  const { fetcher } = fetcherOf(cluster);
  const [healthy, leaderless] = openAll(fetcher, 2);
  await healthy!.grows(2);
  failing = true;
  cluster.leaders[1] = null;
  await until(() => !failing, { what: "the failure" });
  const stopped = leaderless!.offsets.length;
  await healthy!.grows(10);
  expect(leaderless!.offsets).toHaveLength(stopped);
  expect(healthy!.offsets).toEqual(tiled(healthy!.offsets.length));
});

test("P5: a partition that is refused again and again halts alone, by name, and the others go on", async () => {
  const cluster = new FakeCluster([1, 1, 1]);
  let asked = 0;
  cluster.brokers.set(1, async (partitions) => {
    if (!partitions.includes(1)) return 1;
    if (partitions.length === 1) asked += 1;
    throw protocolError("TOPIC_AUTHORIZATION_FAILED");
  });
  const { fetcher, errors } = fetcherOf(cluster);
  const sinks = openAll(fetcher, 3);
  const halting = () => errors.filter(({ code, details }) => code === "KAFKA_UNSUITABLE" && "partition" in details);
  await sinks[0]!.grows(5);
  expect(halting()).toEqual([]);
  await until(() => halting().length > 0, { what: "the verdict" });
  expect(halting()[0]!.details).toMatchObject({ topic: TOPIC, partition: 1, type: "TOPIC_AUTHORIZATION_FAILED" });
  expect(asked).toBe(3);
  for (const partition of [0, 2]) {
    await sinks[partition]!.grows(5);
    expect(sinks[partition]!.offsets).toEqual(tiled(sinks[partition]!.offsets.length));
  }
  expect(asked).toBe(3);
  expect(halting()).toHaveLength(1);
});

test("P5: a decoder that fails twice, or whose failures differ, halts nothing; the same thrice does", async () => {
  const cluster = new FakeCluster([1]);
  const failures = ["a", "a", "b"];
  let broken = false;
  cluster.brokers.set(1, async () => {
    const message = broken ? "c" : failures.shift();
    if (message !== undefined) throw new TypeError(message);
    return 1;
  });
  const { fetcher, errors } = fetcherOf(cluster);
  const [sink] = openAll(fetcher, 1);
  await sink!.grows(3);
  expect(errors.every(({ code }) => code === "KAFKA_UNAVAILABLE")).toBe(true);
  broken = true;
  const fault = await until(() => errors.find(({ code }) => code === "KAFKA_UNSUITABLE"), { what: "the verdict" });
  expect(fault.details).toMatchObject({ topic: TOPIC, partition: 0 });
  expect(sink!.offsets).toEqual(tiled(sink!.offsets.length));
});

test("P6, P3: when a leader moves during a fetch, of both leaders' answers one is delivered, and the position never goes back", async () => {
  const cluster = new FakeCluster([1, 3]);
  const old = gate();
  let oldAsked = 0;
  let oldAnswered = false;
  let moved = false;
  // The old leader's answer is in transit until the new one has answered several times.
  cluster.brokers.set(1, async () => {
    oldAsked += 1;
    await old.opened;
    oldAnswered = true;
    return 2;
  });
  cluster.brokers.set(2, async () => 3);
  // Another broker's failure makes the metadata be read again, which tells of the move.
  cluster.brokers.set(3, async () => {
    if (moved) return 0;
    await until(() => oldAsked > 0, { what: "the old leader to be asked" });
    moved = true;
    throw protocolError("NOT_LEADER_FOR_PARTITION");
  });
  cluster.onRefresh = () => {
    if (moved) cluster.leaders[0] = 2;
  };
  const { fetcher } = fetcherOf(cluster);
  const [sink] = openAll(fetcher, 2);
  await sink!.grows(9);
  old.open();
  await until(() => oldAnswered, { what: "the old leader's answer" });
  await sink!.grows(9);
  expect(oldAsked).toBe(1);
  expect(sink!.offsets).toEqual(tiled(sink!.offsets.length));
});

test("P6: the old leader's answer counts when it comes first, and the new one's for the same position is dropped", async () => {
  const cluster = new FakeCluster([1, 3]);
  const [old, fresh] = [gate(), gate()];
  const newPositions: number[] = [];
  let [oldAsked, moved] = [false, false];
  cluster.brokers.set(1, async () => {
    oldAsked = true;
    await old.opened;
    return 2;
  });
  cluster.brokers.set(2, async (_, [offset]) => {
    newPositions.push(offset!);
    await fresh.opened;
    return 3;
  });
  cluster.brokers.set(3, async () => {
    if (moved) return 0;
    await until(() => oldAsked, { what: "the old leader to be asked" });
    moved = true;
    throw protocolError("NOT_LEADER_FOR_PARTITION");
  });
  cluster.onRefresh = () => {
    if (moved) cluster.leaders[0] = 2;
  };
  const { fetcher } = fetcherOf(cluster);
  const [sink] = openAll(fetcher, 2);
  await until(() => newPositions.length === 1, { what: "the new leader to be asked" });
  old.open();
  await until(() => sink!.offsets.length === 2, { what: "the old leader's answer" });
  fresh.open();
  await sink!.grows(6);
  expect(newPositions.slice(0, 2)).toEqual([0, 2]);
  expect(sink!.offsets).toEqual(tiled(sink!.offsets.length));
});

test("P7: a sink that throws halts its partition at that batch; resumed, it gets the same batch again", async () => {
  const cluster = new FakeCluster([1, 1]);
  cluster.brokers.set(1, async () => 1);
  const { fetcher, errors } = fetcherOf(cluster);
  const healthy = new Sink();
  let broken = true;
  const throwing = new (class extends Sink {
    override onFetched(batch: Parameters<FetchSink["onFetched"]>[0]): void {
      if (broken && batch.nextOffset === 4n) throw new Error("full");
      super.onFetched(batch);
    }
  })();
  fetcher.open(0, { [TOPIC]: 0n }, throwing);
  fetcher.open(1, { [TOPIC]: 0n }, healthy);
  await until(() => errors.length > 0, { what: "the fault" });
  await healthy.grows(10);
  expect(throwing.offsets).toEqual([0, 1, 2]);
  expect(errors).toHaveLength(1);
  expect(errors[0]).toMatchObject({ code: "INVARIANT_BROKEN", details: { topic: TOPIC, partition: 0 } });
  expect(throwing.unreadable).toEqual(errors);

  broken = false;
  fetcher.resume(0, TOPIC);
  await throwing.grows(3);
  expect(throwing.offsets).toEqual(tiled(throwing.offsets.length));
});
