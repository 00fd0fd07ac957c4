/**
 * Every app of this repository, with the examples beside its machines. An app is found by its folder: a machine is tested because it
 * is part of one.
 */
import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

import type { App } from "../../src/actors/app.ts";
import type { MachineTestsOptions } from "../../src/testing/index.ts";
import { ledger, ledgerExamples, ledgerTables } from "../simulation/ledger.ts";

export interface TestedApp extends MachineTestsOptions {
  readonly app: App;
}

const FOLDERS = ["src/machines", "test/support/apps", "examples"].map((path) =>
  fileURLToPath(new URL(`../../${path}/`, import.meta.url)),
);

export async function allApps(): Promise<TestedApp[]> {
  const apps: TestedApp[] = [{ app: ledger, examples: ledgerExamples, tables: ledgerTables }];
  for (const folder of FOLDERS) {
    for (const name of readdirSync(folder)) {
      const load = async (file: string) => {
        const path = ["ts", "js"].map((ending) => `${folder}${name}/${file}.${ending}`).find(existsSync);
        return path === undefined ? null : await import(path);
      };
      const app = (await load("app")) as { default: App } | null;
      const beside = (await load("examples")) as MachineTestsOptions | null;
      if (app !== null) apps.push({ app: app.default, ...beside });
    }
  }
  return apps;
}
