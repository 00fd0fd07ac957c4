/** `lockstep generate`: the app's generated load, and a manifest of what was sent. */
import { writeFile } from "node:fs/promises";

import { loadConfig } from "../config.ts";
import { openSender } from "../kafka/sender.ts";
import { loadApp } from "../runtime/code.ts";
import { type LoadOptions, loadTools } from "./app-tools.ts";
import { createProgress, EXIT, printJson } from "./output.ts";

export async function generate(
  options: LoadOptions & { manifest: string; json: boolean },
  env: NodeJS.ProcessEnv,
): Promise<number> {
  const config = loadConfig(env, ["brokers"]);
  const tools = await loadTools(await loadApp(config.app));
  const sender = await openSender(
    config.brokers,
    tools.topics.map(({ name }) => name),
  );
  const stop = new AbortController();
  process.once("SIGINT", () => stop.abort());
  process.once("SIGTERM", () => stop.abort());
  const progress = createProgress(process.stderr, env);
  try {
    const manifest = await tools.load(options).run({
      send: sender.send,
      signal: stop.signal,
      onProgress: ({ sent, total, behindMs }) =>
        progress.update(`sent ${sent} of ${total}${behindMs > 100 ? `, ${Math.round(behindMs)} ms behind` : ""}`),
    });
    progress.end();
    await writeFile(options.manifest, `${JSON.stringify(manifest, null, 2)}\n`);
    if (options.json) printJson(manifest);
    else
      process.stdout.write(
        `sent ${manifest.sent.total} records: ${manifest.sent.distinct} distinct (${manifest.sent.late} late), ${manifest.sent.duplicates} duplicates, ${manifest.sent.bad} bad; manifest in ${options.manifest}\n`,
      );
    return stop.signal.aborted ? EXIT.failure : EXIT.ok;
  } finally {
    await sender.close();
  }
}
