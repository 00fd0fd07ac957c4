/** The hostile app, for tests of what a machine, and input, may do wrong. What it should do, said a second time: audit.ts. */
import { count, defineApp, input, insert, publish } from "lockstep";
import { z } from "zod";

import { DEEDS, tally } from "./machines.ts";
import { COMMANDS_TOPIC, LATE_TOPIC, SUMS_TOPIC } from "./topics.ts";

const schema = z.object({
  v: z.literal(1),
  key: z.string().regex(/^[a-z][0-9]{1,4}$/),
  do: z.enum(DEEDS),
  n: z.number(),
  at: z.number(),
  id: z.string().optional(),
  what: z.enum(DEEDS).optional(),
  qty: z.string().optional(),
  note: z
    .string()
    .refine((note) => {
      while (note === "hang");
      return true;
    })
    .optional(),
});

export default defineApp("hostile", {
  inputs: { [COMMANDS_TOPIC]: input("command", { schema, time: ({ at }) => at, key: ({ key }) => key }) },
  actors: { tally: { machine: tally, on: { command: ({ key }) => key } } },
  emits: {
    added: [
      publish(SUMS_TOPIC, {
        key: ({ key }) => key,
        value: ({ key, n, sum, note }, { id }) => ({ id, key, n, sum, note }),
      }),
      insert("hostile.sums", ({ key, n, sum, qty, note }, { id }) => ({ id, key, n, sum, qty, note })),
    ],
    repeatIgnored: count("repeatsIgnored"),
  },
  late: { allowedMs: 10_000, topic: LATE_TOPIC },
  migrations: new URL("./migrations/", import.meta.url),
});
