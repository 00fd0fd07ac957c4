/**
 * Where a worker thread begins: builds the adapters, hosts shards until main says stop or the worker fails.
 *
 * Piscina runs the default export as one long-lived task. It resolves after a graceful stop, with whether all was drained,
 * and rejects when the worker cannot go on; main then starts another.
 */
import { randomIds, systemClock } from "../clock.ts";
import { assert } from "../errors.ts";
import { createLog } from "../telemetry/log.ts";
import { loadApp } from "./code.ts";
import { createHook, parseFailPoints } from "./failpoints.ts";
import type { FromWorker, ToWorker, WorkerTask } from "./messages.ts";
import { createStepSeat } from "./step-seat.ts";
import { Worker } from "./worker.ts";
import { openWorkerPorts } from "./worker-ports.ts";

export default async function runWorker(task: WorkerTask): Promise<boolean> {
  const { index, config, deployment, port } = task;
  const log = createLog({ level: config.logLevel, bindings: { worker: index } });
  const loaded = await loadApp(task.appPath);
  assert(
    loaded.code === task.code,
    `the app's files changed while the process started (${task.code}, now ${loaded.code})`,
  );

  const say = (message: FromWorker) => port.postMessage(message);
  const ports = await openWorkerPorts({ config, deployment, loaded, log, index });
  const worker = new Worker({
    index,
    config,
    deployment,
    loaded,
    ports,
    seat: createStepSeat(
      task.seat,
      loaded.app.inputs.map(({ topic }) => topic),
    ),
    clock: systemClock,
    ids: randomIds,
    hookOf: (shard) => createHook(parseFailPoints(config.failpoint), shard, config.failpointLog || undefined),
    log,
    onMember: (memberId) => say({ type: "member", memberId }),
  });
  const stopped = new Promise<void>((resolve) => {
    port.on("message", (message: ToWorker) => {
      if (message.type === "stop") resolve();
    });
  });
  const endReports = worker.meter.start((report) => say({ type: "report", report }));
  try {
    try {
      await worker.start();
      await Promise.race([stopped, worker.failure]);
    } catch (error) {
      // Nothing of this worker may go on beside its successor, and what can be drained is.
      await worker.stop().catch((err: unknown) => log.warn({ err }, "a worker that failed did not stop in order"));
      throw error;
    }
    return await worker.stop();
  } finally {
    endReports();
    port.close();
  }
}
