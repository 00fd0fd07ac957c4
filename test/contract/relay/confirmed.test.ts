/**
 * RI2 where it could break: the relay is held at every point of its Kafka transactions, long enough for it to have told the server
 * several times how far it is, and at each of them what the slot was told is laid beside what Kafka has.
 */
import { afterEach, expect, test } from "vitest";

import { parseLsn } from "../../../src/storage/lsn.ts";
import { faultsOf, RelayBed } from "../../support/relay-bed.ts";
import { until } from "../../support/until.ts";

let bed: RelayBed | null = null;
afterEach(async () => {
  await bed?.close();
  bed = null;
});

interface Look {
  readonly point: string;
  /** E of what Kafka has for good. */
  readonly published: bigint;
  readonly confirmed: bigint;
  /** How far the server has sent the log. */
  readonly sent: bigint;
}

test("RI2: at no point of a Kafka transaction, however long it takes, has the slot been told more than Kafka has", async () => {
  bed = await RelayBed.open();
  const it = bed;
  const looks: Look[] = [];
  let watching = false;
  let published = 0n;
  const relay = it.start({
    env: { LOCKSTEP_RELAY_BATCH_RECORDS_MAX: "3", LOCKSTEP_RELAY_TIMEOUT_MS: "1000" },
    hook: async (point) => {
      if (!watching || !["before-publish", "kafka.produced", "kafka.before-end", "published"].includes(point)) return;
      const heard: string[] = [];
      const look = await until(
        async () => {
          const seen = await told(it);
          if (!heard.includes(seen.replied)) heard.push(seen.replied);
          return heard.length > 3 && seen; // three status messages since
        },
        { what: "the server to hear of the relay" },
      );
      if (point === "published") published = (await it.position())!.position.lsn;
      looks.push({ point, published, confirmed: look.confirmed, sent: look.sent });
    },
  });
  await relay.said("relay-running");
  published = (await it.position())!.position.lsn;
  watching = true;
  await it.insertMany(5); // two Kafka transactions, the first of which ends inside the database's
  await it.insertMany(2, 5);
  expect(faultsOf(await it.untilPublished(7), 7)).toEqual({ lost: 0, doubled: 0, outOfOrder: 0 });
  await until(() => looks.filter(({ point }) => point === "published").length >= 2, { what: "it to be looked at" });
  watching = false;

  expect(looks.filter(({ confirmed, published: e }) => confirmed > e)).toEqual([]);
  // It could have been: at these moments the server had sent more than Kafka had.
  const ahead = looks.filter(({ sent, published: e }) => sent > e).map(({ point }) => point);
  expect(ahead).toEqual(expect.arrayContaining(["before-publish", "kafka.produced", "kafka.before-end"]));
  const end = (await it.position())!.position.lsn;
  await until(async () => (await told(it)).confirmed >= end, { what: "the slot to be told in the end" });
});

async function told(it: RelayBed): Promise<{ confirmed: bigint; sent: bigint; replied: string }> {
  // The slot's own figure is set by the walsender, and may follow what it was told by a moment.
  const [row] = await it.query<{ confirmed: string; sent: string; replied: string }>(
    `SELECT greatest(s.confirmed_flush_lsn, r.flush_lsn)::text AS confirmed, r.sent_lsn::text AS sent, r.reply_time::text AS replied
     FROM pg_replication_slots s JOIN pg_stat_replication r ON r.pid = s.active_pid
     WHERE s.slot_name = (SELECT slot FROM lockstep.relay)`,
  );
  return { confirmed: parseLsn(row!.confirmed), sent: parseLsn(row!.sent), replied: row!.replied };
}
