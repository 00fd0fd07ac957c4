/**
 * What a failed soak leaves for whoever looks for the cause: the servers as they were, beside the logs of the processes.
 *
 *   <folder of the run>/kafka-1/     server.log of all its lives, settings, data: every record, offset and transaction
 *   <folder of the run>/postgres/    its data folder
 *   <folder of the run>/postgres.log
 *
 * The servers are ended first, by SIGKILL and by an immediate shutdown, so that nothing is tidied up before it is copied.
 */
import { cp } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Stack } from "../../src/stack/index.ts";

/** @returns what was kept: absolute paths */
export async function keepServers(stack: Stack, dir: string): Promise<string[]> {
  const from: string[] = [];
  for (const node of stack.kafka?.nodes ?? []) {
    await node.kill();
    from.push(node.folder);
  }
  const { postgres } = stack;
  if (postgres?.dataDir) {
    await postgres.stop({ immediate: true });
    from.push(postgres.dataDir, join(dirname(postgres.dataDir), "postgres.log"));
  }
  const kept = from.map((path) => join(dir, basename(path)));
  for (const [index, path] of from.entries()) await cp(path, kept[index]!, { recursive: true });
  return kept;
}
