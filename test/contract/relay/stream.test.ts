/**
 * The stream of Postgres' log against a real server: the five traps of a client for it, and what it promises.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";

import { LockstepError } from "../../../src/errors.ts";
import { type Stack, startStack } from "../../../src/stack/index.ts";
import { formatLsn, parseLsn } from "../../../src/storage/lsn.ts";
import {
  openReplicationStream,
  type ReplicationStream,
  type StreamEvent,
} from "../../../src/storage/replication-stream.ts";
import { numbersOf, RelayBed } from "../../support/relay-bed.ts";
import { TcpProxy } from "../../support/tcp-proxy.ts";
import { until } from "../../support/until.ts";

const FOREVER = new AbortController().signal;
/** Several status messages and keep-alives are exchanged in this time, whatever the machine does. */
const TIMEOUT_MS = 1_000;

let bed: RelayBed;
let streams: ReplicationStream[] = [];

beforeAll(async () => {
  bed = await RelayBed.open();
});
afterAll(async () => {
  await bed?.close();
});
beforeEach(() => async () => {
  await Promise.all(streams.map((stream) => stream.close()));
  streams = [];
});

async function open({
  of = bed,
  ...options
}: {
  of?: RelayBed;
  startLsn?: bigint;
  url?: string;
  timeoutMs?: number;
} = {}): Promise<ReplicationStream> {
  const slot = (await until(() => of.slot(), { what: "the slot" }))!;
  const stream = await until(
    () =>
      openReplicationStream({
        url: of.database.url,
        applicationName: "contract-stream",
        slot: slot.slot_name,
        publication: "lockstep_relay_trial",
        startLsn: parseLsn(slot.confirmed),
        timeoutMs: TIMEOUT_MS,
        signal: FOREVER,
        ...options,
      }),
    { what: "the slot to be free" },
  );
  streams.push(stream);
  return stream;
}

/** Numbers of rows, as they come, until `count` of them are there. */
async function takeRows(
  stream: ReplicationStream,
  count: number,
): Promise<{ numbers: number[]; events: StreamEvent[] }> {
  const events: StreamEvent[] = [];
  const rows = () => events.filter((event) => event.kind === "insert");
  const whole = () => events.findLast((event) => event.kind !== "reached")?.kind === "commit";
  const endMs = performance.now() + 30_000;
  while (rows().length < count || !whole()) {
    if (performance.now() > endMs) throw new Error(`only ${rows().length} of ${count} rows came`);
    events.push(...(await stream.take(100, FOREVER)));
  }
  return { numbers: rows().map(numberOf), events };
}

function numberOf({ values }: Extract<StreamEvent, { kind: "insert" }>): number {
  return (JSON.parse(String(values.get("payload"))) as { n: number }).n;
}

function endOf(events: readonly StreamEvent[]): bigint {
  const last = events.findLast((event) => event.kind === "commit");
  return last!.endLsn;
}

test("trap 1, RS1: what was received and not acknowledged comes again, however long the stream was idle", async () => {
  const before = (await bed.slot())!.confirmed;
  await bed.insert([1, 2]);
  const first = await open();
  expect((await takeRows(first, 2)).numbers).toEqual([1, 2]);
  // Through many status messages, one of which would confirm what was received.
  const endMs = performance.now() + TIMEOUT_MS * 3;
  while (performance.now() < endMs) await first.take(100, FOREVER);
  await first.close();
  expect((await bed.slot())!.confirmed).toBe(before);
  const second = await open();
  const again = await takeRows(second, 2);
  expect(again.numbers).toEqual([1, 2]);
  second.acknowledge(endOf(again.events));
  await until(async () => parseLsn((await bed.slot())!.confirmed) === endOf(again.events), {
    what: "the slot to be told",
  });
});

test("trap 2, RS3: after a cut a new stream brings every row that was not acknowledged", async () => {
  const { hostname, port } = new URL(bed.database.url);
  const proxy = await TcpProxy.open({ host: hostname, port: Number(port) });
  try {
    const url = new URL(bed.database.url);
    url.port = String(proxy.port);
    const first = await open({ url: url.href });
    for (const n of [10, 11, 12, 13]) await bed.insert([n]);
    const { events } = await takeRows(first, 4);
    const acknowledged = events.find((event) => event.kind === "commit")!;
    first.acknowledge((acknowledged as { endLsn: bigint }).endLsn);
    await until(async () => (await bed.slot())!.confirmed === formatLsn((acknowledged as { endLsn: bigint }).endLsn), {
      what: "the slot to be told",
    });
    proxy.cut();
    await expect(async () => {
      for (;;) await first.take(50, FOREVER);
    }).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
    const second = await open();
    const again = await takeRows(second, 3);
    expect(again.numbers).toEqual([11, 12, 13]);
    second.acknowledge(endOf(again.events));
    await sleep(100); // on the same socket, before its end
  } finally {
    await proxy.close();
  }
});

test("RS4: a line that has died without a word is noticed", async () => {
  const { hostname, port } = new URL(bed.database.url);
  const proxy = await TcpProxy.open({ host: hostname, port: Number(port) });
  try {
    const url = new URL(bed.database.url);
    url.port = String(proxy.port);
    const stream = await open({ url: url.href });
    await stream.take(500, FOREVER);
    proxy.toxics.dropReplies = true;
    await expect(async () => {
      for (;;) await stream.take(100, FOREVER);
    }).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
  } finally {
    await proxy.close();
  }
});

test("trap 4, RS2: within one huge database transaction memory is bounded, and reading goes on where it paused", async () => {
  const stream = await open({ timeoutMs: 5_000 });
  const rows = 40_000; // some 16 MB in the log
  await bed.query(
    `INSERT INTO app.outbox SELECT gen_random_uuid(), 'order', gen_random_uuid(), 'Placed', jsonb_build_object('n', n, 'pad', repeat('x', 250)), now()
     FROM generate_series(1, $1::int) n`,
    [rows],
  );
  await until(() => stream.queuedBytes > 8 * 1_048_576, { what: "the queue to fill" });
  await sleep(2_000); // nobody reads: the server would have sent all of it by now
  expect(stream.queuedBytes).toBeLessThan(9.5 * 1_048_576);
  const { numbers, events } = await takeRows(stream, rows);
  expect(numbers).toEqual(Array.from({ length: rows }, (_, i) => i + 1));
  stream.acknowledge(endOf(events));
  await until(async () => parseLsn((await bed.slot())!.confirmed) >= endOf(events), { what: "the slot to be told" });
});

describe("trap 5, RI7: values are what Postgres prints", () => {
  test.each([
    ["a decimal", '{"qty": 1.20000000, "price": 64210.50}'],
    ["a number beyond a double", '{"n": 12345678901234567890.12345678901234567890}'],
    ["text of any kind", '{"text": "caf\\u00e9 \\ud83d\\ude00 \\" \\\\ "}'],
    ["a toasted one", JSON.stringify({ pad: "x".repeat(600_000), n: 1 })],
    [
      "one that does not compress",
      JSON.stringify({ pad: Array.from({ length: 20_000 }, (_, i) => ((i * 2654435761) >>> 0).toString(36)).join("") }),
    ],
  ])("%s", async (_, payload) => {
    const stream = await open({ timeoutMs: 5_000 });
    const [row] = await bed.query<{ id: string; payload: string; at: string }>(
      `INSERT INTO app.outbox VALUES (gen_random_uuid(), 'order', gen_random_uuid(), 'Placed', $1::jsonb, '2026-11-21 03:22:06.034266+03')
       RETURNING event_id::text AS id, payload::text, occurred_at::text AS at`,
      [payload],
    );
    const { events } = await takeRows(stream, 1);
    const values = events.find((event) => event.kind === "insert")!.values;
    expect(String(values.get("payload"))).toBe(row!.payload);
    expect(String(values.get("event_id"))).toBe(row!.id);
    expect(String(values.get("occurred_at"))).toBe("2026-11-21 00:22:06.034266+00");
    stream.acknowledge(endOf(events));
    await until(async () => parseLsn((await bed.slot())!.confirmed) >= endOf(events), { what: "the slot to be told" });
  });
});

test("UPDATE, DELETE and TRUNCATE bring nothing, and a row deleted in its own transaction comes all the same", async () => {
  const stream = await open();
  await bed.insert([20]);
  await bed.query(`UPDATE app.outbox SET payload = '{"n": 999}'`);
  await bed.query("DELETE FROM app.outbox");
  await bed.query("TRUNCATE app.outbox");
  await bed.query(
    `BEGIN; INSERT INTO app.outbox VALUES (gen_random_uuid(), 'order', gen_random_uuid(), 'Placed', '{"n": 21}', now()); DELETE FROM app.outbox; COMMIT`,
  );
  await bed.insert([22]);
  const { numbers, events } = await takeRows(stream, 3);
  expect(numbers).toEqual([20, 21, 22]);
  stream.acknowledge(endOf(events));
  await sleep(100);
});

test("a slot that is not there is lost, not unavailable", async () => {
  await expect(
    openReplicationStream({
      url: bed.database.url,
      applicationName: "x",
      slot: "nobody",
      publication: "p",
      startLsn: 0n,
      signal: FOREVER,
    }),
  ).rejects.toMatchObject({ code: "RELAY_SLOT_LOST" });
});

describe("a server of its own", () => {
  let stack: Stack;
  let own: RelayBed;
  beforeEach(async () => {
    stack = await startStack({ kafka: false });
    own = await RelayBed.open({ postgresUrl: stack.postgres!.url });
    // Emptied by recovery after a crash, and by nothing else: it tells how the server was stopped.
    await own.query("CREATE UNLOGGED TABLE witness AS SELECT 1 AS n");
    return async () => {
      await Promise.all(streams.map((stream) => stream.close())); // else the slot is in use
      await own.close();
      await stack.stop();
    };
  });

  async function wasStoppedInOrder(): Promise<boolean> {
    return (await until(() => own.query("SELECT FROM witness"), { what: "Postgres to serve again" })).length === 1;
  }

  test("trap 3: a shutdown in order waits until what it has sent is confirmed, and exactly that is what the stream confirms", async () => {
    const first = await open({ of: own });
    for (const n of [1, 2, 3]) await own.insert([n]);
    const numbers: number[] = [];
    let told = 0n;
    const confirming = (async () => {
      for (;;) {
        for (const event of await first.take(100, FOREVER)) {
          if (event.kind === "insert") numbers.push(numberOf(event));
          if (event.kind !== "commit" && event.kind !== "reached") continue;
          first.acknowledge(event.endLsn);
          told = event.endLsn;
        }
      }
    })();
    const ended = expect(confirming).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
    await until(() => numbers.length === 3, { what: "three rows" });
    await own.query("CREATE TABLE noise AS SELECT generate_series(1, 1000) AS n"); // log that brings no row
    await stack.postgres!.stop(); // a crash instead, should it not come to its end
    await ended;
    await stack.postgres!.start();
    expect(await wasStoppedInOrder()).toBe(true);
    expect(parseLsn((await own.slot())!.confirmed)).toBe(told);
    await own.insert([4]);
    const second = await open({ of: own });
    expect((await takeRows(second, 1)).numbers).toEqual([4]);
  });

  test("R8: after a crash of the server a new stream brings every row that was not acknowledged", async () => {
    const first = await open({ of: own });
    for (const n of [1, 2, 3]) await own.insert([n]);
    const { numbers, events } = await takeRows(first, 3);
    expect(numbers).toEqual([1, 2, 3]);
    const { endLsn } = events.find((event) => event.kind === "commit")!;
    first.acknowledge(endLsn);
    await until(async () => parseLsn((await own.slot())!.confirmed) === endLsn, { what: "the slot to be told" });
    await stack.postgres!.stop({ immediate: true });
    await expect(async () => {
      for (;;) await first.take(50, FOREVER);
    }).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
    await stack.postgres!.start();
    expect(await wasStoppedInOrder()).toBe(false);
    // What the slot had been told since its last checkpoint is forgotten with the crash; the position is not.
    expect(parseLsn((await own.slot())!.confirmed)).toBeLessThanOrEqual(endLsn);
    const second = await open({ of: own, startLsn: endLsn });
    expect((await takeRows(second, 2)).numbers).toEqual([2, 3]);
  });

  test("trap 3, R8: a working relay does not hold up a shutdown in order, and no row is lost by it", async () => {
    const relay = own.start({ env: { LOCKSTEP_RELAY_POSITION_MS: "3600000" } });
    await relay.said("relay-running");
    await own.insert([1, 2, 3]);
    await own.untilPublished(3);
    // Log of others, which the relay was not told to confirm for an hour.
    await own.query("CREATE TABLE noise AS SELECT generate_series(1, 1000) AS n");
    await stack.postgres!.stop();
    await stack.postgres!.start();
    expect(await wasStoppedInOrder()).toBe(true);
    await until(() => own.insert([4]), { what: "Postgres to serve again" });
    const numbers = numbersOf(await own.untilPublished(4));
    expect(numbers.sort((a, b) => a - b)).toEqual([1, 2, 3, 4]);
  });
});

test("trap 4, RI2: a publish that fails is not passed over: what is queued behind it confirms nothing, and it comes again", async () => {
  const own = await RelayBed.open();
  let attempts = 0;
  let fails = false;
  let queued = async (): Promise<unknown> => null;
  let again = false;
  let look = (): void => {};
  const looked = new Promise<void>((resolve) => {
    look = resolve;
  });
  try {
    const relay = own.start({
      env: { LOCKSTEP_RELAY_POSITION_MS: "3600000", LOCKSTEP_RELAY_BATCH_RECORDS_MAX: "1" },
      hook: async (point) => {
        if (point === "before-publish") attempts += 1;
        if (point === "kafka.before-end" && fails) {
          fails = false;
          await queued();
          throw new LockstepError("KAFKA_UNAVAILABLE", "The answer did not come.");
        }
        if (point === "position-read" && attempts > 0) {
          again = true;
          await looked;
        }
      },
    });
    await relay.said("relay-running");
    const { confirmed } = (await own.slot())!;
    fails = true;
    let behind = 0n;
    queued = async () => {
      for (const n of [1, 2, 3]) await own.insert([n]);
      const [end] = await own.query<{ lsn: string }>("SELECT pg_current_wal_flush_lsn()::text AS lsn");
      behind = parseLsn(end!.lsn);
      await until(
        async () => {
          const [line] = await own.query<{ sent: string }>(
            "SELECT sent_lsn::text AS sent FROM pg_stat_replication JOIN pg_replication_slots s ON s.active_pid = pid WHERE s.slot_name = $1",
            [(await own.slot())!.slot_name],
          );
          return parseLsn(line!.sent) >= behind;
        },
        { what: "the rows behind it to be sent" },
      );
    };
    await own.insert([0]);
    await until(() => again, { what: "the next session" });
    expect(attempts).toBe(1);
    expect(parseLsn(confirmed)).toBeLessThan(behind);
    expect((await own.slot())!.confirmed).toBe(confirmed);
    expect(await own.records()).toEqual([]);
    look();
    expect(numbersOf(await own.untilPublished(4)).sort()).toEqual([0, 1, 2, 3]);
    expect(attempts).toBe(5);
  } finally {
    look();
    await own.close();
  }
});
