/**
 * The app definition: which topics come in, which machines they reach, and where what the machines emit goes.
 *
 * An app is pure data and pure functions. It imports xstate and files of its own folder; it never imports Kafka or
 * Postgres. Everything here is typed end to end: a route gets exactly the event its machine emits.
 *
 * `any` stands where a list holds definitions of different payloads: `unknown` would refuse every function that takes one of them.
 */
import type { AnyStateMachine, EmittedFrom } from "xstate";
import { LockstepError } from "../errors.ts";
import { appFaults } from "./app-faults.ts";

/** The part of the Standard Schema interface (version 1) that is used; zod, valibot and arktype provide it. */
export interface Schema<T> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => SchemaResult<T> | Promise<SchemaResult<T>>;
    readonly types?: { readonly input: unknown; readonly output: T } | undefined;
  };
}
export type SchemaResult<T> =
  | { readonly value: T; readonly issues?: undefined }
  | {
      readonly issues: ReadonlyArray<{ readonly message: string; readonly path?: ReadonlyArray<unknown> | undefined }>;
    };

// ---------------------------------------------------------------------------------------------------------------- inputs

/** How records of one input topic become events. */
export interface InputDefinition<TEvent extends string = string, TValue = any> {
  readonly event: TEvent;
  /** Judges the parsed JSON value. It must be synchronous. */
  readonly schema: Schema<TValue>;
  /** Event time, ms since the Unix epoch. */
  readonly time: (value: TValue) => number;
  /** What the Kafka key must be; a record whose key differs would reach an actor of another shard and is quarantined. */
  readonly key?: (value: TValue) => string;
}

export function input<const TEvent extends string, TValue>(
  event: TEvent,
  options: {
    schema: Schema<TValue>;
    time: (value: NoInfer<TValue>) => number;
    key?: (value: NoInfer<TValue>) => string;
  },
): InputDefinition<TEvent, TValue> {
  return { event, ...options };
}

/**
 * What a machine receives: the payload, its type, and the shard's stream time at this step (ms). Delayed events get
 * `streamTimeMs` too: the time the timer was due. An event raised without delay stays within the step and holds what its
 * expression puts there.
 */
export type Delivered<TType extends string, TValue> = TValue & { readonly type: TType; readonly streamTimeMs: number };

// ---------------------------------------------------------------------------------------------------------------- routes

/** What a route function knows besides the emitted event. */
export interface RouteMeta {
  /** Id of the emitted event: UUIDv5 of (app, topic, partition, offset, ordinal), or of the timer that caused it. */
  readonly id: string;
  /** Event time of the record, or due time of the timer, that caused the step; ms since the Unix epoch. */
  readonly timeMs: number;
  /** Id of the latest event of this type that the same step emitted before. @throws when there is none */
  readonly idOf: (emittedType: string) => string;
  /** A further id derived from this event's id and a name. */
  readonly derive: (name: string) => string;
  readonly actor: { readonly type: string; readonly key: string };
}

export type Row = Readonly<Record<string, unknown>>;

export type Route<E> =
  | {
      readonly kind: "publish";
      readonly topic: string;
      readonly key: (event: E, meta: RouteMeta) => string;
      readonly value: (event: E, meta: RouteMeta) => unknown;
      readonly schema?: Schema<any>;
    }
  | { readonly kind: "tell"; readonly actor: string; readonly key: (event: E, meta: RouteMeta) => string }
  | { readonly kind: "insert"; readonly table: string; readonly row: (event: E, meta: RouteMeta) => Row }
  | {
      readonly kind: "outbox";
      readonly aggregateType: string;
      readonly aggregateId: (event: E, meta: RouteMeta) => string;
      readonly type: string;
      readonly payload: (event: E, meta: RouteMeta) => unknown;
    }
  | { readonly kind: "count"; readonly name: string };

/** Publishes a record, read by `read_committed` consumers exactly once. The value is sent as JSON. */
export function publish<E>(
  topic: string,
  options: {
    key: (event: E, meta: RouteMeta) => string;
    /** Defaults to the event without its `type`. */
    value?: (event: E, meta: RouteMeta) => unknown;
    schema?: Schema<any>;
  },
): Route<E> {
  return {
    kind: "publish",
    topic,
    key: options.key,
    value: options.value ?? withoutType,
    ...(options.schema ? { schema: options.schema } : {}),
  };
}

/** Sends the event on to an actor of the SAME shard, within the same commit. */
export function tell<E>(actor: string, key: (event: E, meta: RouteMeta) => string): Route<E> {
  return { kind: "tell", actor, key };
}

/** Inserts a row into a table of the app (`schema.table`), in the same commit. Decimals and 64-bit integers as strings. */
export function insert<E>(table: string, row: (event: E, meta: RouteMeta) => Row): Route<E> {
  return { kind: "insert", table, row };
}

/** Inserts a row into the app's outbox table, in the same commit; change data capture publishes it. */
export function outbox<E>(options: {
  aggregateType: string;
  /** A UUID. */
  aggregateId: (event: E, meta: RouteMeta) => string;
  type: string;
  payload: (event: E, meta: RouteMeta) => unknown;
}): Route<E> {
  return { kind: "outbox", ...options };
}

/** Adds one to a counter of the shard, exactly once per event: it is part of the snapshot. */
export function count<E>(name: string): Route<E> {
  return { kind: "count", name };
}

function withoutType(event: unknown): unknown {
  const { type: _type, ...rest } = event as { type: string };
  return rest;
}

// ------------------------------------------------------------------------------------------------------------------- app

export interface ActorDefinition {
  readonly machine: AnyStateMachine;
  /** Per input event, the key of the actor that it reaches. */
  readonly on: Readonly<Record<string, (value: any) => string>>;
  /** Brings a snapshot of an older `version` of the app up to date. @throws when it cannot */
  readonly migrate?: (snapshot: unknown, fromVersion: number) => unknown;
}

/** A checked app definition. Made by `defineApp` alone. */
export interface App {
  readonly name: string;
  /** Order of code: a snapshot of a greater version is never loaded. */
  readonly version: number;
  /** In order of definition, which breaks ties between inputs. */
  readonly inputs: ReadonlyArray<InputDefinition & { readonly topic: string }>;
  readonly actors: Readonly<Record<string, ActorDefinition>>;
  readonly emits: Readonly<Record<string, ReadonlyArray<Route<any>>>>;
  /** Records older than stream time minus `allowedMs`; without a topic they are counted and dropped. */
  readonly late: { readonly allowedMs: number; readonly topic?: string } | null;
  readonly outboxTable: string;
  /** Where the relay publishes the rows of the outbox table. */
  readonly outboxTopic: string;
  /** Folder of the app's numbered SQL files, absolute; null when it has none. */
  readonly migrations: string | null;
  /** Tells per record, to stop two actors that tell each other for ever. */
  readonly tellsMax: number;
}

type InputsShape = Readonly<Record<string, InputDefinition<string, any>>>;
type EventNames<I extends InputsShape> = I[keyof I]["event"];
type ValueOf<I extends InputsShape, E> = {
  [K in keyof I]: I[K] extends InputDefinition<E & string, infer V> ? V : never;
}[keyof I];
type Emitted<A extends Record<string, AnyStateMachine>> = { [K in keyof A]: EmittedFrom<A[K]> }[keyof A];
type RoutesOf<E> = Route<E> | ReadonlyArray<Route<E>>;
/**
 * One entry for each type of event that the machines emit. The condition is always true; without it TypeScript reads the
 * mapped type before it has inferred A, and `tell("desk", (event) => ...)` would get `never`.
 */
type EmitsOf<A extends Record<string, AnyStateMachine>> = A extends unknown
  ? { readonly [T in Emitted<A>["type"]]: RoutesOf<Extract<Emitted<A>, { type: T }>> }
  : never;

export interface AppOptions<I extends InputsShape, A extends Record<string, AnyStateMachine>> {
  readonly version?: number;
  readonly inputs: I;
  readonly actors: {
    readonly [K in keyof A]: {
      readonly machine: A[K];
      readonly on?: { readonly [E in EventNames<I>]?: (value: ValueOf<I, E>) => string };
      readonly migrate?: (snapshot: unknown, fromVersion: number) => unknown;
    };
  };
  readonly emits: EmitsOf<A>;
  readonly late?: { readonly allowedMs: number; readonly topic?: string };
  /** Default `app.outbox`. */
  readonly outboxTable?: string;
  /** Default `<name>.outbox`. */
  readonly outboxTopic?: string;
  /** Folder of SQL files: a file URL (`new URL("./migrations/", import.meta.url)`) or an absolute path. */
  readonly migrations?: URL | string;
  readonly tellsMax?: number;
}

/**
 * Checks an app definition and returns it in the form the runtime hosts.
 * @throws {LockstepError} APP_INVALID with every fault at once, each a sentence
 */
export function defineApp<const I extends InputsShape, A extends Record<string, AnyStateMachine>>(
  name: string,
  options: AppOptions<I, A>,
): App {
  const actors: Record<string, ActorDefinition> = {};
  for (const [type, actor] of Object.entries(options.actors)) {
    const { machine, on, migrate } = actor as ActorDefinition;
    actors[type] = { machine, on: on ?? {}, ...(migrate ? { migrate } : {}) };
  }
  const emits: Record<string, ReadonlyArray<Route<any>>> = {};
  for (const [type, routes] of Object.entries(options.emits)) {
    emits[type] = (Array.isArray(routes) ? routes : [routes]) as ReadonlyArray<Route<any>>;
  }
  const app: App = {
    name,
    version: options.version ?? 1,
    inputs: Object.entries(options.inputs).map(([topic, definition]) => ({ topic, ...definition })),
    actors,
    emits,
    late: options.late ?? null,
    outboxTable: options.outboxTable ?? "app.outbox",
    outboxTopic: options.outboxTopic ?? `${name}.outbox`,
    migrations: options.migrations === undefined ? null : folderPath(options.migrations),
    tellsMax: options.tellsMax ?? 100,
  };
  const faults = appFaults(app);
  if (faults.length > 0) {
    throw new LockstepError(
      "APP_INVALID",
      `App "${name}" cannot be hosted:\n${faults.map((f) => `  - ${f}`).join("\n")}`,
      {
        details: { faults },
      },
    );
  }
  return Object.freeze(app);
}

function folderPath(folder: URL | string): string {
  const path = typeof folder === "string" ? folder : decodeURIComponent(folder.pathname);
  return path.endsWith("/") ? path.slice(0, -1) : path;
}

/** Topics that the app's commits write to: published ones, dead letters of each input, and the late topic. */
export function outputTopics(app: App): string[] {
  const topics = new Set<string>();
  for (const routes of Object.values(app.emits))
    for (const route of routes) if (route.kind === "publish") topics.add(route.topic);
  for (const definition of app.inputs) topics.add(deadLetterTopic(definition.topic));
  if (app.late?.topic) topics.add(app.late.topic);
  return [...topics];
}

/** What the relay has to do: rows of the table go to the topic, or to its dead letters. null: no machine fills an outbox. */
export function outboxOf(app: App): { table: string; topic: string; deadLetters: string } | null {
  const routes = Object.values(app.emits).flat();
  if (!routes.some(({ kind }) => kind === "outbox")) return null;
  const { outboxTable: table, outboxTopic: topic } = app;
  return { table, topic, deadLetters: deadLetterTopic(topic) };
}

export function deadLetterTopic(topic: string): string {
  return `${topic}.dlq`;
}
