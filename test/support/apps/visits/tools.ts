/** What the visits app brings for the commands and the tests: topics, a load, and rules for the audit. */
import type { AppTools } from "lockstep";

import { visitsRules } from "./audit.ts";
import { createLoad } from "./load.ts";
import { ENDED_TOPIC, VISITS_TOPICS } from "./topics.ts";

export const tools: AppTools = {
  topics: VISITS_TOPICS,
  load: createLoad,
  auditRules: () => visitsRules,
  demo: {
    latencies: [{ topic: ENDED_TOPIC, name: "visit", figure: "visits" }],
    rows: ({ figures }) => Object.entries(figures).map(([name, figure]) => [name, String(figure)] as const),
    faults: () => [],
  },
};
