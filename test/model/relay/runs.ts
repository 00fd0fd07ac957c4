/** The runs of the model of the relay: as it is, within several bounds, and mutants of it. */
import { holds, mutant, type Run } from "../engine/runs.ts";
import type { Rules, Wrong } from "./state.ts";

export const SOUND: readonly Run<Rules>[] = [
  holds("one fault of each kind", {}),
  holds("2 crashes, 2 lost locks", { crashes: 2, lockLosses: 2, unknowns: 0, timeouts: 0 }),
  holds("2 unknown outcomes, a lost lock", { crashes: 0, unknowns: 2, timeouts: 0 }),
];

/** Each of these happens in a sound run. */
export const COVERS: readonly string[] = [
  "has what is open aborted",
  "looks at its lock before it fences again",
  "asks the server, and its session is over",
  "aborts leftovers",
  "produces row",
  "produces row 1 and row",
  "produces row 2 and row",
  "produces, outcome unknown, to be repeated",
  "sends its position, outcome unknown",
  "ends the transaction, outcome unknown",
  "finds its stream ended",
  "cannot end the session that streams, its own is over",
  "lets go of its lock before it halts",
  "learns that its lock is gone",
  "is fenced by Kafka",
  "tells the slot",
  "sent a TxnOffsetCommit that arrives now",
  "sent a EndTxn that arrives now",
  "the transaction times out",
];

/** `+`: the property that finds it first is not checked, and what follows is found. */
export const MUTANTS: readonly Run<Rules>[] = [
  wrongly("the position is read before the fence", ["S5"], {}, "positionBeforeFence"),
  wrongly("the position is read before the fence +", ["RI3", "RI4"], { tolerate: ["S5"] }, "positionBeforeFence"),
  wrongly("nothing is fenced", ["S5"], {}, "notFenced"),
  wrongly("nothing is fenced +", ["RI1", "RI3", "RI4"], { tolerate: ["S5"] }, "notFenced"),
  wrongly("the slot is told before Kafka has it", ["RI2"], {}, "toldBeforePublished"),
  wrongly("the slot is told before Kafka has it +", ["S5"], { tolerate: ["RI2"] }, "toldBeforePublished"),
  wrongly("a position does not name what is under way", ["RI1"], {}, "underWayLeftOut"),
  wrongly("a position does not name what is under way +", ["RI3"], { tolerate: ["RI1"] }, "underWayLeftOut"),
  wrongly("TxnOffsetCommit is repeated after a lost answer", ["RI2"], {}, "offsetsRepeated"),
  wrongly(
    "TxnOffsetCommit is repeated after a lost answer +",
    ["RI3"],
    { tolerate: ["RI1", "RI4", "RI2", "S5"] },
    "offsetsRepeated",
  ),
  wrongly("a halt does not ask the session of the lock", ["S5"], { timeouts: 0 }, "haltsAtOnce"),
  wrongly("the position is written apart from the records", ["RI2"], {}, "positionWrittenApart"),
  wrongly("the position is written apart from the records +", ["RI1"], { tolerate: ["RI2"] }, "positionWrittenApart"),
];

function wrongly(name: string, foundBy: readonly string[], rules: Partial<Rules>, ...wrong: Wrong[]): Run<Rules> {
  return mutant(name, foundBy, { ...rules, wrong: Object.fromEntries(wrong.map((one) => [one, true])) });
}
