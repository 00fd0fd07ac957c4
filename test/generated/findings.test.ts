/** What the tests made from machines find, shown by machines and hosts made to be found; and that a sound one needs no test code. */
import { describe, expect, test } from "vitest";

import { COMMIT_POINTS, runWithCrash } from "../../src/testing/generated/crash.ts";
import {
  EMITTED_TABLES,
  EMITTED_TOPIC,
  hostAlone,
  type OpenHost,
  openHost,
} from "../../src/testing/generated/hosted.ts";
import { type MachineTestsOptions, machineTestsWith } from "../../src/testing/generated/machine-tests.ts";
import { coverageTable, machineTests } from "../../src/testing/index.ts";
import { lifts, liftsWithStuckState } from "./a-lift.ts";

const FEW: MachineTestsOptions = { pathsMax: 100, crashesMax: 60 };

/** What each case of an app says: "passed", or the message of its failure, by its first words. */
async function run({ cases }: ReturnType<typeof machineTests>): Promise<Record<string, string>> {
  const outcomes: Record<string, string> = {};
  for (const one of cases) {
    const outcome = await one.run().then(
      () => "passed",
      (error: Error) => error.message,
    );
    outcomes[one.name.replace(/^.*(MT\d).*$/, "$1")] = outcome;
  }
  return outcomes;
}

const allPassed = { MT1: "passed", MT2: "passed", MT3: "passed", MT4: "passed" };

describe("a machine that is registered with its app, and nothing else", () => {
  test("MT1, MT2, MT3, MT4: is covered whole, compared, replayed and crashed", async () => {
    const tests = machineTests(lifts, FEW);
    expect(await run(tests)).toEqual(allPassed);
    const [lift] = tests.coverage();
    expect(lift).toMatchObject({
      app: "lifts",
      actorType: "lift",
      keys: ["l1"],
      states: { covered: 3, all: 3 },
      transitions: { covered: 2, all: 2 },
      guardsTaken: { covered: 1, all: 1 },
      guardsNotTaken: { covered: 1, all: 1 },
      uncovered: [],
      cut: 0,
      crashes: 60,
    });
    expect(lift!.paths).toBeGreaterThan(10);
    expect(lift!.replays).toBeGreaterThan(10);
    expect(lift!.places).toBeGreaterThan(60);
    expect(coverageTable(tests.coverage())).toMatch(/lifts lift +3\/3 +2\/2 +1\/1 +1\/1/);
  });

  test("has as many paths and crashes as are asked for, and says what was cut", async () => {
    const tests = machineTests(lifts, { pathsMax: 14, crashesMax: Number.POSITIVE_INFINITY });
    expect(await run(tests)).toEqual(allPassed);
    const [lift] = tests.coverage();
    expect(lift!.paths).toBe(14);
    expect(lift!.cut).toBeGreaterThan(0);
    expect(lift!.crashes).toBe(lift!.places);
  });

  test("MT5: gets the same tests from the same seed, in whichever order they are run", async () => {
    const first = machineTests(lifts, FEW);
    const second = machineTests(lifts, FEW);
    const other = machineTests(lifts, { ...FEW, seed: 2 });
    await run(first);
    for (const one of [...second.cases].reverse()) await one.run();
    await run(other);
    expect(second.coverage()).toEqual(first.coverage());
    expect(other.coverage()).not.toEqual(first.coverage());
  });
});

describe("what is not covered", () => {
  test("MT3: a state that nothing leads to fails, and its transition, by name", async () => {
    const outcomes = await run(machineTests(liftsWithStuckState(), FEW));
    expect(outcomes["MT3"]).toContain("state lift.stuck is not covered");
    expect(outcomes["MT3"]).toContain("transition lift.stuck pressed #1 is not covered");
    expect({ ...outcomes, MT3: "passed" }).toEqual(allPassed);
  });

  test("MT3: an actor that no event reaches fails, and says what to give", async () => {
    const tests = machineTests(lifts, { ...FEW, leaveOut: () => true });
    const outcomes = await run(tests);
    expect(outcomes["MT1"]).toContain('nothing reaches "lift": give an example');
    expect(outcomes["MT3"]).toContain("state lift.open is not covered");
  });

  test("an example of an actor type that the app does not have is refused", () => {
    expect(() => machineTests(lifts, { examples: { stairs: [] } })).toThrow(
      'There are examples of "stairs", which the app "lifts" has not.',
    );
  });

  test("an example with a value that its input refuses fails, and shows it", async () => {
    const example = { key: "l1", steps: [{ topic: "lifts.pressed", value: { lift: "l2" } }] };
    const outcomes = await run(machineTests(lifts, { ...FEW, examples: { lift: [example] } }));
    expect(outcomes["MT1"]).toContain('an example has a value that lifts.pressed refuses: {"lift":"l2"}');
  });
});

describe("a wrong host is found", () => {
  /** The real one, with something done to each step. */
  const wrong =
    (change: (host: ReturnType<OpenHost>, from: unknown) => Partial<ReturnType<OpenHost>>): OpenHost =>
    (hosting, from, options) => {
      const host = openHost(hosting, from, options);
      return { step: (step) => host.step(step), state: () => host.state(), ...change(host, from) };
    };

  const hosts: readonly [what: string, found: string, message: string, host: OpenHost][] = [
    [
      "drops an emitted event",
      "MT1",
      '"type":"opened"',
      wrong((host) => ({
        step: (step) => {
          const { emitted, refusal } = host.step(step);
          return { emitted: emitted.filter(({ type }) => type !== "opened"), refusal };
        },
      })),
    ],
    [
      "fires a timer late",
      "MT1",
      "when no timer is due in the host",
      wrong((host) => ({
        step: ({ event, atMs }) => host.step({ event, atMs: event.type === "advance" ? atMs + 5 : atMs }),
        state: () => {
          const state = host.state();
          return { ...state, nextDueMs: state.nextDueMs === null ? null : state.nextDueMs + 5 };
        },
      })),
    ],
    [
      "keeps another context",
      "MT1",
      "in XState to",
      wrong((host) => ({
        state: () => {
          const state = host.state();
          const { context, ...rest } = (state.persisted ?? {}) as { context?: object };
          return { ...state, persisted: context ? { ...rest, context: { ...context, lift: "l2" } } : null };
        },
      })),
    ],
    [
      "emits an event once more after a restore",
      "MT2",
      "restored after",
      wrong((host, from) => ({
        step: (step) => {
          const { emitted, refusal } = host.step(step);
          return { emitted: from === null ? emitted : [...emitted, ...emitted], refusal };
        },
      })),
    ],
  ];

  test.each(hosts)("%s", async (_what, found, message, host) => {
    const outcomes = await run(machineTestsWith(lifts, FEW, host));
    expect(outcomes[found]).toContain(message);
    expect(outcomes[found]).toContain("on the path");
  });
});

describe("a crash", () => {
  const hosting = hostAlone(lifts, "lift", { key: "l1", eventTypes: ["pressed"] });
  const pressed = (button: string, atMs: number) => ({
    event: { type: "pressed", button, lift: "l1", floor: 1 },
    atMs,
  });
  const path = [pressed("up", 1_000), pressed("up", 9_000)];
  const records = path.map((step) => hosting.record(step));
  const target = { app: hosting.app, tables: EMITTED_TABLES, path, records };

  test("MT4: at each point of each commit happens, and leaves what a run without one leaves", async () => {
    const without = await runWithCrash(target, null);
    expect(without.faults).toEqual([]);
    expect(without.left.match(/"type":"opened"/g)).toHaveLength(2);
    for (const step of [0, 1])
      for (const point of COMMIT_POINTS)
        expect(await runWithCrash(target, { point, step }), `${point} of ${step}`).toEqual({
          ...without,
          happened: true,
        });
  });

  test("MT4: of a runtime that publishes a record once more is found", async () => {
    const without = await runWithCrash(target, null);
    const twice = await runWithCrash(target, { point: "kafka.ended", step: 0 }, ({ kafka, schedule }) => {
      const log = kafka.log(EMITTED_TOPIC, 0);
      const again = () => {
        const { records } = log.read(0n, Number.POSITIVE_INFINITY);
        if (records.length === 0) schedule.after(10, again);
        else log.append(records, null);
      };
      again();
    });
    expect(twice.happened).toBe(true);
    expect(twice.faults.join()).toContain("I5: ");
    expect(twice.left).not.toBe(without.left);
  });
});
