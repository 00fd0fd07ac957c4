/** The runs of the model of the commit protocol: the runtime as it is, within several bounds, and mutants of it. */
import { holds, mutant, type Run } from "../engine/runs.ts";
import type { AcquireStep, Rules, Wrong } from "./state.ts";

const READ_ORDER: readonly AcquireStep[] = ["F1", "F2", "R1", "redo", "R2"];
const REBALANCE_ALONE: Partial<Rules> = { crashes: 0, unknowns: 0, timeouts: 0 };
const FAILOVER: Partial<Rules> = { failovers: 1, timeouts: 0, crashes: 0 };
const FAILOVER_OF_TWO: Partial<Rules> = { failovers: 1, failoverDepth: 2, timeouts: 0, crashes: 0 };

/** What holds: one fault of each kind, also without `reduce`, and the protocol under faults that are not its own. */
export const SOUND: readonly Run<Rules>[] = [
  holds("one fault of each kind", {}),
  holds("the last commit publishes nothing", { silentLast: true, reduce: true }),
  holds("the group's offsets expire", { expiries: 1, reduce: true }),
  holds("failover of one transaction", { failovers: 1, timeouts: 0 }),
  holds("failover of two transactions", FAILOVER_OF_TWO),
  holds("failover of two, and a crash", { ...FAILOVER_OF_TWO, crashes: 1, unknowns: 0 }),
  holds("two transactional ids, no crash", { ids: 2, crashes: 0, reduce: true }),
  holds("two transactional ids, no time-out", { ids: 2, timeouts: 0, reduce: true }),
];

/** Each of these happens in a sound run. */
export const COVERS: readonly string[] = [
  "F1 again",
  "F1, outcome unknown",
  "F2 aborts what is open",
  "R1 fails",
  "aborts leftovers",
  "begins, outcome unknown, to be repeated",
  "commits in Postgres, outcome unknown",
  "commits: 0 rows",
  "confirms alone, outcome unknown",
  "confirms, draining, outcome unknown",
  "produces, outcome unknown, to be repeated",
  "sends offsets, outcome unknown",
  "EndTxn, outcome unknown",
  "is fenced by Kafka",
  "is revoked in acquire",
  "reads its row",
  "reads the row before it halts",
  "releases",
  "sent a commit that arrives now",
  "sent a F1 that arrives now",
  "sent a Produce that arrives now",
  "sent a TxnOffsetCommit that arrives now",
  "sent a EndTxn that arrives now",
  "the transaction times out, id",
];

/**
 * None of these happens in a sound run: while an owner's epoch is the current one, nobody but that owner ends its transaction, because
 * a time-out and a new owner raise the epoch first, and what it sent without an answer it never follows with anything but a new epoch.
 */
export const NEVER: readonly string[] = ["produces: refused", "EndTxn: refused"];

/** What holds as well when faults come twice. */
export const BOUNDS: readonly Run<Rules>[] = [
  holds("2 crashes, 2 unknown outcomes", { crashes: 2, unknowns: 2, reduce: true }),
  holds("2 unknown outcomes, 2 rebalances, no time-out", { unknowns: 2, timeouts: 0, rebalances: 2, reduce: true }),
  holds("2 time-outs, 2 rebalances", { timeouts: 2, rebalances: 2, reduce: true }),
  holds("2 crashes, 2 rebalances, unreduced", { crashes: 2, unknowns: 0, rebalances: 2 }),
  holds("3 rebalances", { rebalances: 3, reduce: true }),
];

/** `+`: the property that finds it first is not checked, and what follows is found. */
export const MUTANTS: readonly Run<Rules>[] = [
  wrongly("R2 before F2", ["S5"], { order: ["F1", "R2", "F2", "R1", "redo"] }),
  wrongly("R2 before F2 +", ["S1"], { order: ["F1", "R2", "F2", "R1", "redo"], tolerate: ["S5"] }),
  wrongly("R1 before F1", ["S7"], { order: ["R1", "redo", "F1", "F2", "R2"] }),
  wrongly("R1 before F1 +", ["S6"], { order: ["R1", "redo", "F1", "F2", "R2"], tolerate: ["S5", "S7"] }),
  wrongly("R1 before R2, a halt does not read the row again", ["S5"], { order: READ_ORDER }, "haltsAtOnce"),
  wrongly("F1 again without a condition", ["L2"], REBALANCE_ALONE, "f1Unconditional"),
  wrongly("the token is not read between tries of F2", ["L2"], REBALANCE_ALONE, "tokenNotReadBetweenF2"),
  wrongly("start positions are not written with seq 0", ["S5"], {}, "noSeqZero"),
  wrongly("a transactional id per owner", ["S5"], {}, "idPerOwner"),
  wrongly("a transactional id per owner +", ["S1"], { tolerate: ["S4", "S5", "S9"] }, "idPerOwner"),
  wrongly("the token is checked by the client", ["S6"], {}, "clientChecksToken"),
  wrongly(
    "the token by the client, seq by nobody",
    ["S3"],
    { tolerate: ["S5", "S6", "S7"] },
    "clientChecksToken",
    "noSeqInGuard",
  ),
  wrongly("EndTxn is repeated", ["S1"], {}, "endTxnRepeated"),
  wrongly("TxnOffsetCommit is repeated after a lost answer", ["S4"], {}, "offsetsRepeated"),
  wrongly(
    "TxnOffsetCommit is repeated after a lost answer +",
    ["S1"],
    { tolerate: ["S4", "S5", "S9"] },
    "offsetsRepeated",
  ),
  wrongly("the producer is used again after an error", ["S5"], {}, "producerReused"),
  wrongly("the producer is used again after an error +", ["S1"], { tolerate: ["S4", "S5", "S9"] }, "producerReused"),
  wrongly("redo is deleted before Kafka has it", ["S4"], {}, "redoDeletedEarly"),
  wrongly("redo is deleted before Kafka has it +", ["S5"], { tolerate: ["S4"] }, "redoDeletedEarly"),
  wrongly("reconcile by positions alone", ["S4"], {}, "positionsOnly"),
  wrongly("reconcile by positions alone +", ["S1"], { tolerate: ["S4", "S5", "S9"] }, "positionsOnly"),
  wrongly("offsets of the inputs that moved alone", ["S5"], {}, "touchedInputsOnly"),
  wrongly("acquired again without a heartbeat", ["L2"], REBALANCE_ALONE, "noHeartbeat"),
  wrongly("memory is kept by seq alone", ["S6"], {}, "memoryBySeqAlone", "f1Unconditional"),
  wrongly("failover: an epoch without a token", ["S6"], { failovers: 1, failoverDepth: 2 }, "epochWithoutToken"),
  wrongly(
    "failover: an epoch without a token +",
    ["S8"],
    { ...FAILOVER_OF_TWO, unknowns: 0, tolerate: ["S6"] },
    "epochWithoutToken",
  ),
  wrongly("failover: the journal's token is not compared", ["S8"], FAILOVER_OF_TWO, "tokenNotCompared"),
  wrongly(
    "failover: confirm without seq, and nobody looks at its row",
    ["L1"],
    FAILOVER,
    "confirmWithoutSeq",
    "ownerNeverLooks",
  ),
  wrongly("two ids, one is not fenced", ["S5"], { ids: 2 }, "oneIdNotFenced"),
  wrongly("two ids, one is not fenced +", ["S1"], { ids: 2, tolerate: ["S5"] }, "oneIdNotFenced"),
  wrongly("two ids, EndTxn of b+1 before that of b", ["S1"], { ids: 2 }, "endOutOfOrder"),
  wrongly(
    "two ids, offsets of b+1 before those of b",
    ["S4"],
    { ids: 2, crashes: 0, timeouts: 0 },
    "offsetsOutOfOrder",
  ),
  wrongly("two ids, records of b+1 before those of b", ["S1"], { ids: 2 }, "produceOutOfOrder"),
];

function wrongly(name: string, foundBy: readonly string[], rules: Partial<Rules>, ...wrong: Wrong[]): Run<Rules> {
  return mutant(name, foundBy, { ...rules, wrong: Object.fromEntries(wrong.map((one) => [one, true])) });
}
