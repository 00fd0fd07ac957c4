/** All boards, by the name of the file that holds the JSON of each. `npm run dashboards` writes them. */
import { actors } from "./actors.ts";
import { commits } from "./commits.ts";
import { overview } from "./overview.ts";
import { rebalances } from "./rebalances.ts";
import { relay } from "./relay.ts";

export const BOARDS = { overview, rebalances, commits, actors, relay } as const;

/** The JSON of a board as it is committed. */
export function boardJson(name: keyof typeof BOARDS): string {
  return `${JSON.stringify(BOARDS[name](), null, 2)}\n`;
}
