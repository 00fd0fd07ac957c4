/**
 * Events for a machine, with the time at which they happen: drawn from the schemas of its app's inputs, from examples that stand beside
 * the machine, and told by other actors.
 */
import type { App, InputDefinition } from "../../actors/app.ts";
import { check } from "../../actors/judge.ts";
import type { MachineEvent } from "../../actors/machine-host.ts";
import type { OutputRecord } from "../../actors/record.ts";
import { arbitraryOf, type FastCheck, type JsonSchema, NotDrawable } from "./arbitrary.ts";

/** An event, and when it happens. */
export interface TimedEvent {
  readonly event: MachineEvent;
  /** Event time, ms since the Unix epoch. */
  readonly atMs: number;
}

/** A value as a producer sends it to an input. */
export interface InputValue {
  readonly topic: string;
  readonly value: unknown;
}

/** What happens to one actor, one after the other, so that tests reach what chance does not. */
export interface Example {
  /** Of the actor. */
  readonly key: string;
  /**
   * A value as it comes in on an input, or an event as another actor tells it. Values that reach other actors count where the
   * app is run as a whole.
   */
  readonly steps: readonly (InputValue | TimedEvent)[];
}

/** Examples by actor type. */
export type Examples = Readonly<Record<string, readonly Example[]>>;

/** Values of each input, at most. */
const VALUES_PER_INPUT = 6;
/** A schema with narrow rules refuses most of what is drawn. */
const DRAWN_PER_VALUE = 30;
/** The last ms of the year 9999: beyond it timers might be due where no date is. */
const TIME_MS_MAX = 253_402_300_799_999;

export interface Drawn {
  readonly values: readonly InputValue[];
  /** Why inputs gave nothing, a sentence each. */
  readonly notes: readonly string[];
}

/** Values of the inputs that an actor takes, the same for the same seed. */
export async function drawValues(app: App, actorType: string, seed: number): Promise<Drawn> {
  const { on } = app.actors[actorType]!;
  const inputs = app.inputs.filter(({ event }) => Object.hasOwn(on, event));
  if (inputs.length === 0) return { values: [], notes: [] };
  const fc = await loadFastCheck();
  if (fc === null)
    return {
      values: [],
      notes: ["fast-check is not installed, so there are examples only: npm install -D fast-check"],
    };
  const values: InputValue[] = [];
  const notes: string[] = [];
  for (const definition of inputs) {
    const { topic } = definition;
    try {
      const arbitrary = arbitraryOf(fc, jsonSchemaOf(definition));
      const drawn = fc.sample(arbitrary, { seed, numRuns: VALUES_PER_INPUT * DRAWN_PER_VALUE });
      const sound = drawn.filter((value) => eventOf(definition, value) !== null);
      if (sound.length === 0) notes.push(`${topic}: its schema refused each of ${drawn.length} values drawn`);
      values.push(...sound.slice(0, VALUES_PER_INPUT).map((value) => ({ topic, value })));
    } catch (error) {
      if (!(error instanceof NotDrawable)) throw error;
      notes.push(`${topic}: nothing can be drawn, as ${error.message}`);
    }
  }
  return { values, notes };
}

/** The event that a value of an input becomes, or null when the input refuses it. */
export function eventOf(definition: InputDefinition, raw: unknown): TimedEvent | null {
  // As a record has it: what JSON cannot hold never reaches a schema.
  const checked = check(definition.schema, JSON.parse(JSON.stringify(raw)));
  if ("issues" in checked || typeof checked.value !== "object" || checked.value === null) return null;
  try {
    const atMs = definition.time(checked.value);
    if (!Number.isInteger(atMs) || atMs < 0 || atMs > TIME_MS_MAX) return null;
    return { event: { ...checked.value, type: definition.event }, atMs };
  } catch {
    return null; // judge() refuses such a record too
  }
}

/** The record of a value, at offset 0 of shard 0; nothing for a value that its input refuses. */
export function recordOf(app: App, { topic, value }: InputValue): { step: TimedEvent; record: OutputRecord }[] {
  const definition = app.inputs.find((one) => one.topic === topic);
  const step = definition && eventOf(definition, value);
  if (!step) return [];
  const key = Buffer.from(definition.key?.(step.event) ?? topic);
  const bytes = Buffer.from(JSON.stringify(value));
  const record = { topic, partition: 0, key, value: bytes, headers: [], timestampMs: BigInt(step.atMs) };
  return [{ step, record }];
}

/**
 * The schema of what comes in, as JSON Schema, by the interface that zod 4 and others have for it.
 * @throws {NotDrawable} the library has none, or the schema holds what JSON Schema cannot say
 */
function jsonSchemaOf({ schema }: InputDefinition): JsonSchema {
  const { vendor, jsonSchema } = schema["~standard"] as (typeof schema)["~standard"] & {
    readonly jsonSchema?: { readonly input: (options: { target: string }) => JsonSchema };
  };
  if (!jsonSchema) throw new NotDrawable(`a schema of "${vendor}" does not say what it allows`);
  try {
    return jsonSchema.input({ target: "draft-2020-12" });
  } catch (error) {
    throw new NotDrawable(`its schema cannot be said as JSON Schema: ${(error as Error).message}`);
  }
}

/** null: it is not installed. It is a peer dependency, which whoever only runs an app has no use for. */
async function loadFastCheck(): Promise<FastCheck | null> {
  try {
    return await import("fast-check");
  } catch (error) {
    if ((error as { code?: string }).code === "ERR_MODULE_NOT_FOUND") return null;
    throw error;
  }
}
