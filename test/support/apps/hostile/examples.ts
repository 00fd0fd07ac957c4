/** What happens to tallies, for the tests that are made from the machine; without the deeds that no test process survives. */
import type { Deed } from "./machines.ts";
import { COMMANDS_TOPIC } from "./topics.ts";

const command = (deed: Deed, n: number, at: number, more: object = {}) => ({
  topic: COMMANDS_TOPIC,
  value: { v: 1, key: "a1", do: deed, n, at, ...more },
});

export const examples = {
  tally: [
    {
      key: "a1",
      steps: [
        command("add", 1, 1_000, { id: "one" }),
        command("add", 1, 1_000, { id: "one" }),
        command("arm", 500, 2_000, { what: "add" }),
        command("arm", 700, 2_100, { what: "add" }),
        command("add", 2, 3_000),
        command("throw", 0, 3_500),
        command("arm", 500, 4_000, { what: "throw" }),
        command("add", 3, 5_000),
      ],
    },
  ],
};

const DEADLY: readonly unknown[] = ["hang", "allocate", "exit", "kill"] satisfies Deed[];

export function leaveOut(event: Readonly<Record<string, unknown>>): boolean {
  return DEADLY.includes(event["do"]) || DEADLY.includes(event["what"]);
}
