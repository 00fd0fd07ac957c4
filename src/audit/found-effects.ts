/**
 * Reads what is there: the records of a topic, the rows of a table, each as the app's rules understand it.
 */
import type { EffectSource, FoundItem } from "./effect-stream.ts";
import type { TableRules, TopicRules } from "./rules.ts";
import type { Database, OutputSource } from "./sources.ts";

/** Header of every record that a commit publishes: `<instance>/<shard>/<seq>/<ordinal in the commit>`. */
const SOURCE_HEADER = "lockstep-source";

const TABLE_PAGE_ROWS = 10_000;
/** Below every uuid that an app makes. */
const UUID_MIN = "00000000-0000-0000-0000-000000000000";

export async function* readTopic(
  rules: TopicRules,
  options: { outputs: OutputSource; instance: string },
): AsyncGenerator<FoundItem> {
  for await (const record of options.outputs.read(rules.name)) {
    const { partition, offset } = record;
    yield {
      effect: rules.effectOf(record),
      place: { partition, offset },
      source: rules.sourced ? (readSource(record.headers[SOURCE_HEADER], options.instance) ?? "none") : null,
    };
  }
}

export async function* readTable(rules: TableRules, database: Database): AsyncGenerator<FoundItem> {
  const columns = Object.entries(rules.columns).map(([name, expression]) => `${expression} as ${name}`);
  const key = rules.keyColumn;
  const sql = `select ${key}::text as audit_key, ${columns.join(", ")} from ${rules.name} where ${key} > $1 order by ${key} limit $2`;
  let after = UUID_MIN;
  for (;;) {
    const rows = await database.query(sql, [after, TABLE_PAGE_ROWS]);
    for (const row of rows) yield { effect: rules.effectOf(row), place: null, source: null };
    if (rows.length < TABLE_PAGE_ROWS) return;
    after = String(rows.at(-1)?.["audit_key"]);
  }
}

function readSource(header: string | undefined, instance: string): EffectSource | null {
  const match = /^(.*)\/(\d+)\/(\d+)\/(\d+)$/.exec(header ?? "");
  if (match === null || match[1] !== instance) return null;
  return { shard: Number(match[2]), seq: Number(match[3]), ordinal: Number(match[4]) };
}
