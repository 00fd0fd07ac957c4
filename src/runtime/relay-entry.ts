/**
 * Where the relay's thread begins: hosts a relay until main says stop. Main starts another thread when this one fails.
 */
import { hostRelay } from "../relay/open.ts";
import { createLog } from "../telemetry/log.ts";
import { loadApp } from "./code.ts";
import { createHook, parseFailPoints } from "./failpoints.ts";
import type { FromRelay, RelayTask, ToWorker } from "./messages.ts";

export default async function runRelayThread({ config, groupId, appPath, port }: RelayTask): Promise<void> {
  const log = createLog({ level: config.logLevel, bindings: { relay: true } });
  const { app } = await loadApp(appPath);
  const stop = new AbortController();
  port.on("message", (message: ToWorker) => {
    if (message.type === "stop") stop.abort();
  });
  const hook = createHook(parseFailPoints(config.failpoint), "relay", config.failpointLog || undefined);
  try {
    await hostRelay(
      {
        app,
        config,
        groupId,
        log,
        hook: (point) => hook(`relay.${point}`),
        onReport: (report) => port.postMessage({ type: "relay", report } satisfies FromRelay),
      },
      stop.signal,
    );
  } finally {
    port.close();
  }
}
