/**
 * A shard on ports in memory. The app adds numbers up per key: every record is published, and inserted as a row, with the sum so
 * far, so that a record lost, doubled or moved shows in what comes out.
 */

import { expect } from "vitest";
import { assign, emit, setup } from "xstate";

import { defineApp, input, insert, publish, type Schema } from "../../../src/actors/app.ts";
import { QueueBudget } from "../../../src/actors/queue-budget.ts";
import type { Log } from "../../../src/log.ts";
import { createLifeLog, type LifeLog } from "../../../src/runtime/life-log.ts";
import { Shard } from "../../../src/runtime/shard.ts";
import type { ShardContext, ShardSettings } from "../../../src/runtime/shard-context.ts";
import { ShardMeter } from "../../../src/runtime/shard-meter.ts";
import { Series } from "../../../src/telemetry/series.ts";
import { FakeClock, FakeInputs, FakePublisher, FakeStore } from "../../support/fake-ports.ts";

interface Add {
  readonly key: string;
  readonly n: number;
}

const added: Schema<Add> = {
  "~standard": { version: 1, vendor: "test", validate: (value) => ({ value: value as Add }) },
};

const tally = setup({
  types: {
    context: {} as { sum: number },
    events: {} as Add & { type: "add"; streamTimeMs: number },
    emitted: {} as { type: "added"; key: string; n: number; sum: number },
  },
}).createMachine({
  id: "tally",
  context: { sum: 0 },
  on: {
    add: {
      actions: [
        assign({ sum: ({ context, event }) => context.sum + event.n }),
        emit(({ context, event }) => ({ type: "added", key: event.key, n: event.n, sum: context.sum })),
      ],
    },
  },
});

const app = defineApp("sums", {
  inputs: { in: input("add", { schema: added, time: ({ n }) => n }) },
  actors: { tally: { machine: tally, on: { add: ({ key }) => key } } },
  emits: {
    added: [publish("out", { key: ({ key }) => key }), insert("app.sums", ({ key, n, sum }) => ({ key, n, sum }))],
  },
});

const SETTINGS: ShardSettings = {
  handoverMs: 100,
  batchRecordsMax: 100,
  batchBytesMax: 1_000_000,
  inputWaitMsMax: 10,
  idleMs: 1, // the loop's own wait is on the real clock
  confirmIdleMs: 1_000,
  ownerCheckMs: 5_000,
  snapshotCommits: 1_000,
  snapshotRecords: 1_000_000,
  snapshotMs: 1e12,
  journalKeepMs: 0,
  queueRecordsHigh: 1_000,
  timersPerCommit: 100,
  outputBytesMax: 1_000_000,
  outputRecordsMax: 1_000,
};

export interface Told {
  readonly event: keyof LifeLog;
  readonly details: unknown;
}

export class Bed {
  readonly clock = new FakeClock();
  readonly inputs = new FakeInputs(["in"], this.clock);
  readonly store = new FakeStore();
  readonly publisher = new FakePublisher(this.inputs);
  /** What the shards' logs were told, in order. */
  readonly told: Told[] = [];
  /** Heartbeats and joins that the coordinator has answered. */
  answered = 0;
  hook: ShardContext["hook"] = () => {};
  readonly series = new Series();
  readonly meter = this.newMeter("me");
  /** Where steps are watched; absent: nobody does. */
  watch: ShardContext["watch"];
  #tokens = 0;
  #appended = 0;

  /** Of another worker; what it counts is added to the same series. */
  newMeter(owner: string): ShardMeter {
    const { series, clock } = this;
    return new ShardMeter({ shard: 0, owner, topics: ["in"], series, clock, budget: { left: 100 } });
  }

  start(settings: Partial<ShardSettings> = {}, owner = "me", meter = this.meter): Shard {
    const context: ShardContext = {
      ...(this.watch ? { watch: this.watch } : {}),
      app,
      shard: 0,
      shardCount: 1,
      instance: "main",
      clusterId: "cluster",
      owner,
      code: "code",
      transactionalId: "sums-main-0",
      store: this.store,
      publisher: this.publisher,
      fetcher: this.inputs,
      queueBudget: new QueueBudget(10_000_000),
      openReader: () => this.inputs.openReader(),
      model: {
        app,
        shard: 0,
        partitionsOf: () => 1,
        strict: false,
        ...(this.watch ? { watch: this.watch.steps } : {}),
        limits: { timersPerCommit: 100, outputBytesMax: () => 1_000_000 },
      },
      clock: this.clock,
      ids: {
        token: () => {
          this.#tokens += 1;
          return `t${this.#tokens}`;
        },
      },
      log: meter.watch(this.#log()),
      meter,
      hook: (point) => this.hook(point),
      settings: { ...SETTINGS, ...settings },
    };
    return new Shard({ context, answered: () => this.answered });
  }

  /** Appends that many records, of two keys in turn: the n-th record adds n. */
  append(count: number): void {
    const records = Array.from({ length: count }, (_, i) => {
      const n = this.#appended + i + 1;
      return { key: n % 2 === 0 ? "even" : "odd", n };
    });
    this.#appended += count;
    this.inputs.append(
      "in",
      records.map((value) => ({ key: value.key, value, timestampMs: value.n })),
    );
  }

  /** Details of each line of that name. */
  lines(event: keyof LifeLog): unknown[] {
    return this.told.filter((told) => told.event === event).map(({ details }) => details);
  }

  /** Writes to Kafka and Postgres that took effect. */
  get writes(): number {
    return this.store.writes.length + this.publisher.writes.length;
  }

  /** Every record appended took effect once, in order, in Kafka and in Postgres; those of `refused` in dead letters alone. */
  expectExactlyOnce(refused: readonly number[] = []): void {
    const sums: Record<string, number> = { odd: 0, even: 0 };
    const expected: unknown[] = [];
    for (let n = 1; n <= this.#appended; n += 1) {
      if (refused.includes(n)) continue;
      const key = n % 2 === 0 ? "even" : "odd";
      sums[key]! += n;
      expected.push({ key, n, sum: sums[key] });
    }
    const outs = this.publisher.records.filter(({ topic }) => topic === "out");
    expect(outs.map(({ value }) => JSON.parse(String(value)))).toEqual(expected);
    expect(this.store.rows.map(({ row }) => row)).toEqual(expected);
    const letters = this.publisher.records.filter(({ topic }) => topic === "in.dlq");
    expect(letters.map(({ value }) => JSON.parse(String(value)).n)).toEqual(refused);
  }

  #log(): LifeLog {
    const events = Object.keys(createLifeLog({} as Log)) as (keyof LifeLog)[];
    const tell = (event: keyof LifeLog) => (details: unknown) => this.told.push({ event, details });
    return Object.fromEntries(events.map((event) => [event, tell(event)])) as unknown as LifeLog;
  }
}
