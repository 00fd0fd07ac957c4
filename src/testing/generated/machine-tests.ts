/**
 * Tests made from an app's machines, without a line of test code for any of them.
 *
 *   1. events     drawn from the schemas of the inputs that an actor takes, from examples, and from what other actors tell it
 *   2. paths      the states that these reach, and every event in each of them, shortest first; and each example as it is
 *   3. compare    each path through the hosted actor and through XState's own interpreter: state value, context, emitted events
 *   4. replay     from every prefix of a path, through a snapshot, to the same end
 *   5. coverage   each state and each transition has been entered and taken
 *   6. crash      paths with a crash at each step of each commit: the same records and rows as without; the machine alone, and
 *                 its examples through the app as a whole, with its routes
 *
 * Invariants
 *   MT1  What the hosted machine does is what XState does.
 *   MT2  A restore, wherever in a path, changes nothing of what comes after it.
 *   MT3  A state or transition that no path covers fails: an example is missing.
 *   MT4  A crash at any step of any commit changes nothing that is left.
 *   MT5  The same app, examples and seed give the same tests.
 */
import { AssertionError } from "node:assert";

import type { App } from "../../actors/app.ts";
import { LockstepError } from "../../errors.ts";
import type { TableShape } from "../tables.ts";
import type { Examples } from "./events.ts";
import { type OpenHost, openHost } from "./hosted.ts";
import { MachinePlan } from "./plan.ts";
import type { MachineCoverage } from "./report.ts";

export interface MachineTestsOptions {
  /** What happens to actors of each type, so that guards are reached which chance does not reach. */
  readonly examples?: Examples;
  /** Events that are not to be tried, such as one that ends the process. */
  readonly leaveOut?: (event: Readonly<Record<string, unknown>>) => boolean;
  /** Of all that is drawn; default 1. */
  readonly seed?: number;
  /** Paths of one machine, at most; default 2,000. */
  readonly pathsMax?: number;
  /**
   * Runs with a crash of one machine, at most, and as many of its examples through the app; default 300. Where there are more places to crash than that, those of the paths
   * that cover something new come first, and the others are drawn from the seed. Infinity: all of them.
   */
  readonly crashesMax?: number;
  /** What the app's tables refuse, where the app is run as a whole; without it they take every row. */
  readonly tables?: Readonly<Record<string, TableShape>>;
}

/** One test, for any runner. */
export interface MachineTest {
  readonly name: string;
  readonly actorType: string;
  /** @throws {AssertionError} with every fault found, up to ten, and the path that shows each */
  run(): Promise<void>;
}

export interface MachineTests {
  /** In the order in which they are best run; each can be run alone. */
  readonly cases: readonly MachineTest[];
  /** What the tests that were run so far have covered, by actor type in order of definition. */
  coverage(): readonly MachineCoverage[];
}

const DEFAULTS = { examples: {}, leaveOut: () => false, seed: 1, pathsMax: 2_000, crashesMax: 300, tables: {} };

/**
 * The tests of each machine of an app: in virtual time, without a broker or a database, by the code that hosts it in production.
 *
 *     const { cases, coverage } = machineTests(app, { examples });
 *     for (const { name, run } of cases) test(name, run);
 *     afterAll(() => console.log(coverageTable(coverage())));
 *
 * @throws {LockstepError} APP_INVALID there are examples of an actor type that the app does not have
 */
export function machineTests(app: App, options: MachineTestsOptions = {}): MachineTests {
  return machineTestsWith(app, options, openHost);
}

/** The same with another host, to show what the tests find. */
export function machineTestsWith(app: App, options: MachineTestsOptions, open: OpenHost): MachineTests {
  const settings = { ...DEFAULTS, ...options };
  for (const actorType of Object.keys(settings.examples)) {
    if (!Object.hasOwn(app.actors, actorType))
      throw new LockstepError(
        "APP_INVALID",
        `There are examples of "${actorType}", which the app "${app.name}" has not.`,
      );
  }
  const plans = new Map<string, MachinePlan>();
  for (const actorType of Object.keys(app.actors)) {
    const planOf = (type: string) => plans.get(type)!;
    plans.set(actorType, new MachinePlan({ app, actorType, open, planOf, ...settings }));
  }
  const cases = [...plans].flatMap(([actorType, plan]) => {
    const checks: [string, () => Promise<readonly string[]>][] = [
      ["MT1: does on every path what it does in XState", () => plan.compare()],
      ["MT2: goes on from every prefix, through a snapshot, to the same end", () => plan.replay()],
      ["MT3: every state and transition is covered", () => plan.uncovered()],
      ["MT4: leaves the same after a crash at any step of a commit", () => plan.crash()],
    ];
    if (plan.hasInputExamples)
      checks.push(["MT4: its examples, through the app, leave the same after any crash", () => plan.crashApp()]);
    return checks.map(([what, check]): MachineTest => {
      const name = `${app.name} ${actorType}: ${what}`;
      return { name, actorType, run: async () => pass(name, await check()) };
    });
  });
  return { cases, coverage: () => [...plans.values()].map((plan) => plan.coverage()) };
}

function pass(name: string, faults: readonly string[]): void {
  if (faults.length > 0) throw new AssertionError({ message: `${name}\n${faults.join("\n\n")}` });
}
