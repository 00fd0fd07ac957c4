/**
 * The ports in memory outside a simulation: nothing goes wrong, and virtual time passes by itself as long as anything is to come.
 */
import type { ShardStore } from "../../src/actors/ports.ts";
import { Cluster } from "../../src/testing/cluster.ts";
import { createFaults, NO_FAULTS } from "../../src/testing/faults.ts";
import { SimulatedProcess } from "../../src/testing/process.ts";
import { createMemoryPublisher } from "../../src/testing/publisher.ts";
import { createRandom } from "../../src/testing/random.ts";
import { createMemoryStore } from "../../src/testing/shard-store.ts";
import type { PublisherFixture, PublishPoint } from "../contract/kafka/publisher-port.ts";
import { type StoreFixture, take } from "../contract/storage/store-fixture.ts";
import { anApp } from "./an-app.ts";

const SHARDS = 64;

export interface MemoryWorld {
  readonly cluster: Cluster;
  process(name: string): SimulatedProcess;
  close(): Promise<void>;
}

/** A deployment in memory whose time runs. */
export function openMemoryWorld(shards = SHARDS): MemoryWorld {
  const random = createRandom(1);
  const cluster = new Cluster({
    app: anApp,
    shards,
    random,
    faults: createFaults(NO_FAULTS, random),
    tables: { "app.orders": { unique: [["id"]] }, "app.late": { unique: [["id"]] } },
  });
  let closing = false;
  const running = (async () => {
    while (!closing) {
      await cluster.schedule.runFor(1);
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  })();
  return {
    cluster,
    process: (name) => new SimulatedProcess(name, cluster.schedule),
    async close() {
      closing = true;
      await running;
    },
  };
}

export async function openMemoryStore(): Promise<StoreFixture> {
  const world = openMemoryWorld();
  const { postgres, network } = world.cluster;
  let stores = 0;
  const storeWith = (hook: (point: string) => void | Promise<void>): ShardStore => {
    stores += 1;
    const process = world.process(`client-${stores}`);
    return createMemoryStore({ postgres, network, process, random: createRandom(stores), appVersion: 1, hook });
  };
  const store = storeWith(() => {});
  let shards = 0;
  const nextShard = () => shards++;
  return {
    store,
    storeWith,
    nextShard,
    async freshShard() {
      const ownership = await take(store, nextShard());
      await store.fixStart(ownership, { a: 0n, b: 0n });
      return ownership;
    },
    async written(shard) {
      const { row, journal, redo } = postgres.of(shard);
      const orders = postgres.rows.filter((one) => one.table === "app.orders" && one.shard === shard).length;
      return { seq: row.seq, journal: journal.map(({ seq }) => seq), redo: redo.map(({ seq }) => seq), orders };
    },
    async kept(shard) {
      const keys = [...postgres.pieces.keys()].map((key) => key.split("/").map(Number));
      const pieces = new Set(keys.filter(([of]) => of === shard).map(([, seq]) => seq!));
      return {
        snapshots: postgres.of(shard).snapshots.map(({ manifest }) => manifest.seq),
        pieces: [...pieces].sort((a, b) => a - b),
      };
    },
    async ageJournal(shard, ms) {
      const tables = postgres.of(shard);
      tables.journal = tables.journal.map((row) => ({ ...row, writtenAtMs: row.writtenAtMs - ms }));
    },
    close: world.close,
  };
}

export async function openMemoryPublishers(): Promise<PublisherFixture> {
  const world = openMemoryWorld(2);
  const { kafka, network } = world.cluster;
  let scenes = 0;
  return {
    async scene({ hook = () => {} } = {}) {
      scenes += 1;
      const inputs = [`in-a-${scenes}`, `in-b-${scenes}`];
      const output = `out-${scenes}`;
      for (const topic of [...inputs, output]) kafka.createTopic(topic, 2);
      const publisher = createMemoryPublisher({
        kafka,
        network,
        process: world.process(`publisher-${scenes}`),
        topics: inputs,
        transactionTimeoutMs: 600_000, // virtual time passes fast while a test waits
        hook: (point) => hook(point as PublishPoint),
      });
      const positionsAt = (a: bigint, b: bigint) => ({ [inputs[0]!]: a, [inputs[1]!]: b });
      return { inputs, output, publisher, positionsAt, id: `group-${scenes}-1` };
    },
    read: async (topic) => kafka.readTopic(topic),
    close: world.close,
  };
}
