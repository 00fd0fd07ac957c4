import { defineApp, input, insert, publish } from "lockstep";
import { assign, emit, setup } from "xstate";
import { z } from "zod";

// One actor for each person. It remembers how often that person has arrived.
const greeter = setup({}).createMachine({
  context: ({ input }) => ({ name: input.key, visits: 0 }),
  on: {
    arrived: {
      actions: [
        assign({ visits: ({ context }) => context.visits + 1 }),
        emit(({ context }) => ({ type: "greeted", name: context.name, visits: context.visits })),
      ],
    },
  },
});

export default defineApp("greeter", {
  inputs: {
    "greeter.arrivals": input("arrived", {
      schema: z.object({ name: z.string().min(1), at: z.number().int() }),
      time: (arrival) => arrival.at, // event time, ms since the Unix epoch
      key: (arrival) => arrival.name, // what the record's key must be
    }),
  },
  actors: { greeter: { machine: greeter, on: { arrived: (arrival) => arrival.name } } },
  emits: {
    // In one commit with the position of the arrival: a record, and a row of the table that migrations/ makes.
    greeted: [
      publish("greeter.greetings", { key: (greeted) => greeted.name }),
      insert("greeter.greetings", (greeted, { id }) => ({ id, name: greeted.name, visits: greeted.visits })),
    ],
  },
  migrations: new URL("./migrations/", import.meta.url),
});
