/** The runs of the model of recovery: the runtime as it is, within several bounds, and mutants of it. */
import { holds, mutant, type Run } from "../engine/runs.ts";
import type { Rules, Wrong } from "./state.ts";

export const SOUND: readonly Run<Rules>[] = [
  holds("one fault of each kind", {}),
  holds("2 crashes", { crashes: 2, reduce: true }),
  holds("2 rebalances", { rebalances: 2, reduce: true }),
  holds("2 unknown outcomes, no crash", { crashes: 0, unknowns: 2, reduce: true }),
];

/** Each of these happens in a sound run. */
export const COVERS: readonly string[] = [
  "has waited long enough for the hand-over",
  "finds the shard given up",
  "keeps its memory",
  "loads snapshot 0",
  "loads snapshot 1",
  "loads snapshot 2",
  "loads snapshot 2: snapshot 2 is above the row, 1",
  "replays commit",
  "replays commit: the journal row of commit 2 is missing",
  "takes the record of A and commits",
  "takes the record of B, with its verdict, and commits",
  "takes a tick and commits, outcome unknown,",
  "writes the second piece of snapshot",
  "cannot write a piece of snapshot",
  "flips the pointer to snapshot",
  "flips the pointer, outcome unknown, to snapshot",
  "sent a flip of the snapshot pointer that arrives now",
  "passes over a snapshot older than P",
  "finds that it has lost the shard",
  "gives the shard up",
  "gives the shard up, outcome unknown",
  "sent a release that arrives now",
  "a late EndTxn arrives, of commit",
];

/** `+`: the property that finds it first is not checked, and what follows is found. */
export const MUTANTS: readonly Run<Rules>[] = [
  wrongly("the pointer is flipped before the last piece is written", ["S10"], {}, "flippedEarly"),
  wrongly("the pointer is flipped before the last piece is written +", ["S5"], { tolerate: ["S10"] }, "flippedEarly"),
  wrongly("verdicts are not journaled", ["S5"], {}, "verdictsNotJournaled"),
  wrongly("the journal is pruned above the confirmed seq", ["S11"], {}, "prunedAboveConfirmed"),
  wrongly("the journal is pruned above the confirmed seq +", ["S5"], { tolerate: ["S11"] }, "prunedAboveConfirmed"),
  wrongly("pieces are made of the live state", ["S10"], {}, "piecesOfLiveState"),
  wrongly("pieces are made of the live state +", ["S5", "S6"], { tolerate: ["S10"] }, "piecesOfLiveState"),
  wrongly("the flip has no guard", ["S10", "S11"], { rebalances: 1 }, "flipUnguarded"),
  wrongly("a replay takes what its own queues give", ["S5"], {}, "takenAnewInReplay"),
  wrongly("a halt does not read the row again", ["S5"], {}, "haltsAtOnce"),
  wrongly("a shard is given up without a snapshot", ["S9"], {}, "releasedUnfinished"),
  wrongly("a fold whose commit did not happen is kept", ["S6"], {}, "pendingFoldKept"),
];

function wrongly(name: string, foundBy: readonly string[], rules: Partial<Rules>, ...wrong: Wrong[]): Run<Rules> {
  return mutant(name, foundBy, { ...rules, wrong: Object.fromEntries(wrong.map((one) => [one, true])) });
}
