/**
 * The machine of the hostile app: it adds numbers up, and on command it does everything that a machine must not do.
 *
 *   add       adds n, unless a command of this id is among the ten latest; `qty` and `note` go into the row as they are
 *   bulk      publishes n characters
 *   arm       in n ms of stream time a timer does what `what` says
 *   throw, undefined, hang, allocate, exit, kill
 */
import type { Delivered } from "lockstep";
import { enqueueActions, setup } from "xstate";

export const DEEDS = ["add", "bulk", "arm", "throw", "undefined", "hang", "allocate", "exit", "kill"] as const;
export type Deed = (typeof DEEDS)[number];

export interface Command {
  readonly v: 1;
  readonly key: string;
  readonly do: Deed;
  readonly n: number;
  /** Event time, ms since the Unix epoch. */
  readonly at: number;
  readonly id?: string | undefined;
  readonly what?: Deed | undefined;
  readonly qty?: string | undefined;
  readonly note?: string | undefined;
}

export interface Added {
  readonly type: "added";
  readonly key: string;
  readonly n: number;
  readonly sum: number;
  readonly qty: string;
  readonly note: string;
}

interface TallyContext {
  readonly key: string;
  readonly sum: number;
  readonly ids: readonly string[];
}

const IDS_KEPT = 10;

export const tally = setup({
  types: {
    context: {} as TallyContext,
    events: {} as Delivered<"command", Command> | Delivered<"fire", { readonly what: Deed }>,
    emitted: {} as Added | { readonly type: "repeatIgnored" },
    input: {} as { readonly key: string; readonly type: string },
  },
}).createMachine({
  id: "tally",
  context: ({ input }) => ({ key: input.key, sum: 0, ids: [] }),
  on: {
    command: {
      actions: enqueueActions(({ context, event, enqueue }) => {
        const { n, id, qty = "1", note = "" } = event;
        if (event.do === "arm") {
          enqueue.raise({ type: "fire", what: event.what ?? "add" } as never, { id: "bomb", delay: n });
          return;
        }
        if (event.do === "bulk") {
          enqueue.emit({ type: "added", key: context.key, n: 0, sum: context.sum, qty, note: "x".repeat(n) });
          return;
        }
        if (event.do === "undefined") {
          enqueue.assign({ sum: undefined as unknown as number });
          return;
        }
        if (event.do !== "add") return misbehave(event.do);
        if (id !== undefined && context.ids.includes(id)) {
          enqueue.emit({ type: "repeatIgnored" });
          return;
        }
        const sum = context.sum + n;
        enqueue.assign({ sum, ids: id === undefined ? context.ids : [...context.ids, id].slice(-IDS_KEPT) });
        enqueue.emit({ type: "added", key: context.key, n, sum, qty, note });
      }),
    },
    fire: {
      actions: enqueueActions(({ context, event, enqueue }) => {
        if (event.what !== "add") return misbehave(event.what);
        enqueue.emit({ type: "added", key: context.key, n: 0, sum: context.sum, qty: "0", note: "fired" });
      }),
    },
  },
});

function misbehave(how: Deed): void {
  if (how === "throw") throw new Error("told to throw");
  if (how === "exit") process.exit(3);
  if (how === "kill") process.kill(process.pid, "SIGKILL");
  if (how === "hang" || how === "kill") for (;;);
  if (how === "allocate")
    for (const all: number[][] = []; ; ) all.push(Array.from({ length: 10_000 }, (_, i) => i + 0.5));
}
