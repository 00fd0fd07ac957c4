/** What a relay makes of a contradiction: with the lock it halts, without it somebody else works. */
import { expect, test } from "vitest";

import { systemClock } from "../../../src/clock.ts";
import { LockstepError } from "../../../src/errors.ts";
import type { RelayContext } from "../../../src/relay/context.ts";
import { runRelay } from "../../../src/relay/relay.ts";
import { RelayObserver } from "../../../src/relay/status.ts";
import { until } from "../../support/until.ts";

/** A relay that has the lock and finds a contradiction as soon as it looks. */
async function contradicted(unlock: () => Promise<void>) {
  const lines: string[] = [];
  const say = (fields: object) => {
    lines.push((fields as { event: string }).event);
  };
  const stop = new AbortController();
  const observer = new RelayObserver();
  const states = new Set<string>();
  const context = {
    app: "app",
    groupId: "group",
    settings: { lockPollMs: 1, haltMs: 60_000, measureMs: 60_000 },
    observer,
    log: { debug() {}, info: say, warn: say, error: say },
    clock: systemClock,
    hook: () => {},
    ports: {
      openSession: async () => ({
        tryLock: async () => true,
        unlock,
        lost: new AbortController().signal,
        // It still answers that it is there, and not what the relay measures beside its work.
        query: async (sql: string) => {
          if (sql === "SELECT") return [];
          throw new LockstepError("STORE_UNAVAILABLE", "The session is over.");
        },
        close: async () => {},
      }),
      fence: async () => {
        throw new LockstepError("RELAY_POSITION_CONTRADICTS", "The slot has moved on.");
      },
    },
  } as unknown as RelayContext;
  const ended = runRelay(context, stop.signal);
  await until(
    () => {
      states.add(observer.state);
      return lines.length > 0;
    },
    { what: "the relay to say something" },
  );
  stop.abort();
  await ended;
  return { lines, states };
}

test("a relay that has the lock halts on a contradiction", async () => {
  const { lines, states } = await contradicted(async () => {});
  expect(lines[0]).toBe("relay-halted");
  expect(states).toContain("halted");
});

test("a relay whose session is over has not halted, whatever it found", async () => {
  const { lines, states } = await contradicted(async () => {
    throw new LockstepError("STORE_UNAVAILABLE", "The session is over.");
  });
  expect(lines[0]).toBe("relay-retrying");
  expect(states).not.toContain("halted");
});
