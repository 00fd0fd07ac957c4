/** Virtual time, processes and the network, apart from each other. */
import { expect, test } from "vitest";

import { createFaults, NO_FAULTS } from "../../../src/testing/faults.ts";
import { createNetwork, Unreachable } from "../../../src/testing/network.ts";
import { SimulatedProcess } from "../../../src/testing/process.ts";
import { createRandom } from "../../../src/testing/random.ts";
import { createSchedule } from "../../../src/testing/schedule.ts";
import { createTrace } from "../../../src/testing/trace.ts";

test("SC1: entries run in the order of their time, then in the order in which they were made", async () => {
  const schedule = createSchedule();
  const random = createRandom(7);
  const ran: number[][] = [];
  const made = Array.from({ length: 200 }, (_, i) => [random.between(0, 20), i]);
  for (const [atMs, i] of made) schedule.after(atMs!, () => ran.push([schedule.nowMs, i!]));
  const cancelled = schedule.after(5, () => ran.push([-1, -1]));
  cancelled();
  await schedule.runFor(100);
  expect(ran).toEqual([...made].sort((a, b) => a[0]! - b[0]! || a[1]! - b[1]!));
  expect(schedule.nowMs).toBe(100);
});

test("SC2: between two entries every promise that can go on has gone on", async () => {
  const schedule = createSchedule();
  const order: string[] = [];
  schedule.after(1, () => {
    void (async () => {
      for (let i = 0; i < 50; i += 1) await Promise.resolve();
      order.push("promises");
    })();
  });
  schedule.after(1, () => order.push("next entry"));
  await schedule.runFor(1);
  expect(order).toEqual(["promises", "next entry"]);
});

function world(calls: Parameters<typeof createFaults>[0]["calls"] = {}) {
  const schedule = createSchedule();
  const random = createRandom(1);
  const faults = createFaults({ ...NO_FAULTS, calls }, random.fork("faults"));
  const killed: string[] = [];
  const network = createNetwork({
    schedule,
    random,
    faults,
    trace: createTrace(schedule),
    onKill: (process) => {
      killed.push(process.name);
      process.kill();
    },
    onStop: (process) => {
      process.stop();
      schedule.after(1_000, () => process.resume());
    },
  });
  return { schedule, network, process: new SimulatedProcess("p", schedule), killed };
}

const REQUEST = { to: "postgres", what: "x", deadlineMs: 5_000 } as const;

test("N1, N3: with or without effect, with or without an answer: each fault is what it says", async () => {
  const cases = [
    ["request lost", 0, "unreachable"],
    ["reply lost", 1, "unreachable"],
    ["request late", 1, "unreachable"],
    ["no answer", 1, "unreachable"],
    ["slow", 1, "answered"],
    ["killed in a call", 1, "nothing"],
    ["stopped in a call", 1, "answered"],
  ] as const;
  for (const [fault, effects, outcome] of cases) {
    const { schedule, network, process } = world({ [fault]: 1 });
    let done = 0;
    let found = "nothing";
    const call = network.call(process, REQUEST, () => {
      done += 1;
    });
    call.then(
      () => {
        found = "answered";
      },
      (error: unknown) => {
        found = error instanceof Unreachable ? "unreachable" : String(error);
      },
    );
    await schedule.runFor(10_000);
    expect([fault, done, found]).toEqual([fault, effects, outcome]);
  }
});

test("N2: a stopped process gets its answers and timers when it goes on, a killed one never", async () => {
  const { schedule, network, process } = world();
  const got: string[] = [];
  process.after(10, () => got.push("timer"));
  void network.call(process, REQUEST, () => got.push("effect")).then(() => got.push("answer"));
  process.stop();
  await schedule.runFor(1_000);
  expect(got).toEqual(["effect"]);
  process.resume();
  await schedule.runFor(1);
  expect(got).toEqual(["effect", "answer", "timer"]);

  void network.call(process, REQUEST, () => got.push("effect")).then(() => got.push("answer"));
  process.kill();
  await schedule.runFor(1_000);
  expect(got).toEqual(["effect", "answer", "timer", "effect"]);
});

test("an answer of the server that is an error is no broken connection", async () => {
  const { schedule, network, process } = world();
  const refused = network.call(process, REQUEST, () => {
    throw new Error("refused");
  });
  const expectation = expect(refused).rejects.toThrow("refused");
  await schedule.runFor(100);
  await expectation;
});
