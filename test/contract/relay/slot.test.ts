/** What a relay says of its slot, on a real server. */
import pg from "pg";
import { expect, test } from "vitest";

import { RelayBed } from "../../support/relay-bed.ts";
import { until } from "../../support/until.ts";

test("the log that a slot keeps is shown, also what another session's open transaction makes it keep", async () => {
  const bed = await RelayBed.open();
  const other = new pg.Client({ connectionString: bed.database.url });
  try {
    const relay = bed.start({ env: { LOCKSTEP_RELAY_POSITION_MS: "200" } });
    await bed.insert([0]);
    await bed.untilPublished(1);
    await other.connect();
    await other.query("BEGIN");
    await other.query("SELECT pg_current_xact_id()");
    await bed.insertMany(2_000, 1);
    await bed.untilPublished(2_001);
    // All is published and said to be, and yet the server must read again from where the open transaction began.
    // A report may have been measured before: what is waited for is one of this moment.
    const lag = await until(
      () => {
        const last = relay.reports.at(-1)!.lag;
        if (last === null || last.positionBytes === null) return false; // measured before it had a position
        return last.positionBytes < 1_000 && last.slotBytes > 100_000 && last;
      },
      { what: "a relay that is up to date, and a slot that keeps log" },
    );
    expect(lag.slotBytes).toBeGreaterThan(lag.positionBytes!);
  } finally {
    await other.end();
    await bed.close();
  }
});
