/** Visits that end each way there is, for the tests that are made from the machines. */
import { EVENTS_TOPIC } from "./topics.ts";

const seen = (kind: string, at: number) => ({ topic: EVENTS_TOPIC, value: { visitor: "a1", kind, at } });

export const examples = {
  visit: [
    {
      key: "a1",
      steps: [
        seen("ping", 500),
        seen("enter", 1_000),
        seen("ping", 2_000),
        seen("ping", 2_000),
        seen("leave", 3_000),
        seen("enter", 4_000),
        seen("enter", 60_000),
      ],
    },
  ],
};
