import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";

import { EventLoopMeter } from "../../../src/telemetry/event-loop.ts";
import { until } from "../../support/until.ts";

test("a loop that was held shows it as its greatest delay and as use; sum and count are since the last reading", async () => {
  const meter = new EventLoopMeter();
  meter.start();
  await sleep(100);
  meter.read();
  const until300 = performance.now() + 300;
  while (performance.now() < until300); // hold the loop
  let busiest = 0;
  const { lag } = await until(
    async () => {
      const read = meter.read();
      busiest = Math.max(busiest, read.utilization);
      return read.lag.quantiles.some(([quantile, value]) => quantile === 1 && value >= 0.25) && read;
    },
    { what: "the delay to show" },
  );
  expect(lag.quantiles.map(([quantile]) => quantile)).toEqual([0.5, 0.99, 1]);
  expect(lag.sum).toBeGreaterThanOrEqual(0.25);
  expect(busiest).toBeGreaterThan(0.5);
  meter.stop();
  meter.read();
  expect(meter.read().lag).toMatchObject({ sum: 0, count: 0 });
});
