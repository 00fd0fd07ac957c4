/**
 * `/metrics` as text, rendered by prom-client: its own metrics of Node.js in the main thread, and what the totals hold.
 */
import { collectDefaultMetrics, type Metric, Registry } from "prom-client";

import { METRICS, type MetricDefinition, type MetricName } from "./metrics-list.ts";
import type { Sample } from "./totals.ts";

export interface Exposition {
  readonly contentType: string;
  text(): Promise<string>;
}

/**
 * @param options.labels  on every series
 * @param options.samples all samples of one metric, as of now
 */
export function createExposition(options: {
  labels: { app: string; group: string };
  samples: (name: MetricName) => readonly Sample[];
  /** Before each rendering. */
  refresh: () => void;
}): Exposition {
  const registry = new Registry();
  registry.setDefaultLabels(options.labels);
  collectDefaultMetrics({ register: registry });
  for (const [name, { type, help }] of Object.entries(METRICS as Readonly<Record<string, MetricDefinition>>)) {
    // Of a metric a registry uses name, type, help and get(): prom-client's own aggregation over cluster workers hands it such objects too.
    const get = async () => ({
      name,
      type,
      help,
      aggregator: "omit",
      values: options
        .samples(name as MetricName)
        .map(({ suffix, labels, value }) => ({ metricName: name + suffix, labels, value })),
    });
    registry.registerMetric({ name, type, help, get } as unknown as Metric);
  }
  return {
    contentType: registry.contentType,
    text: () => {
      options.refresh();
      return registry.metrics();
    },
  };
}
