/**
 * The files of ops/debezium, as they are shipped. The tests run Connect with these files and no others; what differs from
 * one machine to the next (addresses, paths, the password) is put in its place by name, and a name that the file does not
 * have is an error, so that no test can run with a setting that is not shipped.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { ROOT } from "../deployment-settings.ts";

const FOLDER = join(ROOT, "ops/debezium");

/** Where the placeholders of outbox.json look for the database. */
const DATABASE_FILE = "/etc/lockstep/debezium/database.properties";

export type Properties = Readonly<Record<string, string>>;

export function shippedPath(name: string): string {
  return join(FOLDER, name);
}

export function shippedText(name: string): Promise<string> {
  return readFile(shippedPath(name), "utf8");
}

/** @param values in the place of the shipped ones */
export async function workerProperties(values: Properties): Promise<Properties> {
  return replaced("worker.properties", parseProperties(await shippedText("worker.properties")), values);
}

/** @param values of the database and its user; every one must be given */
export async function databaseProperties(values: Properties): Promise<Properties> {
  const shipped = parseProperties(await shippedText("database.properties"));
  const kept = Object.keys(shipped).filter((name) => values[name] === undefined);
  if (kept.length > 0) throw new Error(`no value for ${kept.join(", ")} of database.properties`);
  return replaced("database.properties", shipped, values);
}

/**
 * The body of PUT /connectors/<name>/config.
 * @param databaseFile in the place of the shipped path
 * @param values in the place of the shipped ones
 */
export async function connectorConfig(databaseFile: string, values: Properties = {}): Promise<Properties> {
  const shipped = JSON.parse(await shippedText("outbox.json")) as Record<string, string>;
  const placed = Object.entries(shipped).map(([name, value]) => [name, value.replace(DATABASE_FILE, databaseFile)]);
  return replaced("outbox.json", Object.fromEntries(placed), values);
}

/** The statements of setup.sql, each to be run by itself: a slot cannot be made in a transaction that has written. */
export async function setupStatements(): Promise<string[]> {
  const text = (await shippedText("setup.sql")).replace(/^--.*$/gm, "");
  return text
    .split(";")
    .map((statement) => statement.trim())
    .filter((statement) => statement !== "");
}

/** Of the format of Java's properties what the shipped files use: `name=value` lines, comments and empty lines. */
export function parseProperties(text: string): Record<string, string> {
  const lines = text.split("\n").filter((line) => line.trim() !== "" && !line.startsWith("#"));
  const entries = lines.map((line) => {
    const equals = line.indexOf("=");
    if (equals <= 0) throw new Error(`not a line of the form name=value: ${line}`);
    return [line.slice(0, equals), line.slice(equals + 1)] as const;
  });
  const names = entries.map(([name]) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new Error(`${twice} is there twice`);
  return Object.fromEntries(entries);
}

export function propertiesText(properties: Properties): string {
  return Object.entries(properties)
    .map(([name, value]) => `${name}=${value}\n`)
    .join("");
}

function replaced(file: string, shipped: Properties, values: Properties): Properties {
  const unknown = Object.keys(values).filter((name) => shipped[name] === undefined);
  if (unknown.length > 0) throw new Error(`${file} has no ${unknown.join(", ")}`);
  return { ...shipped, ...values };
}
