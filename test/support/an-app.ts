/** The smallest app there is: two inputs, one machine that says what it took. For tests of ports, which need some app. */
import { emit, setup } from "xstate";

import { defineApp, input, publish, type Schema } from "../../src/actors/app.ts";

const anything: Schema<{ readonly n: number }> = {
  "~standard": { version: 1, vendor: "test", validate: (value) => ({ value: value as { n: number } }) },
};

const machine = setup({
  types: {
    events: {} as { type: "took"; n: number; streamTimeMs: number },
    emitted: {} as { type: "said"; n: number },
  },
}).createMachine({ on: { took: { actions: emit(({ event }) => ({ type: "said" as const, n: event.n })) } } });

const took = input("took", { schema: anything, time: ({ n }) => n });

export const anApp = anAppOf("a", "b");

/** The same with other inputs. */
export function anAppOf(...inputs: string[]) {
  return defineApp("an-app", {
    inputs: Object.fromEntries(inputs.map((topic) => [topic, took])),
    actors: { one: { machine, on: { took: () => "one" } } },
    emits: { said: publish("out", { key: () => "one" }) },
  });
}
