/**
 * ops/debezium is what the tests run (test/debezium), agrees with itself, with the table and with the topic.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

import { ORDERS_TOPIC, TRADING_TOPICS } from "../../src/machines/trading/topics.ts";
import { DEBEZIUM_VERSION } from "../support/debezium/connect-libs.ts";
import {
  connectorConfig,
  databaseProperties,
  parseProperties,
  setupStatements,
  shippedText,
  workerProperties,
} from "../support/debezium/shipped.ts";
import { filesOf, ROOT } from "./source-files.ts";

const FOLDER = join(ROOT, "ops/debezium");
const DATABASE_FILE = "/etc/lockstep/debezium/database.properties";

async function shippedConnector(): Promise<Record<string, string>> {
  return JSON.parse(await shippedText("outbox.json"));
}

describe("ops/debezium", () => {
  test("has no file but the README that the tests do not run Connect with", () => {
    const code = filesOf("test/support/debezium", ".ts").map(({ text }) => text);
    const unused = readdirSync(FOLDER).filter((name) => !code.some((text) => text.includes(`"${name}"`)));
    expect(unused).toEqual(["README.md"]);
  });

  test("is explained file by file, and for the versions that are run", () => {
    const readme = readFileSync(join(FOLDER, "README.md"), "utf8");
    expect(readdirSync(FOLDER).filter((name) => name !== "README.md" && !readme.includes(`\`${name}\``))).toEqual([]);
    expect(readme).toContain(DEBEZIUM_VERSION);
  });

  test("takes everything about the database, and nothing else, from the file of secrets", async () => {
    const placeholders = Object.entries(await shippedConnector()).flatMap(([name, value]) =>
      [...value.matchAll(/\$\{file:([^:}]+):([^}]+)\}/g)].map(([, path, key]) => ({ name, path, key })),
    );
    expect(placeholders.map(({ path }) => path)).toEqual(placeholders.map(() => DATABASE_FILE));
    expect(placeholders.map(({ key }) => `database.${key}`)).toEqual(placeholders.map(({ name }) => name));
    const shipped = parseProperties(await shippedText("database.properties"));
    expect(placeholders.map(({ key }) => key).sort()).toEqual(Object.keys(shipped).sort());
    expect(shipped["password"]).toBe("");
    const worker = parseProperties(await shippedText("worker.properties"));
    expect(DATABASE_FILE.startsWith(`${worker["config.providers.file.param.allowed.paths"]}/`)).toBe(true);
  });

  test("names role, slot and publication as setup.sql makes them", async () => {
    const connector = await shippedConnector();
    const statements = (await setupStatements()).join("\n");
    const role = parseProperties(await shippedText("database.properties"))["user"];
    expect(statements).toContain(`CREATE ROLE ${role} LOGIN REPLICATION`);
    expect(statements).toContain(
      `CREATE PUBLICATION ${connector["publication.name"]} FOR TABLE ${connector["table.include.list"]} WITH (publish = 'insert')`,
    );
    expect(statements).toContain(
      `pg_create_logical_replication_slot('${connector["slot.name"]}', '${connector["plugin.name"]}')`,
    );
  });

  test("makes the record that docs/trading.md describes, of columns that the table has", async () => {
    const connector = await shippedConnector();
    const placed = connector["transforms.outbox.table.fields.additional.placement"]!;
    expect(placed).toBe(
      "event_id:header:event_id,type:header:event_type,aggregate_type:header:aggregate_type,aggregate_id:header:aggregate_id,occurred_at:header:occurred_at",
    );
    const columns = [
      ...placed.split(",").map((each) => each.split(":")[0]!),
      ...["event.id", "event.key", "event.type", "event.payload"].map(
        (each) => connector[`transforms.outbox.table.field.${each}`]!,
      ),
      connector["transforms.outbox.route.by.field"]!,
    ];
    const sql = readFileSync(join(ROOT, "src/machines/trading/migrations/0001-orders.sql"), "utf8");
    const table = /CREATE TABLE app\.outbox \(([\s\S]*?)\n\);/.exec(sql)![1]!;
    expect(columns.filter((name) => !new RegExp(`^ {2}${name} `, "m").test(table))).toEqual([]);
  });

  test("writes the topic of the app, and would make it as `lockstep topics apply` does", async () => {
    const connector = await shippedConnector();
    const topic = TRADING_TOPICS.find(({ name }) => name === connector["transforms.outbox.route.topic.replacement"])!;
    expect(topic.name).toBe(ORDERS_TOPIC);
    const prefix = "topic.creation.default.";
    const made = Object.entries(connector)
      .filter(([name]) => name.startsWith(prefix))
      .map(([name, value]) => [name.slice(prefix.length), value]);
    expect(Object.fromEntries(made)).toEqual({
      partitions: String(topic.partitions),
      "replication.factor": "-1",
      ...topic.config,
    });
  });
});

describe("the tests cannot run with a setting that is not shipped:", () => {
  test("a name that the file does not have is refused", async () => {
    await expect(workerProperties({ "group.ids": "x" })).rejects.toThrow("worker.properties has no group.ids");
    await expect(connectorConfig("/x", { "slot.names": "x" })).rejects.toThrow("outbox.json has no slot.names");
    await expect(databaseProperties({ user: "x" })).rejects.toThrow("no value for hostname, port, dbname, password");
  });

  test("a line that is no setting, or one that is there twice, is refused", () => {
    expect(() => parseProperties("a=1\nb")).toThrow("not a line of the form name=value: b");
    expect(() => parseProperties("a=1\na=2")).toThrow("a is there twice");
  });
});
