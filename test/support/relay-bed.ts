/**
 * What the contract tests of the relay share: a database with an outbox table as `migrate` makes it, topics of its own, and relays that
 * run in this process on the real servers.
 */
import { randomUUID } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";

import type { App } from "../../src/actors/app.ts";
import type { InputRecord } from "../../src/actors/record.ts";
import { type Config, loadConfig } from "../../src/config.ts";
import { createKafkaClient, type KafkaClient } from "../../src/kafka/client.ts";
import { readTopic } from "../../src/kafka/read-topic.ts";
import { applyTopics } from "../../src/kafka/topics.ts";
import type { Log } from "../../src/log.ts";
import app from "../../src/machines/trading/app.ts";
import type { RelaySettings } from "../../src/relay/context.ts";
import { createRelay, hostRelay, openRelayPorts } from "../../src/relay/open.ts";
import { parsePosition, type StoredPosition } from "../../src/relay/position.ts";
import { type ResyncOptions, resync } from "../../src/relay/resync.ts";
import type { RelayReport } from "../../src/relay/status.ts";
import { migrate } from "../../src/storage/migrate.ts";
import { createPool } from "../../src/storage/pool.ts";
import type { RelayPlan } from "../../src/storage/relay-set-up.ts";
import { openDatabase, type TestDatabase } from "./database.ts";
import { freshTopicPrefix, testStack } from "./stack.ts";
import { until } from "./until.ts";

const TABLE_SQL = `
  CREATE SCHEMA app;
  CREATE TABLE app.outbox (
    event_id uuid PRIMARY KEY, aggregate_type text, aggregate_id uuid, type text, payload jsonb, occurred_at timestamptz);`;

/** No NOT NULL: what the relay does with a NULL is to be seen. */
export interface Line {
  readonly event: string;
  readonly [field: string]: unknown;
}

export interface RunningRelay {
  readonly lines: Line[];
  readonly reports: RelayReport[];
  /** Until it has said so. */
  said(event: string): Promise<Line>;
  stop(): Promise<void>;
}

export class RelayBed {
  readonly database: TestDatabase;
  readonly app: App;
  readonly client: KafkaClient;
  readonly groupId: string;
  readonly topic: string;
  readonly #pool: pg.Pool;
  readonly #folder: string;
  readonly #running = new Set<RunningRelay>();

  private constructor(made: {
    database: TestDatabase;
    topic: string;
    groupId: string;
    folder: string;
    client: KafkaClient;
  }) {
    this.database = made.database;
    this.groupId = made.groupId;
    this.topic = made.topic;
    this.client = made.client;
    this.#folder = made.folder;
    this.app = { ...app, name: "trial", outboxTopic: made.topic, migrations: made.folder };
    this.#pool = new pg.Pool({ connectionString: made.database.url, max: 4 });
    this.#pool.on("error", () => {}); // a test has ended the session
  }

  /** Migrated, with topic and dead letters of 4 and 2 partitions. `of`: another database of the same group and topic. */
  static async open(
    options: {
      migrated?: boolean;
      tableSql?: string;
      topicConfig?: Record<string, string>;
      postgresUrl?: string;
      of?: RelayBed;
    } = {},
  ): Promise<RelayBed> {
    const database = await openDatabase(options.postgresUrl);
    const folder = await mkdtemp(join(tmpdir(), "relay-bed-"));
    await writeFile(join(folder, "0001-outbox.sql"), options.tableSql ?? TABLE_SQL);
    const client = createKafkaClient({ brokers: testStack().brokers, clientId: "contract" });
    const { topic = `${freshTopicPrefix()}orders`, groupId = `g-${randomUUID().slice(0, 8)}` } = options.of ?? {};
    const bed = new RelayBed({ database, topic, groupId, folder, client });
    await applyTopics(client, [
      { name: bed.topic, partitions: 4, config: options.topicConfig ?? {} },
      { name: `${bed.topic}.dlq`, partitions: 2, config: {} },
    ]);
    if (options.migrated !== false) await bed.migrate();
    return bed;
  }

  get plan(): RelayPlan {
    return { app: this.app.name, table: this.app.outboxTable, groupId: this.groupId };
  }

  async migrate(relay: RelayPlan | null = this.plan): Promise<void> {
    const log = { info: () => {}, warn: () => {} };
    const pool = createPool(this.database.url, { max: 2, applicationName: "contract", log });
    try {
      await migrate({ pool, app: this.app, log, relay });
    } finally {
      await pool.end();
    }
  }

  config(env: Record<string, string> = {}, url = this.database.url): Config {
    return loadConfig({
      LOCKSTEP_KAFKA_BROKERS: testStack().brokers.join(","),
      LOCKSTEP_DATABASE_URL: url,
      LOCKSTEP_RELAY_POSITION_MS: "200",
      LOCKSTEP_RELAY_TIMEOUT_MS: "2000",
      ...env,
    });
  }

  /** A relay in this process; looks again soon after a halt. */
  start(
    options: {
      env?: Record<string, string>;
      url?: string;
      settings?: Partial<RelaySettings>;
      hook?: (point: string) => void | Promise<void>;
    } = {},
  ): RunningRelay {
    const stop = new AbortController();
    const lines: Line[] = [];
    const reports: RelayReport[] = [];
    const ended = hostRelay(
      {
        app: this.app,
        config: this.config(options.env, options.url),
        groupId: this.groupId,
        log: collect(lines),
        onReport: (report) => reports.push(report),
        settings: { haltMs: 300, lockPollMs: 50, measureMs: 100, ...options.settings },
        ...(options.hook ? { hook: options.hook } : {}),
      },
      stop.signal,
    );
    const running: RunningRelay = {
      lines,
      reports,
      said: (event) => until(() => lines.find((line) => line.event === event), { what: `the relay to say "${event}"` }),
      stop: async () => {
        this.#running.delete(running);
        stop.abort();
        await ended;
      },
    };
    this.#running.add(running);
    return running;
  }

  async query<R extends pg.QueryResultRow>(sql: string, params: readonly unknown[] = []): Promise<R[]> {
    return (await this.#pool.query<R>(sql, [...params])).rows;
  }

  /** One row a call, or several in one database transaction; the payload tells them apart. @returns ids */
  async insert(numbers: readonly number[], change: Record<string, unknown> = {}): Promise<string[]> {
    const rows = numbers.map((n) => ({
      event_id: randomUUID(),
      aggregate_type: "order",
      aggregate_id: `00000000-0000-4000-8000-00000000000${n % 5}`,
      type: "Placed",
      payload: { n },
      occurred_at: new Date(Date.UTC(2026, 0, 1) + n).toISOString(),
      ...change,
    }));
    await this.query("INSERT INTO app.outbox SELECT * FROM json_populate_recordset(NULL::app.outbox, $1::json)", [
      JSON.stringify(rows),
    ]);
    return rows.map(({ event_id }) => event_id);
  }

  /** Rows numbered 0..count - 1 of one database transaction, made on the server. */
  async insertMany(count: number, from = 0): Promise<void> {
    await this.query(
      `INSERT INTO app.outbox SELECT gen_random_uuid(), 'order', ('00000000-0000-4000-8000-00000000000' || n % 5)::uuid, 'Placed',
         jsonb_build_object('n', n), '2026-01-01Z'::timestamptz + n * interval '1 ms' FROM generate_series($1::int, $2::int) n`,
      [from, from + count - 1],
    );
  }

  /** As a read_committed reader sees it. */
  async records(topic = this.topic): Promise<InputRecord[]> {
    const records: InputRecord[] = [];
    for await (const record of readTopic({ client: this.client, topic })) records.push(record);
    return records;
  }

  async untilPublished(count: number, timeoutMs = 30_000): Promise<InputRecord[]> {
    return until(
      async () => {
        const records = await this.records();
        return records.length >= count && records;
      },
      { what: `${count} records on ${this.topic}`, timeoutMs },
    );
  }

  async position(): Promise<StoredPosition | null> {
    const log = collect([]);
    const ports = openRelayPorts({ app: this.app, config: this.config(), groupId: this.groupId, log, hook: () => {} });
    try {
      const found = await ports.committed();
      return found && parsePosition(found.offset, found.metadata);
    } finally {
      await ports.close();
    }
  }

  async slot(): Promise<{ slot_name: string; confirmed: string; active_pid: number | null } | undefined> {
    const [row] = await this.query<{ slot_name: string; confirmed: string; active_pid: number | null }>(
      `SELECT slot_name, confirmed_flush_lsn::text AS confirmed, active_pid FROM pg_replication_slots
       WHERE slot_name = (SELECT slot FROM lockstep.relay)`,
    );
    return row;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#running].map((relay) => relay.stop()));
    // A slot that is left keeps its database from being dropped.
    await until(
      async () => {
        await this.query(
          `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()`,
        );
        return true;
      },
      { what: "the slots to be dropped" },
    );
    await this.#pool.end();
    await this.database.close();
    await rm(this.#folder, { recursive: true });
  }
}

/** As `lockstep relay resync --yes` does it; no relay may hold the lock meanwhile. */
export async function resyncOf(
  of: RelayBed,
  options: Partial<Pick<ResyncOptions, "since" | "dryRun" | "say" | "slotWait">> & {
    hook?: (point: string) => void;
  } = {},
) {
  const { hook = () => {}, ...rest } = options;
  const config = of.config({ LOCKSTEP_RELAY_TIMEOUT_MS: "20000" }); // nothing here waits for a lock to be lost
  const context = createRelay({ app: of.app, config, groupId: of.groupId, log: collect([]), hook });
  try {
    return await resync({
      context,
      client: of.client,
      databaseUrl: of.database.url,
      since: null,
      dryRun: false,
      say: () => {},
      ...rest,
    });
  } finally {
    await context.ports.close();
  }
}

/** The numbers of rows, in the order of each partition, partition after partition; by key they must ascend. */
export function numbersOf(records: readonly InputRecord[]): number[] {
  return records.map(({ value }) => (JSON.parse(String(value)) as { n: number }).n);
}

/** Each of 0..count - 1 once, and in order within each key. @returns sentences */
export function faultsOf(
  records: readonly InputRecord[],
  count: number,
): { lost: number; doubled: number; outOfOrder: number } {
  const seen = new Set<number>();
  const last = new Map<string, number>();
  let doubled = 0;
  let outOfOrder = 0;
  for (const [index, n] of numbersOf(records).entries()) {
    const key = String(records[index]!.key);
    if (seen.has(n)) doubled += 1;
    seen.add(n);
    if ((last.get(key) ?? -1) > n) outOfOrder += 1;
    last.set(key, n);
  }
  return { lost: count - seen.size, doubled, outOfOrder };
}

function collect(lines: Line[]): Log {
  const note = (object: object) => {
    if ("event" in object) lines.push(object as Line);
  };
  const log: Log = { debug: note, info: note, warn: note, error: note, child: () => log };
  return log;
}
