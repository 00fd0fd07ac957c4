/**
 * What a relay makes of a contradiction: with the lock it halts, without it somebody else works. And what it says and keeps while it cannot work.
 */
import { getEventListeners } from "node:events";
import { expect, test, vi } from "vitest";

import { systemClock } from "../../../src/clock.ts";
import { LockstepError } from "../../../src/errors.ts";
import type { RelayContext } from "../../../src/relay/context.ts";
import { runRelay } from "../../../src/relay/relay.ts";
import { RelayObserver } from "../../../src/relay/status.ts";
import type { LockSession } from "../../../src/storage/relay-lock.ts";
import { until } from "../../support/until.ts";

const gone = () => new LockstepError("STORE_UNAVAILABLE", "The session is over.");

/** A session that has the lock, as far as it is not changed. */
function sessionOf(change: Partial<LockSession> = {}): LockSession {
  return {
    tryLock: async () => true,
    unlock: async () => {},
    lost: new AbortController().signal,
    // It still answers that it is there, and not what the relay measures beside its work.
    query: async (sql: string) => {
      if (sql === "SELECT") return [];
      throw gone();
    },
    close: async () => {},
    ...change,
  };
}

const contradiction = async () => {
  throw new LockstepError("RELAY_POSITION_CONTRADICTS", "The slot has moved on.");
};

/** A relay that gets no further than the fence. */
function startRelay(parts: {
  openSession: () => Promise<LockSession>;
  fence?: () => Promise<never>;
  settings?: { haltMs?: number };
}) {
  const lines: string[] = [];
  const say = (fields: object) => {
    lines.push((fields as { event: string }).event);
  };
  const stop = new AbortController();
  const observer = new RelayObserver();
  const context = {
    app: "app",
    groupId: "group",
    settings: { lockPollMs: 1, haltMs: 60_000, measureMs: 60_000, ...parts.settings },
    observer,
    log: { debug() {}, info: say, warn: say, error: say },
    clock: systemClock,
    hook: () => {},
    ports: { openSession: parts.openSession, fence: parts.fence ?? contradiction },
  } as unknown as RelayContext;
  const ended = runRelay(context, stop.signal);
  const end = async () => {
    stop.abort();
    await ended;
  };
  return { lines, observer, signal: stop.signal, end };
}

async function contradicted(unlock: () => Promise<void>) {
  const states = new Set<string>();
  const { lines, observer, end } = startRelay({ openSession: async () => sessionOf({ unlock }) });
  await until(
    () => {
      states.add(observer.state);
      return lines.length > 0;
    },
    { what: "the relay to say something" },
  );
  await end();
  return { lines, states };
}

test("a relay that has the lock halts on a contradiction", async () => {
  const { lines, states } = await contradicted(async () => {});
  expect(lines[0]).toBe("relay-halted");
  expect(states).toContain("halted");
});

test("a relay whose session is over has not halted, whatever it found", async () => {
  const { lines, states } = await contradicted(async () => {
    throw gone();
  });
  expect(lines[0]).toBe("relay-retrying");
  expect(states).not.toContain("halted");
});

test("RI11: a relay that has lost Postgres, and does not get it back, is starting, with the reason, and ages; standing by it is well again", async () => {
  const lost = new AbortController();
  let sessions = 0;
  let answers = false;
  const relay = startRelay({
    openSession: async () => {
      sessions += 1;
      if (sessions === 1) return sessionOf({ lost: lost.signal });
      if (!answers) throw gone();
      return sessionOf({ tryLock: async () => false });
    },
    fence: async () => {
      Object.assign(relay.observer, { state: "running", pending: 7 }); // as a session that has got further
      lost.abort(new Error("the session of the lock ended"));
      throw gone();
    },
  });
  const { lines, observer } = relay;
  await until(() => lines.includes("relay-lost"), { what: "the loss" });
  const later = Date.now() + 60_000;
  for (const from of ["relay-lost", "relay-retrying"]) {
    await until(() => lines.includes(from), { what: from });
    const report = observer.report(later);
    expect(report).toMatchObject({ state: "starting", reason: { code: "STORE_UNAVAILABLE" }, pending: 7, lag: null });
    expect(report.oldestAgeMs).toBeGreaterThan(50_000);
  }
  answers = true;
  await until(() => observer.state === "standby", { what: "the relay to stand by" });
  expect(observer.report(later)).toMatchObject({ state: "standby", reason: null, pending: 0, oldestAgeMs: 0 });
  await relay.end();
});

test("RI11: a relay that works without Kafka is starting, with the reason, and ages, whatever it was before", async () => {
  for (const before of ["standby", "running", "halted"] as const) {
    const relay = startRelay({
      openSession: async () => sessionOf(),
      fence: async () => {
        if (!relay.lines.includes("relay-retrying")) Object.assign(relay.observer, { state: before });
        throw new LockstepError("KAFKA_UNAVAILABLE", "No broker answers.");
      },
    });
    const { lines, observer } = relay;
    await until(() => lines.includes("relay-retrying"), { what: "the failure" });
    const report = observer.report(Date.now() + 60_000);
    expect(report).toMatchObject({ state: "starting", reason: { code: "KAFKA_UNAVAILABLE" } });
    expect(report.oldestAgeMs).toBeGreaterThan(50_000);
    await relay.end();
  }
});

test("RI11: who takes over from standing by is starting until it runs", async () => {
  let has = false;
  const seen: string[] = [];
  const relay = startRelay({
    openSession: async () => sessionOf({ tryLock: async () => has }),
    fence: async () => {
      seen.push(relay.observer.state);
      return contradiction();
    },
  });
  await until(() => relay.observer.state === "standby", { what: "it to stand by" });
  has = true;
  await until(() => relay.observer.state === "halted", { what: "it to halt" });
  expect(seen).toEqual(["starting"]);
  await relay.end();
});

test("a halt is said once, and again after it has run", async () => {
  let looks = 0;
  const relay = startRelay({
    openSession: async () => sessionOf(),
    settings: { haltMs: 1 },
    fence: async () => {
      looks += 1;
      if (looks === 5) relay.observer.state = "running"; // as a session that has got further
      return contradiction();
    },
  });
  await until(() => looks > 10, { what: "the relay to look 10 times" });
  await relay.end();
  expect(relay.lines.filter((line) => line === "relay-halted")).toHaveLength(2);
});

test("RI12: standing by and halting again and again leaves nothing on the signals", async () => {
  const any = vi.spyOn(AbortSignal, "any");
  const lost = new AbortController();
  for (const has of [false, true]) {
    let looks = 0;
    const tryLock = async () => {
      looks += 1;
      return has;
    };
    const relay = startRelay({
      openSession: async () => sessionOf({ tryLock, lost: lost.signal }),
      settings: { haltMs: 1 },
    });
    await until(() => looks > 50, { what: "the relay to look 50 times" });
    for (const signal of [relay.signal, lost.signal])
      expect(getEventListeners(signal, "abort").length).toBeLessThanOrEqual(1);
    await relay.end();
    for (const signal of [relay.signal, lost.signal]) expect(getEventListeners(signal, "abort")).toEqual([]);
  }
  expect(any).not.toHaveBeenCalled();
  any.mockRestore();
});
