/** `lockstep topics apply|check`: the topics that an app reads and writes, compared with the cluster. */

import { existsSync } from "node:fs";
import Table from "cli-table3";
import { outboxOf, outputTopics } from "../actors/app.ts";
import { loadConfig } from "../config.ts";
import { createKafkaClient, type KafkaClient } from "../kafka/client.ts";
import { applyTopics, describeTopics, inputFaults } from "../kafka/topics.ts";
import { type LoadedApp, loadApp, toolsPath } from "../runtime/code.ts";
import { loadTools, type WantedTopic } from "./app-tools.ts";
import { EXIT, printJson } from "./output.ts";

/** Partitions of an app that says nothing of its topics. */
const PARTITIONS = 6;
/** Bound on event time beyond the broker's clock, as the runtime's own (design: a record further ahead is set aside). */
const AHEAD_MS = "60000";

export async function topics(
  verb: "apply" | "check",
  options: { json: boolean },
  env: NodeJS.ProcessEnv,
): Promise<number> {
  const config = loadConfig(env, ["brokers"]);
  const loaded = await loadApp(config.app);
  const client = createKafkaClient({ brokers: config.brokers, clientId: "lockstep-topics" });
  const wanted = await wantedTopics(loaded);
  const created = verb === "apply" ? (await applyTopics(client, wanted)).created : [];
  const { rows, faults } = await compare(client, loaded, wanted, created);
  if (options.json) printJson({ created, topics: rows, faults });
  else {
    const table = new Table({ head: ["topic", "partitions", "wanted", "state"], style: { head: [], border: [] } });
    for (const row of rows) table.push([row.name, row.partitions ?? "-", row.wanted, row.state]);
    process.stdout.write(`${table.toString()}\n`);
    for (const fault of faults) process.stdout.write(`- ${fault}\n`);
  }
  return faults.length === 0 ? EXIT.ok : EXIT.failure;
}

/** The app's own list, or, when it brings none, every topic it names with default settings. */
export async function wantedTopics(loaded: LoadedApp): Promise<readonly WantedTopic[]> {
  if (existsSync(toolsPath(loaded.path))) return (await loadTools(loaded)).topics;
  const inputs = loaded.app.inputs.map((definition) => definition.topic);
  return [
    ...inputs.map((name) => ({ name, partitions: PARTITIONS, config: { "message.timestamp.after.max.ms": AHEAD_MS } })),
    ...[...outputTopics(loaded.app), ...relayTopics(loaded)].map((name) => ({
      name,
      partitions: PARTITIONS,
      config: {},
    })),
  ];
}

/** What the relay writes. */
function relayTopics({ app }: LoadedApp): string[] {
  const outbox = outboxOf(app);
  return outbox === null ? [] : [outbox.topic, outbox.deadLetters];
}

async function compare(
  client: KafkaClient,
  loaded: LoadedApp,
  wanted: readonly WantedTopic[],
  created: readonly string[],
) {
  const described = await describeTopics(
    client,
    wanted.map(({ name }) => name),
  );
  const faults = inputFaults(
    described,
    loaded.app.inputs.map((definition) => definition.topic),
  );
  const rows = wanted.map((topic) => {
    const found = described.get(topic.name);
    const differing = found ? Object.entries(topic.config).filter(([name, value]) => found.config[name] !== value) : [];
    if (!found) faults.push(`Topic "${topic.name}" does not exist. Run \`lockstep topics apply\`.`);
    else if (found.partitions !== topic.partitions)
      faults.push(
        `Topic "${topic.name}" has ${found.partitions} partitions, wanted are ${topic.partitions}; a count is never altered.`,
      );
    for (const [name, value] of differing)
      faults.push(`Topic "${topic.name}" has ${name}=${found!.config[name] ?? "(unknown)"}, wanted is ${value}.`);
    const state = !found
      ? "missing"
      : created.includes(topic.name)
        ? "created"
        : differing.length > 0
          ? "differs"
          : "ok";
    return { name: topic.name, partitions: found?.partitions ?? null, wanted: topic.partitions, state };
  });
  return { rows, faults: [...new Set(faults)] };
}
