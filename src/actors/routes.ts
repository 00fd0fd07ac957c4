/**
 * Routes: what an emitted event becomes. Route functions belong to the app; whatever they throw or return that cannot be
 * made durable sets the record aside.
 *
 * Invariants
 *   RT1  An output depends on the event, what caused it and its ordinal: never on the batch, the clock or chance.
 *   RT2  Nothing that Kafka or JSON could not take leaves this file.
 */
import { LockstepError } from "../errors.ts";
import type { App, Route, RouteMeta } from "./app.ts";
import { deriveId, eventId, type IdOrigin } from "./ids.ts";
import { jsonFault } from "./json-value.ts";
import { check } from "./judge.ts";
import type { MachineEvent } from "./machine-host.ts";
import { partitionFor } from "./partition.ts";
import type { OutputRecord } from "./record.ts";

/** Header with the id of a published record. */
export const ID_HEADER = "lockstep-id";

/**
 * What a batch with one record adds to key, value and headers: 61 bytes of the batch, up to 35 of the record, and about 130
 * for the source header that the shell appends. Rounded up.
 */
const OUTPUT_OVERHEAD_BYTES = 256;
const HEADER_OVERHEAD_BYTES = 10;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export type Output =
  | { readonly kind: "publish"; readonly id: string; readonly record: OutputRecord }
  | { readonly kind: "row"; readonly table: string; readonly row: Readonly<Record<string, unknown>> }
  | { readonly kind: "tell"; readonly actorType: string; readonly key: string }
  | { readonly kind: "count"; readonly name: string };

export interface RouteContext {
  readonly app: App;
  readonly partitionsOf: (topic: string) => number;
  readonly outputBytesMax: (topic: string) => number;
  readonly effectBytesMax: (topic: string) => number;
}

/** Applies the routes of an event, in order. @throws {LockstepError} EFFECT_REFUSED, OUTPUT_TOO_LARGE */
export function outputsOf(context: RouteContext, event: MachineEvent, meta: RouteMeta): Output[] {
  const { emits } = context.app;
  const routes = Object.hasOwn(emits, event.type) ? emits[event.type] : undefined;
  if (!routes) throw refused(event, "is emitted and has no route");
  let published = 0;
  return routes.map((route) => {
    if (route.kind !== "publish") return toOutput(context, route, event, meta);
    const id = published === 0 ? meta.id : meta.derive(`publish/${published}`);
    published += 1;
    return toPublish(context, route, event, { meta, id });
  });
}

function toOutput(
  context: RouteContext,
  route: Exclude<Route<unknown>, { kind: "publish" }>,
  event: MachineEvent,
  meta: RouteMeta,
): Output {
  switch (route.kind) {
    case "tell":
      return {
        kind: "tell",
        actorType: route.actor,
        key: nonEmpty(event, "the key of the actor it is told to", () => route.key(event, meta)),
      };
    case "insert":
      return toRow(
        event,
        route.table,
        call(event, "its row", () => route.row(event, meta)),
      );
    case "outbox":
      return toRow(event, context.app.outboxTable, {
        event_id: meta.derive("outbox"),
        aggregate_type: route.aggregateType,
        aggregate_id: uuid(
          event,
          call(event, "its aggregate id", () => route.aggregateId(event, meta)),
        ),
        type: route.type,
        payload: call(event, "its payload", () => route.payload(event, meta)),
        occurred_at: new Date(meta.timeMs).toISOString(),
      });
    case "count":
      return { kind: "count", name: route.name };
  }
}

function toPublish(
  { partitionsOf, effectBytesMax }: RouteContext,
  route: Extract<Route<unknown>, { kind: "publish" }>,
  event: MachineEvent,
  { meta, id }: { meta: RouteMeta; id: string },
): Output {
  const { topic, schema } = route;
  const key = Buffer.from(nonEmpty(event, `its key on "${topic}"`, () => route.key(event, meta)));
  const value = call(event, `its value on "${topic}"`, () => route.value(event, meta));
  if (schema) {
    const checked = check(schema, value);
    if ("issues" in checked) throw refused(event, `does not fit the schema of "${topic}": ${checked.issues}`);
  }
  const text: string | undefined = call(event, `its value on "${topic}"`, () => JSON.stringify(value));
  if (text === undefined) throw refused(event, `has no value to publish on "${topic}"`);
  const record: OutputRecord = {
    topic,
    partition: partitionFor(key, partitionsOf(topic)),
    key,
    value: Buffer.from(text),
    headers: [[ID_HEADER, Buffer.from(id)]],
    timestampMs: BigInt(meta.timeMs),
  };
  assertFits(record, effectBytesMax(topic));
  return { kind: "publish", id, record };
}

/** Upper bound of what a record takes in a batch of its own, source header included. */
export function outputBytes({ key, value, headers }: OutputRecord): number {
  let bytes = OUTPUT_OVERHEAD_BYTES + (key?.length ?? 0) + (value?.length ?? 0);
  for (const [name, content] of headers)
    bytes += HEADER_OVERHEAD_BYTES + Buffer.byteLength(name) + (content?.length ?? 0);
  return bytes;
}

/** @throws {LockstepError} OUTPUT_TOO_LARGE */
export function assertFits(record: OutputRecord, bytesMax: number): void {
  const bytes = outputBytes(record);
  if (bytes > bytesMax)
    throw new LockstepError(
      "OUTPUT_TOO_LARGE",
      `A record of ${bytes} bytes for "${record.topic}" exceeds the ${bytesMax} bytes that the topic takes.`,
    );
}

/** What a route function knows of one emitted event. Ids are computed when asked for: most events need none. */
export class EventMeta implements RouteMeta {
  readonly timeMs: number;
  readonly actor: RouteMeta["actor"];
  readonly #app: string;
  readonly #origin: IdOrigin;
  readonly #ordinal: number;
  /** Of the latest events, by type, that the same step emitted before. */
  readonly #earlier: ReadonlyMap<string, EventMeta>;
  readonly #ids: Set<string>;
  #id: string | null = null;

  constructor(of: {
    app: string;
    origin: IdOrigin;
    ordinal: number;
    timeMs: number;
    actor: RouteMeta["actor"];
    earlier: ReadonlyMap<string, EventMeta>;
    /** Where ids that were made are written down. */
    ids: Set<string>;
  }) {
    this.timeMs = of.timeMs;
    this.actor = of.actor;
    this.#app = of.app;
    this.#origin = of.origin;
    this.#ordinal = of.ordinal;
    this.#earlier = of.earlier;
    this.#ids = of.ids;
  }

  get id(): string {
    if (this.#id === null) {
      this.#id = eventId(this.#app, this.#origin, this.#ordinal);
      this.#ids.add(this.#id);
    }
    return this.#id;
  }

  // Fields, not methods: a route may take them out of the meta.
  readonly idOf = (emittedType: string): string => {
    const earlier = this.#earlier.get(emittedType);
    if (!earlier) throw new LockstepError("EFFECT_REFUSED", `This step has emitted no "${emittedType}" before.`);
    return earlier.id;
  };

  readonly derive = (name: string): string => {
    const id = deriveId(this.id, name);
    this.#ids.add(id);
    return id;
  };
}

function toRow(event: MachineEvent, table: string, row: unknown): Output {
  if (typeof row !== "object" || row === null || Array.isArray(row)) throw refused(event, `gives no row for ${table}`);
  const fault = jsonFault(row);
  if (fault) throw refused(event, `gives a row for ${table} that does not survive JSON: ${fault}`);
  return { kind: "row", table, row: row as Record<string, unknown> };
}

function uuid(event: MachineEvent, id: unknown): string {
  if (typeof id !== "string" || !UUID.test(id))
    throw refused(event, `has the aggregate id ${JSON.stringify(id)}, which is not a UUID`);
  return id;
}

function nonEmpty(event: MachineEvent, what: string, compute: () => unknown): string {
  const text = call(event, what, compute);
  if (typeof text !== "string" || text === "") throw refused(event, `needs ${what} to be a text that is not empty`);
  return text;
}

/** Calls a function of the app. */
function call<T>(event: MachineEvent, what: string, compute: () => T): T {
  try {
    return compute();
  } catch (error) {
    if (error instanceof LockstepError) throw error;
    throw new LockstepError(
      "EFFECT_REFUSED",
      `Of the event "${event.type}", ${what} cannot be computed: ${error instanceof Error ? error.message : String(error)}`,
      {
        cause: error,
      },
    );
  }
}

function refused(event: MachineEvent, what: string): LockstepError {
  return new LockstepError("EFFECT_REFUSED", `The event "${event.type}" ${what}.`);
}
