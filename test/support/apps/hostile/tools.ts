/** What the hostile app brings for the commands and the tests: topics, and rules for the audit. It has no load of its own. */
import type { AppTools } from "lockstep";

import { hostileRules } from "./audit.ts";
import { HOSTILE_TOPICS, SUMS_TOPIC } from "./topics.ts";

export const tools: AppTools = {
  topics: HOSTILE_TOPICS,
  load: () => {
    throw new Error("the hostile app has no load; its tests send what they mean");
  },
  auditRules: () => hostileRules,
  demo: { latencies: [{ topic: SUMS_TOPIC, name: "sum", figure: "sums" }], rows: () => [], faults: () => [] },
};
