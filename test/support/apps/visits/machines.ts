/**
 * The two machines of the visits app: a `visit`, one per visitor, and a `house`, one per first letter of visitors.
 *
 *   visit   idle --enter--> inside --leave, or 30 s without a ping--> gone (final: the actor ends, and begins anew)
 *   house   counts who is inside, and tells each new peak
 *
 * A record whose `at` is not above the last one of an open visit is a repeat, and changes nothing.
 */
import type { Delivered } from "lockstep";
import { assign, emit, enqueueActions, setup } from "xstate";

export const TIME_OUT_MS = 30_000;

export interface VisitEvent {
  readonly visitor: string;
  readonly kind: "enter" | "ping" | "leave" | "poison";
  /** Event time, ms since the Unix epoch. */
  readonly at: number;
}

interface VisitContext {
  readonly visitor: string;
  readonly enteredAt: number;
  readonly lastAt: number;
  readonly pings: number;
}

export interface VisitEnded {
  readonly type: "visitEnded";
  readonly visitor: string;
  readonly enteredAt: number;
  readonly endedAt: number;
  readonly pings: number;
  readonly reason: "left" | "timedOut";
}

type VisitEmitted =
  | { readonly type: "visitBegan"; readonly visitor: string; readonly at: number }
  | { readonly type: "repeatIgnored" }
  | { readonly type: "strangerIgnored" }
  | VisitEnded;

type Kind = VisitEvent["kind"];

/** A poison record is one that no schema finds: the machine throws when it looks at it. */
const is =
  (kind: Kind) =>
  ({ event }: { event: VisitEvent }) => {
    if (event.kind === "poison") throw new Error(`poison from ${event.visitor}`);
    return event.kind === kind;
  };

export const visit = setup({
  types: {
    context: {} as VisitContext,
    events: {} as Delivered<"seen", VisitEvent>,
    emitted: {} as VisitEmitted,
    input: {} as { readonly key: string; readonly type: string },
  },
}).createMachine({
  id: "visit",
  context: ({ input }) => ({ visitor: input.key, enteredAt: 0, lastAt: 0, pings: 0 }),
  initial: "idle",
  states: {
    idle: {
      on: {
        seen: [
          {
            guard: is("enter"),
            target: "inside",
            actions: [
              assign({ enteredAt: ({ event }) => event.at, lastAt: ({ event }) => event.at }),
              emit(({ event }) => ({ type: "visitBegan" as const, visitor: event.visitor, at: event.at })),
            ],
          },
          { actions: emit({ type: "strangerIgnored" as const }) },
        ],
      },
    },
    inside: {
      after: {
        [TIME_OUT_MS]: {
          target: "gone",
          // The event of `after` is XState's own; the host gives it the time at which it was due.
          actions: emit(({ context, event }) => ended(context, "timedOut", event.streamTimeMs)),
        },
      },
      on: {
        seen: [
          {
            guard: ({ context, event }) => !is("poison")({ event }) && event.at <= context.lastAt,
            actions: emit({ type: "repeatIgnored" as const }),
          },
          {
            guard: is("leave"),
            target: "gone",
            actions: emit(({ context, event }) => ended(context, "left", event.at)),
          },
          {
            // A ping, or a second `enter`: entered anew, so that the time-out begins anew.
            target: "inside",
            reenter: true,
            actions: assign({ lastAt: ({ event }) => event.at, pings: ({ context }) => context.pings + 1 }),
          },
        ],
      },
    },
    gone: { type: "final" },
  },
});

interface HouseContext {
  readonly house: string;
  readonly inside: number;
  readonly peak: number;
}

type HouseEvent = Delivered<"visitBegan", { readonly at: number }> | Delivered<"visitEnded", object>;

export const house = setup({
  types: {
    context: {} as HouseContext,
    events: {} as HouseEvent,
    emitted: {} as {
      readonly type: "peakReached";
      readonly house: string;
      readonly inside: number;
      readonly at: number;
    },
    input: {} as { readonly key: string; readonly type: string },
  },
}).createMachine({
  id: "house",
  context: ({ input }) => ({ house: input.key, inside: 0, peak: 0 }),
  on: {
    visitBegan: {
      actions: enqueueActions(({ context, event, enqueue }) => {
        const inside = context.inside + 1;
        enqueue.assign({ inside, peak: Math.max(context.peak, inside) });
        if (inside > context.peak) enqueue.emit({ type: "peakReached", house: context.house, inside, at: event.at });
      }),
    },
    visitEnded: { actions: assign({ inside: ({ context }) => context.inside - 1 }) },
  },
});

function ended(context: VisitContext, reason: VisitEnded["reason"], endedAt: number): VisitEnded {
  const { visitor, enteredAt, pings } = context;
  return { type: "visitEnded", visitor, enteredAt, endedAt, pings, reason };
}
