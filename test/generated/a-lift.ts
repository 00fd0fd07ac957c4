/** A small machine, registered with its app, and with nothing else that is of a test. */
import { emit, setup } from "xstate";
import { z } from "zod";

import { defineApp, input, publish } from "../../src/actors/app.ts";

const schema = z.object({
  lift: z.literal("l1"),
  button: z.enum(["up", "down"]),
  floor: z.number().int().gte(0).lte(9),
  at: z.number().int().gte(0).lte(100_000),
});

const DOOR_MS = 3_000;

const lift = setup({
  types: {
    context: {} as { readonly lift: string },
    events: {} as z.infer<typeof schema> & { readonly type: "pressed"; readonly streamTimeMs: number },
    emitted: {} as { readonly type: "opened" | "closed"; readonly lift: string; readonly at: number },
    input: {} as { readonly key: string; readonly type: string },
  },
}).createMachine({
  id: "lift",
  context: ({ input: { key } }) => ({ lift: key }),
  initial: "shut",
  states: {
    shut: {
      on: {
        pressed: {
          guard: ({ event }) => event.button === "up",
          target: "open",
          actions: emit(({ context, event }) => ({
            type: "opened" as const,
            lift: context.lift,
            at: event.streamTimeMs,
          })),
        },
      },
    },
    open: {
      after: {
        [DOOR_MS]: {
          target: "shut",
          actions: emit(({ context, event }) => ({
            type: "closed" as const,
            lift: context.lift,
            at: event.streamTimeMs,
          })),
        },
      },
    },
  },
});

export const lifts = appOf(lift);

/** The same with a state that nothing leads to. */
export function liftsWithStuckState() {
  const states = { ...lift.config.states, stuck: { on: { pressed: "shut" } } };
  return appOf(setup({}).createMachine({ ...lift.config, states } as never) as unknown as typeof lift);
}

function appOf(machine: typeof lift) {
  return defineApp("lifts", {
    inputs: { "lifts.pressed": input("pressed", { schema, time: ({ at }) => at, key: (one) => one.lift }) },
    actors: { lift: { machine, on: { pressed: (one) => one.lift } } },
    emits: {
      opened: publish("lifts.doors", { key: (event) => event.lift }),
      closed: publish("lifts.doors", { key: (event) => event.lift }),
    },
  });
}
