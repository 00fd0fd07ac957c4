/**
 * The instance: one deployment of an app, and the group, cluster, topics and database that belong together.
 *
 * Invariant
 *   D1  What an instance was made with never changes unnoticed: state, positions and redo are true of that group on that
 *       cluster, with that number of partitions, in that database, and of no other.
 */
import { randomUUID } from "node:crypto";

import { assert, LockstepError } from "../errors.ts";
import { sqlState } from "./pg-errors.ts";
import { type Client, type Pool, query, withClient } from "./pool.ts";

export interface InstanceInput {
  readonly topic: string;
  readonly partitions: number;
}

export interface InstanceIdentity {
  readonly kafkaClusterId: string;
  readonly groupId: string;
  /** In order of definition, all with the same count. */
  readonly inputs: readonly InstanceInput[];
}

export interface Instance extends InstanceIdentity {
  /** A random UUID. */
  readonly id: string;
  readonly app: string;
  readonly name: string;
  /** Of the Postgres cluster, as pg_control_system() has it. */
  readonly databaseSystemIdentifier: string;
  /** Shards, so partitions of every input: 0..shards-1. */
  readonly shards: number;
}

/**
 * Makes the instance on the first call, and a row for each of its shards; compares on every further one.
 * @throws {LockstepError} IDENTITY_CHANGED `details.differences`: each difference a sentence
 * @throws {LockstepError} NOT_MIGRATED the tables are not there
 */
export async function ensureInstance(options: {
  pool: Pool;
  app: string;
  name: string;
  identity: InstanceIdentity;
}): Promise<Instance & { readonly created: boolean }> {
  const { pool, app, name, identity } = options;
  assert(identity.inputs.length > 0, `app ${app} has no inputs`);
  const shards = identity.inputs[0]!.partitions;
  assert(
    identity.inputs.every(({ partitions }) => partitions === shards),
    `the inputs of ${app} have unequal partition counts`,
  );
  const created = await withClient(pool, (client) => create(client, { app, name, identity, shards }));
  const instance = await readInstance({ pool, app, name });
  const differences = await instanceDifferences(pool, instance, identity);
  if (differences.length > 0) throw identityChanged({ app, name }, differences);
  return { ...instance, created };
}

/** @throws {LockstepError} NOT_MIGRATED there is no such instance, or no tables */
export async function readInstance({ pool, app, name }: { pool: Pool; app: string; name: string }): Promise<Instance> {
  const { rows } = await query<InstanceColumns>(
    pool,
    `SELECT id::text, kafka_cluster_id, group_id, database_system_identifier,
       (SELECT json_agg(json_build_object('topic', topic, 'partitions', partitions) ORDER BY position)
        FROM lockstep.input WHERE instance = id) AS inputs,
       (SELECT count(*)::int FROM lockstep.shard WHERE instance = id) AS shards
     FROM lockstep.instance WHERE app = $1 AND name = $2`,
    [app, name],
  );
  const row = rows[0];
  if (!row) {
    throw new LockstepError(
      "NOT_MIGRATED",
      `There is no instance "${name}" of app "${app}" in this database. Run \`lockstep migrate\`.`,
      {
        details: { app, name },
      },
    );
  }
  return {
    id: row.id,
    app,
    name,
    kafkaClusterId: row.kafka_cluster_id,
    groupId: row.group_id,
    databaseSystemIdentifier: row.database_system_identifier,
    inputs: row.inputs,
    shards: row.shards,
  };
}

type InstanceColumns = {
  id: string;
  kafka_cluster_id: string;
  group_id: string;
  database_system_identifier: string;
  inputs: InstanceInput[];
  shards: number;
};

/** @returns false when it was there already */
async function create(
  client: Client,
  made: { app: string; name: string; identity: InstanceIdentity; shards: number },
): Promise<boolean> {
  const { app, name, identity, shards } = made;
  const id = randomUUID();
  try {
    await client.query("BEGIN");
    const { rowCount } = await client.query(
      `INSERT INTO lockstep.instance (id, app, name, kafka_cluster_id, group_id, database_system_identifier)
       SELECT $1, $2, $3, $4, $5, system_identifier::text FROM pg_control_system()
       ON CONFLICT ON CONSTRAINT instance_app_name DO NOTHING`,
      [id, app, name, identity.kafkaClusterId, identity.groupId],
    );
    if (rowCount === 1) {
      for (const [position, { topic, partitions }] of identity.inputs.entries()) {
        await client.query(
          "INSERT INTO lockstep.input (instance, topic, position, partitions) VALUES ($1, $2, $3, $4)",
          [id, topic, position, partitions],
        );
      }
      await client.query("INSERT INTO lockstep.shard (instance, shard) SELECT $1, generate_series(0, $2::int - 1)", [
        id,
        shards,
      ]);
    }
    await client.query("COMMIT");
    return rowCount === 1;
  } catch (error) {
    if (sqlState(error) === "23505" && (error as { constraint?: string }).constraint === "instance_group") {
      throw identityChanged({ app, name }, [
        `the group ${identity.groupId} belongs to another instance in this database`,
      ]);
    }
    throw error;
  }
}

/**
 * Compares an instance with what was found now. Changes nothing.
 * @returns each difference a sentence
 */
export async function instanceDifferences(pool: Pool, instance: Instance, found: InstanceIdentity): Promise<string[]> {
  const { rows } = await query<{ id: string }>(pool, "SELECT system_identifier::text AS id FROM pg_control_system()");
  const differences: string[] = [];
  const same = (what: string, was: string, is: string) => {
    if (was !== is) differences.push(`${what} was ${was}, now it is ${is}`);
  };
  same("the Kafka cluster", instance.kafkaClusterId, found.kafkaClusterId);
  same("the group", instance.groupId, found.groupId);
  same("the Postgres cluster (system identifier)", instance.databaseSystemIdentifier, rows[0]!.id);
  const now = new Map(found.inputs.map((input) => [input.topic, input.partitions]));
  for (const { topic, partitions } of instance.inputs) {
    const count = now.get(topic);
    if (count === undefined) differences.push(`the input ${topic} is gone from the app`);
    else same(`the number of partitions of ${topic}`, String(partitions), String(count));
    now.delete(topic);
  }
  for (const topic of now.keys()) differences.push(`the input ${topic} is new in the app`);
  if (differences.length === 0) {
    const order = (inputs: readonly InstanceInput[]) => inputs.map((input) => input.topic).join(", ");
    same("the order of the inputs", order(instance.inputs), order(found.inputs));
  }
  return differences;
}

function identityChanged({ app, name }: { app: string; name: string }, differences: string[]): LockstepError {
  return new LockstepError(
    "IDENTITY_CHANGED",
    `Instance "${name}" of app "${app}" was made with something else:\n${differences.map((d) => `  - ${d}`).join("\n")}\n` +
      "Its state is true only of what it was made with. Put that back; or choose another instance name, which makes a new instance with a group and a start of its own.",
    { details: { app, name, differences } },
  );
}
