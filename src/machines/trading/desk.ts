/**
 * The `desk` actor, one per symbol: holds the newest summary of every open window, and decides at every accepted
 * signal once two timeframes of its window start are present.
 *
 * Invariants
 *   D1  Summaries of one start are kept together, in the order 1m, 5m, 15m.
 *   D2  A decision uses summaries of one window start only, the one of the signal that caused it.
 *   D3  A closed window leaves the desk; a start without windows is forgotten.
 */
import { assign, enqueueActions, setup } from "xstate";

import type { Delivered } from "../../actors/app.ts";
import { judge, orderFor, round8, type Summary, timeframeRank } from "./rules.ts";
import type { Action, Reason, Side } from "./schemas.ts";
import type { WindowClosed, WindowUpdated } from "./window.ts";

export interface DeskContext {
  readonly symbol: string;
  readonly starts: readonly DeskStart[];
}

/** The windows of one start. */
interface DeskStart {
  readonly start: number;
  readonly summaries: readonly Summary[];
}

export type DeskEvent = Delivered<"windowUpdated", WindowUpdated> | Delivered<"windowClosed", WindowClosed>;

/** Numbers are rounded to 8 decimals. */
export interface Decided {
  readonly type: "decided";
  readonly symbol: string;
  readonly action: Action;
  readonly confidence: number;
  readonly price: number;
  readonly qty: number;
  readonly signals: readonly string[];
  /** ts of the signal that caused it, ms. */
  readonly timestamp: number;
  readonly reason: Reason;
}

/** Numbers are rounded to 8 decimals. Always the next event after the `decided` it follows from. */
export interface OrderPlaced {
  readonly type: "orderPlaced";
  readonly symbol: string;
  readonly side: Side;
  readonly qty: number;
  readonly price: number;
  readonly timestamp: number;
}

export type DeskEmitted = Decided | OrderPlaced;

export const desk = setup({
  types: {
    context: {} as DeskContext,
    events: {} as DeskEvent,
    emitted: {} as DeskEmitted,
    input: {} as { readonly key: string; readonly type: string },
  },
}).createMachine({
  id: "desk",
  context: ({ input }) => ({ symbol: input.key, starts: [] }),
  on: {
    windowUpdated: {
      actions: enqueueActions(({ context, event, enqueue }) => {
        const { symbol, timestamp } = event;
        const summaries = [...summariesBut(context, event), summaryOf(event)].sort(byTimeframe);
        enqueue.assign({ starts: withSummaries(context, event.start, summaries) });
        if (summaries.length < 2) return;

        const judgement = judge(summaries);
        const { action, reason, signals } = judgement;
        enqueue.emit({
          type: "decided",
          symbol,
          action,
          confidence: round8(judgement.confidence),
          price: round8(judgement.price),
          qty: round8(judgement.qty),
          signals,
          timestamp,
          reason,
        });
        const order = orderFor(judgement);
        if (order !== null) enqueue.emit({ type: "orderPlaced", symbol, ...order, timestamp });
      }),
    },
    windowClosed: {
      actions: assign({
        starts: ({ context, event }) => withSummaries(context, event.start, summariesBut(context, event)),
      }),
    },
  },
});

/** What the desk has of the window's start, without that window itself. */
function summariesBut(context: DeskContext, window: Pick<Summary, "start" | "timeframe">): Summary[] {
  const summaries = context.starts.find(({ start }) => start === window.start)?.summaries ?? [];
  return summaries.filter(({ timeframe }) => timeframe !== window.timeframe);
}

function withSummaries(context: DeskContext, start: number, summaries: readonly Summary[]): DeskStart[] {
  const others = context.starts.filter((other) => other.start !== start);
  return summaries.length === 0 ? others : [...others, { start, summaries }];
}

function summaryOf({ timeframe, start, buys, sells, price, deviation, latest }: Summary): Summary {
  return { timeframe, start, buys, sells, price, deviation, latest };
}

function byTimeframe(a: Summary, b: Summary): number {
  return timeframeRank(a.timeframe) - timeframeRank(b.timeframe);
}
