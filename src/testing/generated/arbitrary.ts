/**
 * Values that a JSON Schema allows, as arbitraries of fast-check. What a schema demands beyond it (refinements, formats without a
 * pattern) is checked afterwards, on each value drawn. A kind that is not known here is refused in words, never guessed.
 */
import type { Arbitrary } from "fast-check";

export type FastCheck = typeof import("fast-check");
export type JsonSchema = { readonly [keyword: string]: unknown };

/** A schema from which nothing can be drawn; the message says what of it, and is for whoever wrote the schema. */
export class NotDrawable extends Error {}

const LENGTH_MAX = 20;
const ITEMS_MAX = 5;
/** Where a schema has no bounds: small enough to be read. */
const UNBOUNDED = 1_000;

/** @param where path of the value, for the message @throws {NotDrawable} */
export function arbitraryOf(fc: FastCheck, schema: JsonSchema, where = "the value"): Arbitrary<unknown> {
  const { type, enum: among, anyOf, oneOf } = schema;
  for (const keyword of ["$ref", "allOf", "not", "if"])
    if (keyword in schema) throw new NotDrawable(`${where} uses "${keyword}"`);
  if ("const" in schema) return fc.constant(schema["const"]);
  if (Array.isArray(among)) return fc.constantFrom(...among);
  const choices = (anyOf ?? oneOf) as readonly JsonSchema[] | undefined;
  if (choices) return fc.oneof(...choices.map((choice) => arbitraryOf(fc, choice, where)));
  if (Array.isArray(type)) return fc.oneof(...type.map((one) => arbitraryOf(fc, { ...schema, type: one }, where)));
  switch (type) {
    case "object":
      return objectOf(fc, schema, where);
    case "array":
      return arrayOf(fc, schema, where);
    case "string":
      return stringOf(fc, schema, where);
    case "integer":
    case "number":
      return numberOf(fc, schema, type === "integer");
    case "boolean":
      return fc.boolean();
    case "null":
      return fc.constant(null);
    case undefined:
      return fc.jsonValue({ maxDepth: 2 });
    default:
      throw new NotDrawable(`${where} is of the type ${JSON.stringify(type)}`);
  }
}

function objectOf(fc: FastCheck, schema: JsonSchema, where: string): Arbitrary<unknown> {
  const { properties = {}, required = [], additionalProperties: others } = schema;
  const fields = Object.entries(properties as Record<string, JsonSchema>);
  if (fields.length === 0 && typeof others === "object" && others !== null)
    return fc.dictionary(fc.string({ maxLength: LENGTH_MAX }), arbitraryOf(fc, others as JsonSchema, `${where}.*`), {
      maxKeys: ITEMS_MAX,
      noNullPrototype: true,
    });
  return fc.record(Object.fromEntries(fields.map(([name, of]) => [name, arbitraryOf(fc, of, `${where}.${name}`)])), {
    requiredKeys: required as string[],
    noNullPrototype: true,
  });
}

function arrayOf(fc: FastCheck, schema: JsonSchema, where: string): Arbitrary<unknown> {
  const {
    prefixItems,
    items,
    minItems = 0,
    maxItems = Number.POSITIVE_INFINITY,
  } = schema as {
    prefixItems?: readonly JsonSchema[];
    items?: JsonSchema | false;
    minItems?: number;
    maxItems?: number;
  };
  if (prefixItems) return fc.tuple(...prefixItems.map((item, i) => arbitraryOf(fc, item, `${where}.${i}`)));
  const maxLength = Math.min(maxItems, Math.max(ITEMS_MAX, minItems));
  return fc.array(arbitraryOf(fc, items || {}, `${where}.*`), { minLength: minItems, maxLength });
}

function stringOf(fc: FastCheck, schema: JsonSchema, where: string): Arbitrary<string> {
  const {
    pattern,
    format,
    minLength = 0,
    maxLength = Number.POSITIVE_INFINITY,
  } = schema as {
    pattern?: string;
    format?: string;
    minLength?: number;
    maxLength?: number;
  };
  if (pattern !== undefined) {
    try {
      return fc.stringMatching(new RegExp(pattern));
    } catch (error) {
      throw new NotDrawable(`${where} has the pattern ${pattern}: ${(error as Error).message}`);
    }
  }
  if (format !== undefined) throw new NotDrawable(`${where} has the format "${format}" and no pattern`);
  return fc.string({ minLength, maxLength: Math.min(maxLength, Math.max(LENGTH_MAX, minLength)) });
}

function numberOf(fc: FastCheck, schema: JsonSchema, isInteger: boolean): Arbitrary<number> {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf: unit } = schema as Record<string, number>;
  const low = Math.max(minimum ?? Number.NEGATIVE_INFINITY, exclusiveMinimum ?? Number.NEGATIVE_INFINITY);
  const high = Math.min(maximum ?? Number.POSITIVE_INFINITY, exclusiveMaximum ?? Number.POSITIVE_INFINITY);
  const isSafe = (n: number) => Math.abs(n) < Number.MAX_SAFE_INTEGER;
  // Without a bound, the other one says where.
  const min = isSafe(low) ? low : Math.min(-UNBOUNDED, isSafe(high) ? high - UNBOUNDED : 0);
  const max = isSafe(high) ? high : Math.max(UNBOUNDED, min + UNBOUNDED);
  if (unit !== undefined)
    return fc.integer({ min: Math.ceil(min / unit), max: Math.floor(max / unit) }).map((n) => n * unit);
  if (isInteger) return fc.integer({ min: Math.ceil(min), max: Math.floor(max) });
  const whole = Math.ceil(min) <= Math.floor(max) ? [fc.integer({ min: Math.ceil(min), max: Math.floor(max) })] : [];
  return fc.oneof(...whole, fc.double({ min, max, noNaN: true, noDefaultInfinity: true }));
}
