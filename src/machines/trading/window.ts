/**
 * The `window` actor, one per `<symbol>/<timeframe>`: takes signals into tumbling windows of event time, ignores those
 * it has seen, and tells how the window stands after each.
 *
 * A signal up to 10 s old is still taken, so two windows may be open at once.
 *
 * Invariants
 *   W1  A signal whose identity the window has seen changes nothing.
 *   W2  Every open window has its timer `close-<start>`, set when the window opened.
 *   W3  A closed window leaves nothing behind.
 */
import { assign, emit, enqueueActions, setup } from "xstate";

import type { Delivered } from "../../actors/app.ts";
import { hasIdentity } from "./identities.ts";
import { accept, emptyWindow, type OpenWindow, type Summary, summarize, windowDue, windowStart } from "./rules.ts";
import { type Signal, TIMEFRAMES, type Timeframe } from "./schemas.ts";

export interface WindowContext {
  readonly symbol: string;
  readonly timeframe: Timeframe;
  /** Open windows in the order they were opened: one, or two around a boundary. */
  readonly windows: readonly OpenWindow[];
}

export type WindowEvent = Delivered<"signal", Signal> | Delivered<"close", { readonly start: number }>;

export interface WindowUpdated extends Summary {
  readonly type: "windowUpdated";
  readonly symbol: string;
  /** ts of the signal that was accepted, ms. */
  readonly timestamp: number;
}

export interface WindowClosed {
  readonly type: "windowClosed";
  readonly symbol: string;
  readonly timeframe: Timeframe;
  readonly start: number;
}

export interface DuplicateIgnored {
  readonly type: "duplicateIgnored";
  readonly symbol: string;
  readonly timeframe: Timeframe;
  readonly identity: string;
}

export type WindowEmitted = WindowUpdated | WindowClosed | DuplicateIgnored;

export const signalWindow = setup({
  types: {
    context: {} as WindowContext,
    events: {} as WindowEvent,
    emitted: {} as WindowEmitted,
    input: {} as { readonly key: string; readonly type: string },
  },
}).createMachine({
  id: "window",
  context: ({ input }) => contextOf(input.key),
  on: {
    signal: [
      {
        guard: ({ context, event }) => isDuplicate(context, event),
        actions: emit(({ context: { symbol, timeframe }, event: { identity } }) => ({
          type: "duplicateIgnored" as const,
          symbol,
          timeframe,
          identity,
        })),
      },
      {
        actions: enqueueActions(({ context, event, enqueue }) => {
          const { symbol, timeframe } = context;
          const start = windowStart(event.ts);
          const open = findWindow(context, start);
          if (open === undefined) {
            // The host counts the delay from the stream time of this event, so the timer is due at exactly `windowDue`.
            const delay = windowDue(start) - event.streamTimeMs;
            enqueue.raise({ type: "close", start } as Delivered<"close", { start: number }>, {
              id: `close-${start}`,
              delay,
            });
          }
          const window = accept(open ?? emptyWindow(start), event);
          enqueue.assign({ windows: [...without(context, start), window] });
          enqueue.emit({ type: "windowUpdated", symbol, timestamp: event.ts, ...summarize(timeframe, window) });
        }),
      },
    ],
    close: {
      actions: [
        assign({ windows: ({ context, event }) => without(context, event.start) }),
        emit(({ context: { symbol, timeframe }, event: { start } }) => ({
          type: "windowClosed" as const,
          symbol,
          timeframe,
          start,
        })),
      ],
    },
  },
});

/** @param key `<symbol>/<timeframe>`; a symbol has no slash */
function contextOf(key: string): WindowContext {
  const [symbol, suffix] = key.split("/");
  const timeframe = TIMEFRAMES.find((known) => known === suffix);
  if (!symbol || timeframe === undefined) throw new Error(`The key of a window is <symbol>/<timeframe>, not "${key}".`);
  return { symbol, timeframe, windows: [] };
}

function isDuplicate(context: WindowContext, signal: Signal): boolean {
  const open = findWindow(context, windowStart(signal.ts));
  return open !== undefined && hasIdentity(open.identities, signal.identity);
}

function findWindow(context: WindowContext, start: number): OpenWindow | undefined {
  return context.windows.find((window) => window.start === start);
}

function without(context: WindowContext, start: number): OpenWindow[] {
  return context.windows.filter((window) => window.start !== start);
}
