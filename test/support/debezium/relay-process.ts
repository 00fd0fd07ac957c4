/** `lockstep relay run` as a process: started, stopped in order, and never left behind. */
import { type ChildProcess, spawn } from "node:child_process";

import { MAIN } from "../deployment-settings.ts";

export interface RelayProcess {
  /** SIGTERM; resolves when it has ended in order. */
  stop(): Promise<void>;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
}

const OUTPUT_KEPT = 8_192;

export function startRelay(env: NodeJS.ProcessEnv): RelayProcess {
  const child = spawn(process.execPath, [MAIN, "relay", "run"], { env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (chunk) => (output = (output + chunk).slice(-OUTPUT_KEPT)));
  const ended = endOf(child);
  return {
    async stop() {
      child.kill("SIGTERM");
      const how = await ended;
      if (how !== 0) throw new Error(`the relay ended with ${how}:\n${output}`);
    },
    async kill() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

function endOf(child: ChildProcess): Promise<number | string | null> {
  return new Promise((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("close", (code, signal) => resolve(signal ?? code));
  });
}
