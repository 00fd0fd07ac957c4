/**
 * The visits app, for tests: another domain than the package's own app, without an outbox, and loaded by its path as an
 * app of someone else would be. Its rules are in machines.ts; audit.ts has them a second time.
 */
import { count, defineApp, input, insert, publish, tell } from "lockstep";
import { z } from "zod";

import { house, visit } from "./machines.ts";
import { ENDED_TOPIC, EVENTS_TOPIC, LATE_TOPIC, PEAKS_TOPIC } from "./topics.ts";

const schema = z.object({
  visitor: z.string().regex(/^[a-e][0-9]{1,6}$/),
  kind: z.enum(["enter", "ping", "leave", "poison"]),
  at: z.number().int().gte(0),
});

const houseOf = ({ visitor }: { readonly visitor: string }) => visitor.charAt(0);

export default defineApp("visits", {
  inputs: {
    [EVENTS_TOPIC]: input("seen", { schema, time: (event) => event.at, key: (event) => event.visitor }),
  },
  actors: {
    visit: { machine: visit, on: { seen: (event) => event.visitor } },
    house: { machine: house },
  },
  emits: {
    visitBegan: [count("visitsBegun"), tell("house", houseOf)],
    visitEnded: [
      publish(ENDED_TOPIC, {
        key: (event) => event.visitor,
        value: ({ visitor, enteredAt, endedAt, pings, reason }, { id }) => ({
          id,
          visitor,
          enteredAt,
          endedAt,
          pings,
          reason,
        }),
      }),
      insert("visits.visits", (event, { id }) => ({
        id,
        visitor: event.visitor,
        entered_at: new Date(event.enteredAt).toISOString(),
        ended_at: new Date(event.endedAt).toISOString(),
        pings: event.pings,
        reason: event.reason,
      })),
      count("visitsEnded"),
      tell("house", houseOf),
    ],
    peakReached: publish(PEAKS_TOPIC, { key: (event) => event.house }),
    repeatIgnored: count("repeatsIgnored"),
    strangerIgnored: count("strangersIgnored"),
  },
  late: { allowedMs: 10_000, topic: LATE_TOPIC },
  migrations: new URL("./migrations/", import.meta.url),
});
