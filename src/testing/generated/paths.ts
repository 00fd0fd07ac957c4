/**
 * Paths through a hosted machine: the states that some events reach, and from each of them every event, shortest first.
 */
import { getAdjacencyMap } from "xstate/graph";

import type { TimedEvent } from "./events.ts";
import { ADVANCE, type HostedState, type Hosting, openHost } from "./hosted.ts";

/** What happens, one after the other. */
export type Path = readonly TimedEvent[];

export interface Paths {
  /** Shortest first. */
  readonly paths: readonly Path[];
  /** Paths that were found and left out, because there are enough. */
  readonly cut: number;
  /** Whether there are states beyond those that were looked at: too many, or too far. */
  readonly isMoreBeyond: boolean;
}

/** A state in the graph: what XState's traversal wants of a snapshot, and ours. */
interface Explored {
  readonly status: "active";
  readonly output: undefined;
  readonly error: undefined;
  readonly hosted: HostedState | null;
  /** Events from the start. */
  readonly depth: number;
  /** The last event was set aside; there is no way on from here. */
  readonly isRefused: boolean;
}

/** Events of a path: one that counts would have paths without end, and each costs the square of its length to replay. */
const LENGTH_MAX = 6;

/** An event of the graph: the number of one that happens, or that time passes. */
type Choice = { readonly type: string };

export function findPaths(
  hosting: Hosting,
  pool: readonly TimedEvent[],
  options: { readonly startMs: number; readonly pathsMax: number },
): Paths {
  const { startMs, pathsMax } = options;
  // Enough to have all the paths that are wanted, and some to be cut.
  const statesMax = Math.ceil((pathsMax * 1.25) / (pool.length + 1));
  let looked = 0;
  let isMoreBeyond = false;
  const stepOf = ({ hosted }: Explored, { type }: Choice): TimedEvent => {
    if (type === ADVANCE) return { event: ADVANCED, atMs: hosted!.nextDueMs! };
    const { event, atMs } = pool[Number(type)]!;
    return { event, atMs: Math.max(hosted?.streamTimeMs ?? startMs, atMs) };
  };
  const logic = {
    getInitialSnapshot: () => explored(null, 0),
    getPersistedSnapshot: (state: Explored) => state,
    transition(state: Explored, choice: Choice): Explored {
      const host = openHost(hosting, state.hosted, { strict: false });
      const { refusal } = host.step(stepOf(state, choice));
      return refusal === null ? explored(host.state(), state.depth + 1) : { ...state, isRefused: true };
    },
  };
  const identity = (state: Explored) => `${state.hosted?.identity ?? "none"}${state.isRefused ? " refused" : ""}`;
  const choices = pool.map((_, i) => ({ type: String(i) }));
  // The types of the traversal are those of actor logic, of which it uses what stands here.
  const map = getAdjacencyMap(logic as never, {
    events: ((state: Explored): Choice[] =>
      state.hosted === null || state.hosted.nextDueMs === null ? choices : [{ type: ADVANCE }, ...choices]) as never,
    serializeState: identity as never,
    stopWhen: ((state: Explored) => {
      if (state.isRefused) return true;
      looked += 1;
      const isEnough = looked > statesMax || state.depth >= LENGTH_MAX;
      isMoreBeyond ||= isEnough;
      return isEnough;
    }) as never,
  }) as unknown as Record<string, { state: Explored; transitions: Record<string, { event: Choice; state: Explored }> }>;

  const found = new Map<string, Path>([[identity(explored(null, 0)), []]]);
  const paths: Path[] = [];
  let cut = 0;
  // The traversal went breadth first, and the map keeps the order: whatever is looked at has its shortest path already.
  for (const [name, prefix] of found) {
    const from = map[name];
    if (!from || from.state.isRefused) continue;
    for (const { event, state } of Object.values(from.transitions)) {
      const path = [...prefix, stepOf(from.state, event)];
      if (!state.isRefused && !found.has(identity(state))) found.set(identity(state), path);
      if (paths.length < pathsMax) paths.push(path);
      else cut += 1;
    }
  }
  return { paths, cut, isMoreBeyond };
}

/** One object, so that it is one event. */
export const ADVANCED = Object.freeze({ type: ADVANCE });

function explored(hosted: HostedState | null, depth: number): Explored {
  return { status: "active", output: undefined, error: undefined, hosted, depth, isRefused: false };
}
