/** What can be said of the graph of steps without faults: from where the end cannot be reached, and what can go on for ever. */

export interface Graph {
  readonly states: number;
  /** Edges of state n are to[from[n]] .. to[from[n + 1] - 1]. */
  readonly from: Int32Array;
  readonly to: Int32Array;
}

/** L1. @returns the earliest state from which no end can be reached, -1 when there is none */
export function findStuck(graph: Graph, isEnd: Uint8Array): number {
  const back = reverse(graph);
  const seen = isEnd.slice();
  const queue = new Int32Array(graph.states);
  let tail = 0;
  for (let n = 0; n < graph.states; n += 1) if (isEnd[n]) queue[tail++] = n;
  for (let head = 0; head < tail; head += 1) {
    const n = queue[head]!;
    for (let e = back.from[n]!; e < back.from[n + 1]!; e += 1) {
      const before = back.to[e]!;
      if (seen[before]) continue;
      seen[before] = 1;
      queue[tail++] = before;
    }
  }
  return seen.indexOf(0);
}

/**
 * L2, when L1 holds (so a state without a step is an end). States without a step are taken away until none is left, then those that no
 * step leads to: what stays lies on a cycle, or between two.
 * @returns the states around a shortest cycle through the earliest state that is on one, that state again at the end; null: there is none
 */
export function findLoop(graph: Graph): number[] | null {
  const back = reverse(graph);
  const stays = new Uint8Array(graph.states).fill(1);
  if (peel(graph, back, stays) === 0) return null;
  peel(back, graph, stays);
  for (let first = 0; first < graph.states; first += 1) {
    const loop = stays[first] ? loopThrough(graph, first, stays) : null;
    if (loop !== null) return loop;
  }
  return null;
}

/** Takes away states without an edge to one that stays, until there is none. @returns how many stay */
function peel(graph: Graph, back: Graph, stays: Uint8Array): number {
  const left = new Int32Array(graph.states);
  const queue = new Int32Array(graph.states);
  let tail = 0;
  let count = 0;
  for (let n = 0; n < graph.states; n += 1) {
    if (!stays[n]) continue;
    count += 1;
    for (let e = graph.from[n]!; e < graph.from[n + 1]!; e += 1) left[n]! += stays[graph.to[e]!]!;
    if (left[n] === 0) queue[tail++] = n;
  }
  for (let head = 0; head < tail; head += 1) {
    const n = queue[head]!;
    stays[n] = 0;
    for (let e = back.from[n]!; e < back.from[n + 1]!; e += 1) {
      const before = back.to[e]!;
      if (!stays[before]) continue;
      left[before]! -= 1;
      if (left[before] === 0) queue[tail++] = before;
    }
  }
  return count - tail;
}

function loopThrough(graph: Graph, first: number, stays: Uint8Array): number[] | null {
  const cameFrom = new Map<number, number>([[first, -1]]);
  for (const n of cameFrom.keys()) {
    for (let e = graph.from[n]!; e < graph.from[n + 1]!; e += 1) {
      const to = graph.to[e]!;
      if (to === first) {
        const loop = [first];
        for (let at = n; at !== -1; at = cameFrom.get(at)!) loop.unshift(at);
        return loop;
      }
      if (stays[to] && !cameFrom.has(to)) cameFrom.set(to, n);
    }
  }
  return null;
}

function reverse({ states, from, to }: Graph): Graph {
  const start = new Int32Array(states + 1);
  const edges = from[states]!;
  for (let e = 0; e < edges; e += 1) start[to[e]! + 1]! += 1;
  for (let n = 0; n < states; n += 1) start[n + 1]! += start[n]!;
  const fill = start.slice(0, states);
  const back = new Int32Array(edges);
  for (let n = 0; n < states; n += 1) for (let e = from[n]!; e < from[n + 1]!; e += 1) back[fill[to[e]!]!++] = n;
  return { states, from: start, to: back };
}
