/** The topics of the visits app, each name declared once. */
import type { WantedTopic } from "lockstep";

export const EVENTS_TOPIC = "visits.events";
export const DEAD_LETTERS_TOPIC = "visits.events.dlq";
export const ENDED_TOPIC = "visits.ended";
export const PEAKS_TOPIC = "visits.peaks";
export const LATE_TOPIC = "visits.late";

export const PARTITIONS = 4;

export const VISITS_TOPICS: readonly WantedTopic[] = [
  // Event times of a test may lie in the past, and so may Kafka's timestamps of what is published.
  { name: EVENTS_TOPIC, partitions: PARTITIONS, config: { "message.timestamp.after.max.ms": "60000" } },
  ...[DEAD_LETTERS_TOPIC, ENDED_TOPIC, PEAKS_TOPIC, LATE_TOPIC].map((name) => ({
    name,
    partitions: PARTITIONS,
    config: {},
  })),
];
