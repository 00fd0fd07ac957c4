/**
 * The tests of one machine, each part made when it is first asked for, and once.
 */
import type { App } from "../../actors/app.ts";
import type { MachineEvent } from "../../actors/machine-host.ts";
import { createRandom } from "../random.ts";
import type { TableShape } from "../tables.ts";
import { compare, replay, type Walker } from "./compare.ts";
import { type WatchedMachine, watchMachine } from "./coverage.ts";
import { type CrashPath, type CrashRuns, crashPaths } from "./crash.ts";
import { drawValues, type Examples, eventOf, type InputValue, recordOf, type TimedEvent } from "./events.ts";
import {
  ADVANCE,
  EMITTED_TABLES,
  type HostedActor,
  type Hosting,
  hostAlone,
  type OpenHost,
  openHost,
} from "./hosted.ts";
import { ADVANCED, findPaths, type Path } from "./paths.ts";
import type { MachineCoverage } from "./report.ts";
import { tellersOf } from "./told.ts";

export interface PlanOptions {
  readonly app: App;
  readonly actorType: string;
  readonly examples: Examples;
  readonly leaveOut: (event: MachineEvent) => boolean;
  readonly seed: number;
  readonly pathsMax: number;
  readonly crashesMax: number;
  readonly tables: Readonly<Record<string, TableShape>>;
  /** The host that is compared; paths are always found by the real one. */
  readonly open: OpenHost;
  /** Of another actor type of the app. */
  readonly planOf: (actorType: string) => MachinePlan;
}

/** A path of an actor, with what hosts it. */
interface Case {
  readonly walker: Walker;
  readonly path: Path;
}

interface Told extends TimedEvent {
  readonly key: string;
}

interface Events {
  readonly pool: readonly TimedEvent[];
  readonly keys: readonly string[];
  readonly examples: readonly { readonly key: string; readonly path: Path }[];
  readonly faults: readonly string[];
}

const KEYS_MAX = 3;
/** Events of one type that other actors tell. */
const TOLD_MAX = 12;
/** Timers that fire after the end of an example. */
const TIMERS_AFTER_MAX = 5;
const FAULTS_MAX = 10;

export class MachinePlan {
  readonly #options: PlanOptions;
  readonly #watched: WatchedMachine;
  readonly #memo = new Map<string, Promise<unknown>>();
  readonly #counts = {
    drawn: 0,
    examples: 0,
    told: 0,
    paths: 0,
    cut: 0,
    refused: 0,
    steps: 0,
    replays: 0,
    crashes: 0,
    places: 0,
    appCrashes: 0,
    appPlaces: 0,
  };
  readonly #notes: string[] = [];
  #isMoreBeyond = false;
  #keys: readonly string[] = [];

  constructor(options: PlanOptions) {
    this.#options = options;
    this.#watched = watchMachine(options.app.actors[options.actorType]!.machine);
  }

  /** MT1. @returns faults */
  async compare(): Promise<readonly string[]> {
    const { faults } = await this.#compared();
    return faults;
  }

  /** MT2. @returns faults */
  async replay(): Promise<readonly string[]> {
    const faults: string[] = [];
    this.#counts.replays = 0;
    for (const { walker, path } of await this.#cases()) {
      const found = replay(walker, path);
      this.#counts.replays += found.replays;
      for (const fault of found.faults) add(faults, path, fault);
    }
    return faults;
  }

  /** MT3. @returns faults */
  async uncovered(): Promise<readonly string[]> {
    await this.#compared();
    const { uncovered } = this.coverage();
    return uncovered.map(
      (name) => `${name} is not covered: give an example of "${this.#options.actorType}" that reaches it`,
    );
  }

  /** MT4: the machine alone. @returns faults */
  async crash(): Promise<readonly string[]> {
    const { crashesMax, seed, actorType } = this.#options;
    const { covering } = await this.#compared();
    const cases = await this.#cases();
    const alone = ({ walker: { hosting }, path }: Case): CrashPath => ({
      app: hosting.app,
      tables: EMITTED_TABLES,
      path,
      records: path.map((step) => hosting.record(step)),
    });
    const others = cases.filter((one) => !covering.has(one)).map(alone);
    const random = createRandom(`${seed}/crashes/${actorType}`);
    const runs = await crashPaths([...covering].map(alone), others, { max: crashesMax, random });
    Object.assign(this.#counts, { crashes: runs.crashes, places: runs.places });
    return faultsOf(runs);
  }

  /** Whether there is something to send through the app. */
  get hasInputExamples(): boolean {
    const { examples, actorType } = this.#options;
    return (examples[actorType] ?? []).some(({ steps }) => steps.some((step) => "topic" in step));
  }

  /** MT4: the examples, through the app as a whole. @returns faults */
  async crashApp(): Promise<readonly string[]> {
    const { app, actorType, examples, seed, crashesMax, tables } = this.#options;
    const paths = (examples[actorType] ?? []).map(({ steps }): CrashPath => {
      const values = steps.flatMap((step) => ("topic" in step ? recordOf(app, step) : []));
      return { app, tables, path: values.map(({ step }) => step), records: values.map(({ record }) => record) };
    });
    const random = createRandom(`${seed}/crashes of the app/${actorType}`);
    const runs = await crashPaths([], paths, { max: crashesMax, random });
    Object.assign(this.#counts, { appCrashes: runs.crashes, appPlaces: runs.places });
    return faultsOf(runs);
  }

  coverage(): MachineCoverage {
    const { app, actorType } = this.#options;
    const { all, covered } = this.#watched;
    const rate = (what: keyof typeof all) => ({ covered: covered[what].size, all: all[what].size });
    const missing = (what: keyof typeof all) => [...all[what]].filter((name) => !covered[what].has(name));
    return {
      app: app.name,
      actorType,
      keys: this.#keys,
      states: rate("states"),
      transitions: rate("transitions"),
      guardsTaken: rate("guardsTaken"),
      guardsNotTaken: rate("guardsNotTaken"),
      uncovered: [
        ...missing("states").map((name) => `state ${name}`),
        ...missing("transitions").map((name) => `transition ${name}`),
      ],
      guardsOneWay: [
        ...missing("guardsTaken").map((name) => `guard of ${name} was never true`),
        ...missing("guardsNotTaken").map((name) => `guard of ${name} was never false`),
      ],
      ...this.#counts,
      isMoreBeyond: this.#isMoreBeyond,
      notes: this.#notes,
    };
  }

  /** What actors of this type tell those of another. */
  async tells(actorType: string): Promise<readonly Told[]> {
    const { emitted } = await this.#compared();
    const { app } = this.#options;
    const told: Told[] = [];
    for (const { event, atMs, key } of emitted) {
      for (const route of app.emits[event.type] ?? []) {
        if (route.kind !== "tell" || route.actor !== actorType) continue;
        const id = "00000000-0000-5000-8000-000000000000";
        const actor = { type: this.#options.actorType, key };
        told.push({
          event,
          atMs,
          key: route.key(event, { id, timeMs: atMs, idOf: () => id, derive: () => id, actor }),
        });
      }
    }
    return told;
  }

  // ---------------------------------------------------------------------------------------------------- made once, when asked for

  #once<T>(what: string, make: () => Promise<T>): Promise<T> {
    const made = (this.#memo.get(what) as Promise<T> | undefined) ?? make();
    this.#memo.set(what, made);
    return made;
  }

  #compared(): Promise<{ faults: readonly string[]; covering: ReadonlySet<Case>; emitted: readonly Told[] }> {
    return this.#once("compared", async () => {
      const faults = [...(await this.#events()).faults];
      const covering = new Set<Case>();
      const emitted: Told[] = [];
      const { covered } = this.#watched;
      const size = () => Object.values(covered).reduce((sum, { size }) => sum + size, 0);
      for (const one of await this.#cases()) {
        const before = size();
        const walk = compare(one.walker, one.path);
        if (size() > before) covering.add(one);
        this.#counts.steps += walk.steps;
        this.#counts.refused += walk.refused > 0 ? 1 : 0;
        for (const fault of walk.faults) add(faults, one.path, fault);
        emitted.push(...walk.emitted.map((step) => ({ ...step, key: one.walker.hosting.key })));
      }
      return { faults, covering, emitted };
    });
  }

  #cases(): Promise<readonly Case[]> {
    return this.#once("cases", async () => {
      const { app, actorType, open, pathsMax } = this.#options;
      const { pool, keys, examples } = await this.#events();
      const eventTypes = [...new Set(pool.map(({ event }) => event.type))];
      const startMs = pool.reduce((least, { atMs }) => Math.min(least, atMs), Number.POSITIVE_INFINITY);
      const cases: Case[] = [];
      for (const key of keys) {
        const walker = { hosting: hostAlone(app, actorType, { key, eventTypes }), watched: this.#watched, open };
        const own = examples.filter((one) => one.key === key).map(({ path }) => untilQuiet(walker.hosting, path));
        const found = findPaths(walker.hosting, pool, {
          startMs,
          pathsMax: Math.floor(pathsMax / keys.length) - own.length,
        });
        this.#counts.cut += found.cut;
        this.#isMoreBeyond ||= found.isMoreBeyond;
        cases.push(...[...found.paths, ...own].map((path) => ({ walker, path })));
      }
      this.#keys = keys;
      this.#counts.paths = cases.length;
      return cases;
    });
  }

  #events(): Promise<Events> {
    return this.#once("events", async () => {
      const { app, actorType, seed, leaveOut } = this.#options;
      const { on } = app.actors[actorType]!;
      const faults: string[] = [];
      const given = (this.#options.examples[actorType] ?? []).map(({ key, steps }) => ({
        key,
        path: steps
          .flatMap((step) => ("event" in step ? step : this.#eventOfValue(step, faults)))
          .filter(({ event }) => on[event.type] === undefined || on[event.type]!(event) === key),
      }));
      const drawn = await drawValues(app, actorType, seed);
      this.#notes.push(...drawn.notes);
      const events = drawn.values.flatMap((value) => this.#eventOfValue(value, faults));
      const told = await this.#told();
      const wanted = (all: readonly TimedEvent[]) => distinct(all.filter(({ event }) => !leaveOut(event)));
      const sources = {
        examples: wanted(given.flatMap(({ path }) => path)),
        told: wanted(told),
        drawn: wanted(events),
      };
      for (const [name, list] of Object.entries(sources)) this.#counts[name as keyof typeof sources] = list.length;
      const pool = distinct(Object.values(sources).flat());
      if (pool.length === 0)
        faults.push(`nothing reaches "${actorType}": give an example${this.#notes.map((note) => `; ${note}`)}`);
      const own = events.slice(0, 1).map(({ event }) => on[event.type]!(event));
      const keys = [...new Set([...given.map(({ key }) => key), ...told.map(({ key }) => key), ...own])].slice(
        0,
        KEYS_MAX,
      );
      return { pool, keys, examples: given, faults };
    });
  }

  #eventOfValue({ topic, value }: InputValue, faults: string[]): TimedEvent[] {
    const input = this.#options.app.inputs.find((one) => one.topic === topic);
    const timed = input && eventOf(input, value);
    if (!timed) faults.push(`an example has a value that ${topic} refuses: ${JSON.stringify(value)}`);
    return timed ? [timed] : [];
  }

  /** A few of each type of event that others tell, from the first to the last. */
  async #told(): Promise<Told[]> {
    const { app, actorType, planOf } = this.#options;
    const told: Told[] = [];
    for (const type of tellersOf(app, actorType)) told.push(...(await planOf(type).tells(actorType)));
    const types = new Set(told.map(({ event }) => event.type));
    return [...types].flatMap((type) => {
      const alike = distinct(told.filter(({ event }) => event.type === type));
      const every = Math.max(1, alike.length / TOLD_MAX);
      return Array.from({ length: Math.min(TOLD_MAX, alike.length) }, (_, i) => alike[Math.floor(i * every)]!);
    });
  }
}

/** What is still to fire after an example fires too, so that no example need say how time goes on. */
function untilQuiet(hosting: Hosting, path: Path): Path {
  const hosted: HostedActor = openHost(hosting, null, { strict: false });
  for (const step of path) hosted.step(step);
  const after: TimedEvent[] = [];
  for (
    let due = hosted.state().nextDueMs;
    due !== null && after.length < TIMERS_AFTER_MAX;
    due = hosted.state().nextDueMs
  ) {
    const step = { event: ADVANCED, atMs: due };
    hosted.step(step);
    after.push(step);
  }
  return [...path, ...after];
}

function add(faults: string[], path: Path, what: string): void {
  if (faults.length >= FAULTS_MAX) return;
  const events = path.map(
    ({ event, atMs }) => `    ${atMs} ${event.type === ADVANCE ? "time passes" : JSON.stringify(event)}`,
  );
  faults.push(`${what}\n  on the path\n${events.join("\n")}`);
}

function faultsOf({ faults }: CrashRuns): string[] {
  const texts: string[] = [];
  for (const { path, what } of faults) add(texts, path, what);
  return texts;
}

function distinct<T extends TimedEvent>(events: readonly T[]): T[] {
  return [...new Map(events.map((one) => [JSON.stringify([one.event, one.atMs]), one])).values()];
}
