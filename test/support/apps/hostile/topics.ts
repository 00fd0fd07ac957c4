/** The topics of the hostile app, each name declared once. */
import type { WantedTopic } from "lockstep";

export const COMMANDS_TOPIC = "hostile.commands";
export const DEAD_LETTERS_TOPIC = "hostile.commands.dlq";
export const SUMS_TOPIC = "hostile.added";
export const LATE_TOPIC = "hostile.late";

export const HOSTILE_TOPICS: readonly WantedTopic[] = [
  // 4 MiB: what takes that much fits its dead letters only without its value.
  ...[COMMANDS_TOPIC, DEAD_LETTERS_TOPIC, LATE_TOPIC].map((name) => ({
    name,
    partitions: 4,
    config: { "max.message.bytes": "4194304" },
  })),
  { name: SUMS_TOPIC, partitions: 4, config: {} },
];
