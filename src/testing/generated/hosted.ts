/**
 * One actor alone, hosted as the runtime hosts it: an app made around its machine, whose inputs are the machine's events, and which
 * publishes and inserts whatever it emits. A clock stands beside it, so that time can pass without an event.
 */
import { setup } from "xstate";

import { type App, defineApp, type InputDefinition, insert, publish, type Schema } from "../../actors/app.ts";
import { judge } from "../../actors/judge.ts";
import { emittedTypes, type MachineEvent } from "../../actors/machine-host.ts";
import type { InputRecord, OutputRecord } from "../../actors/record.ts";
import { ShardModel } from "../../actors/shard-model.ts";
import { decodeSnapshot } from "../../actors/snapshot-codec.ts";
import type { TimedEvent } from "./events.ts";

const ACTOR = "machine";
const CLOCK = "clock";
/** The event of a step in which nothing happens but that time goes on. */
export const ADVANCE = "advance";
export const EMITTED_TOPIC = "generated.emitted";
const EMITTED_TABLE = "generated.emitted";
export const EMITTED_TABLES = { [EMITTED_TABLE]: { unique: [["id"]] } };

/** A machine with one key, and the app that hosts it alone. */
export interface Hosting {
  readonly app: App;
  readonly key: string;
  /** The record that brings an event, at offset 0. */
  record(step: TimedEvent): OutputRecord;
}

export interface HostedState {
  /** XState's persisted snapshot; null: there is no actor, or not any more. */
  readonly persisted: unknown;
  readonly streamTimeMs: number;
  readonly nextDueMs: number | null;
  /** The whole state as a snapshot has it, to go on from. */
  readonly pieces: readonly Buffer[];
  /** The same for states that go on alike: times of timers count from now. */
  readonly identity: string;
}

export interface HostedStep {
  readonly emitted: readonly MachineEvent[];
  /** Headers of the dead letter of what was set aside, or null. */
  readonly refusal: string | null;
}

/** What the tests ask of a host; there is one, and wrong ones that show what the tests find. */
export interface HostedActor {
  step(step: TimedEvent): HostedStep;
  state(): HostedState;
}

export type OpenHost = (hosting: Hosting, from: HostedState | null, options: { strict: boolean }) => HostedActor;

/** @param eventTypes those that the actor is to be given */
export function hostAlone(
  of: App,
  actorType: string,
  { key, eventTypes }: { key: string; eventTypes: readonly string[] },
): Hosting {
  const { machine } = of.actors[actorType]!;
  const emitted = emittedTypes(machine);
  const types = emitted.complete ? [...emitted.known] : [...new Set([...emitted.known, ...Object.keys(of.emits)])];
  const steps: TimedEvent[] = [];
  const numbers = new Map<MachineEvent, number>();
  const schema = eventsByNumber(steps);
  const app = defineApp("generated", {
    inputs: Object.fromEntries(
      [...eventTypes, ADVANCE].map((type): [string, InputDefinition] => [
        topicOf(type),
        { event: type, schema, time: (value) => value[AT] },
      ]),
    ),
    actors: {
      [ACTOR]: { machine, on: Object.fromEntries(eventTypes.map((type) => [type, () => key])) },
      [CLOCK]: { machine: clock, on: { [ADVANCE]: () => CLOCK } },
    },
    emits: Object.fromEntries(
      types.map((type) => [
        type,
        [
          publish(EMITTED_TOPIC, { key: () => key, value: (event) => event }),
          insert(EMITTED_TABLE, (event, { id }) => ({ id, event: JSON.stringify(event) })),
        ],
      ]),
    ),
    // What is made here is known to no compiler.
  } as never);
  return {
    app,
    key,
    record(step) {
      const { event, atMs } = step;
      let number = numbers.get(event);
      if (number === undefined) {
        number = steps.push(step) - 1;
        numbers.set(event, number);
      }
      const value = Buffer.from(JSON.stringify({ number, atMs }));
      return {
        topic: topicOf(event.type),
        partition: 0,
        key: Buffer.from(key),
        value,
        headers: [],
        timestampMs: BigInt(atMs),
      };
    },
  };
}

function topicOf(eventType: string): string {
  return `generated.${Buffer.from(eventType).toString("hex")}`;
}

const AT = Symbol("event time");
type Timed = Readonly<Record<string, unknown>> & { readonly [AT]: number };

/** A record names its event by number: an event that was told, or made by a schema, need not be JSON. */
function eventsByNumber(steps: readonly TimedEvent[]): Schema<Timed> {
  return {
    "~standard": {
      version: 1,
      vendor: "lockstep",
      validate(value) {
        const { number, atMs } = value as { number: number; atMs: number };
        const { type: _, ...payload } = steps[number]!.event;
        return { value: Object.defineProperty(payload, AT, { value: atMs, enumerable: false }) as never };
      },
    },
  };
}

/** Takes what moves stream time and does nothing else. */
const clock = setup({ types: { events: {} as { type: typeof ADVANCE } } }).createMachine({
  id: CLOCK,
  on: { [ADVANCE]: {} },
});

/** Hosts by the shard model, which the runtime uses. */
export const openHost: OpenHost = (hosting, from, { strict }) => {
  const { app } = hosting;
  const options = {
    app,
    shard: 0,
    partitionsOf: () => 1,
    strict,
    limits: { timersPerCommit: 1_000, outputBytesMax: () => 10_000_000 },
  };
  const model = from ? ShardModel.restore(options, from.pieces, app.version) : new ShardModel(options);
  const definitions = new Map(app.inputs.map((definition) => [definition.topic, definition]));
  return {
    step(step) {
      const record: InputRecord = { ...hosting.record(step), offset: BigInt(model.counters["taken"] ?? 0) };
      model.begin();
      model.takeRecord(judge(app, definitions.get(record.topic)!, record));
      const { publishes } = model.finish();
      model.accept();
      const letter = publishes.find(({ topic }) => topic !== EMITTED_TOPIC);
      const emitted = publishes.filter(({ topic }) => topic === EMITTED_TOPIC);
      return {
        emitted: emitted.map(({ value }) => JSON.parse(String(value)) as MachineEvent),
        refusal: letter?.headers.map(([name, value]) => `${name}: ${value}`).join(", ") ?? null,
      };
    },
    state() {
      const pieces = [...model.capture().pieces(Number.MAX_SAFE_INTEGER)];
      const { actors, timers, streamTimeMs } = decodeSnapshot(pieces, { app: app.name, shard: 0 });
      const persisted = actors.find(({ type }) => type === ACTOR)?.persisted ?? null;
      const pending = timers.map(({ timerId, dueMs, event }) => [timerId, dueMs - streamTimeMs, event]);
      const identity = JSON.stringify([persisted, pending]);
      return { persisted, streamTimeMs, nextDueMs: model.nextDueMs, pieces, identity };
    },
  };
};
