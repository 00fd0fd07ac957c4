/** What can be drawn from a schema, and what is refused in words. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { setup } from "xstate";
import { z } from "zod";
import { defineApp, input, type Schema } from "../../src/actors/app.ts";
import { drawValues, eventOf } from "../../src/testing/generated/events.ts";

/** An app with one input of a schema. */
function appOf(schema: Schema<{ readonly [name: string]: unknown }>) {
  const machine = setup({}).createMachine({ on: { came: {} } });
  return defineApp("drawn", {
    inputs: { "drawn.in": input("came", { schema, time: () => 0 }) },
    actors: { one: { machine, on: { came: () => "one" } } },
    emits: {},
  });
}

const node = z.object({
  get next() {
    return z.optional(node as z.ZodType);
  },
});

const draw = (of: z.ZodType) => drawValues(appOf(z.object({ of }) as never), "one", 1);

describe("values are drawn", () => {
  test.each<[string, z.ZodType]>([
    ["text", z.string().min(3).max(40)],
    ["text of a pattern", z.string().regex(/^[a-z][0-9]{1,4}$/)],
    ["a date and time", z.iso.datetime()],
    ["a UUID", z.uuid()],
    ["whole numbers", z.number().int().gte(-5).lte(5)],
    ["large whole numbers", z.number().int().gte(1_700_000_000_000)],
    ["numbers", z.number().gt(0).lt(1)],
    ["multiples", z.number().multipleOf(5).lte(50)],
    ["an enumeration", z.enum(["a", "b"])],
    ["a literal", z.literal(3)],
    ["what may be null or absent", z.string().nullable().optional()],
    ["a union", z.union([z.number(), z.string()])],
    ["a list", z.array(z.number()).min(2)],
    ["a tuple", z.tuple([z.string(), z.number()])],
    ["a record", z.record(z.string(), z.boolean())],
    ["anything", z.unknown()],
    [
      "what a schema changes on its way",
      z
        .string()
        .regex(/^[0-9]+$/)
        .transform(Number)
        .pipe(z.number().gte(5)),
    ],
    [
      "what a refinement lets pass",
      z
        .number()
        .int()
        .refine((n) => n % 2 === 0),
    ],
  ])("of %s", async (_what, of) => {
    const { values, notes } = await draw(of);
    expect(notes).toEqual([]);
    expect(values.length).toBeGreaterThan(2);
    const definition = appOf(z.object({ of }) as never).inputs[0]!;
    for (const { value } of values) expect(eventOf(definition, value)).not.toBeNull();
    expect(await draw(of)).toEqual({ values, notes });
  });
});

describe("nothing is drawn, and it is said why", () => {
  test.each<[string, z.ZodType, string]>([
    ["a date", z.date(), "Date cannot be represented"],
    ["what only code knows", z.custom(() => true), "Custom types cannot be represented"],
    ["a URL", z.url(), 'the value.of has the format "uri" and no pattern'],
    ["a list of itself", node, "$ref"],
    ["what nothing fits", z.string().refine(() => false), "refused each of"],
  ])("of %s", async (_what, of, note) => {
    const { values, notes } = await draw(of);
    expect(values).toEqual([]);
    expect(notes.join()).toContain("drawn.in: ");
    expect(notes.join()).toContain(note);
  });

  test("of a schema that does not describe itself", async () => {
    const schema: Schema<{ readonly n: number }> = {
      "~standard": { version: 1, vendor: "mine", validate: (value) => ({ value: value as { n: number } }) },
    };
    expect(await drawValues(appOf(schema), "one", 1)).toEqual({
      values: [],
      notes: ['drawn.in: nothing can be drawn, as a schema of "mine" does not say what it allows'],
    });
  });
});

test("an arbitrary gives values that its schema takes, with any seed", () => {
  const schema = z.object({
    a: z.number().int().gte(3),
    b: z.array(z.enum(["x", "y"])).max(3),
    c: z.boolean().optional(),
  });
  const app = appOf(schema as never);
  return fc.assert(
    fc.asyncProperty(fc.integer(), async (seed) => {
      const { values } = await drawValues(app, "one", seed);
      for (const { value } of values) expect(schema.safeParse(value).success).toBe(true);
    }),
    { numRuns: 20 },
  );
});
