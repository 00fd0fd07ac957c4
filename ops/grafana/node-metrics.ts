/**
 * The metrics of Node.js that boards and rules use, as prom-client names them. Of the main thread of a process, or of all of it.
 */
export const NODE_METRICS = [
  "nodejs_eventloop_lag_p99_seconds",
  "nodejs_heap_size_used_bytes",
  "process_cpu_seconds_total",
  "process_resident_memory_bytes",
] as const;

export type NodeMetric = (typeof NODE_METRICS)[number];
