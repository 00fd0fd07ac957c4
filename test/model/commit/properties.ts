/**
 * What must hold in every state.
 *
 *   S1  a read_committed reader (up to the first open record) sees commits 1, 2, 3 in order, each once, each as it stands in Postgres
 *   S2  both inputs carry the same k, and k <= P
 *   S3  the rows of each commit are there exactly once, and none without its commit
 *   S4  redo k+1..P is there, and c <= k (k counts a transaction that is being committed)
 *   S5  no healthy shard halts (a failover or an expiry makes a shard unhealthy)
 *   S6  a commit is accepted only under the current token, on memory that is the row's
 *   S7  no write meets 0 rows under its owner's own token
 *   S8  after a failover that made log and Postgres differ, nothing more is published
 *   S9  a drained shard is given up with k = P = c
 *
 * S5, S6, S7 and S9 are checked by the steps; the others here.
 */
import {
  commitOfEntry,
  DECIDED,
  kafka,
  LAST,
  LOG_LENGTH,
  labelOfEntry,
  next,
  PREPARE_COMMIT,
  pg,
  rules,
  world,
} from "./state.ts";

export function breach(): string {
  const { wrong } = rules;
  const seq = next[pg.seq]!;
  const failedOver = next[world.failedOver] === 1;
  const inLog = checkLog(seq, failedOver);
  if (typeof inLog === "string") return inLog;
  if (next[world.diverged]! > 0 && inLog + 1 > next[world.diverged]!)
    return "S8 a record is published after log and Postgres differ";

  const [a, b] = [next[kafka.offset]!, next[kafka.offset + 1]!];
  if (!wrong.touchedInputsOnly && a !== b) return `S2 the inputs carry commits ${a - 1} and ${b - 1}`;
  let k = Math.max(a, b) - 1;
  if (k > seq && !failedOver) return `S2 k = ${k}, P = ${seq}`;
  const visible = a === b ? k : 0;
  for (let j = 0; j < 2; j += 1)
    if (next[kafka.status + j] === PREPARE_COMMIT) k = Math.max(k, next[kafka.pending + j]! - 1);
  for (let commit = 1; commit <= LAST; commit += 1) {
    const rows = next[pg.rows + commit]!;
    if (rows !== (commit <= seq ? 1 : 0)) return `S3 the rows of commit ${commit} are there ${rows} times, P = ${seq}`;
  }
  const known = !wrong.touchedInputsOnly && !failedOver && rules.expiries === 0 && !rules.tolerate.includes("S4");
  if (known) {
    for (let commit = Math.max(1, k + 1); commit <= seq; commit += 1)
      if ((next[pg.redo]! & (1 << commit)) === 0) return `S4 redo of commit ${commit} is gone, k = ${k}, P = ${seq}`;
    if (next[pg.confirmed]! > Math.max(0, k)) return `S4 c = ${next[pg.confirmed]}, k = ${k}`;
  }
  const expected = rules.silentLast ? Math.min(visible, LAST - 1) : visible;
  const settled = next[kafka.status] !== PREPARE_COMMIT && next[kafka.status + 1] !== PREPARE_COMMIT;
  if (expected > inLog && settled && !failedOver && next[kafka.log + inLog] === 0)
    return `S1 the record of commit ${inLog + 1} is lost: k = ${visible}`;
  return "";
}

/** @returns how many records a reader sees, or what is wrong with them */
function checkLog(seq: number, failedOver: boolean): number | string {
  let seen = 0;
  for (let n = 0; n < LOG_LENGTH; n += 1) {
    const entry = next[kafka.log + n]!;
    if ((entry & DECIDED) === 0) break;
    const b = commitOfEntry(entry);
    if (b <= seen) return `S1 the record of commit ${b} is seen twice, or out of order`;
    if (b !== seen + 1) return `S1 the record of commit ${b} is seen, that of commit ${seen + 1} is not`;
    if (!failedOver && b > seq) return `S1 the record of commit ${b} is seen, which was not committed`;
    if (!failedOver && next[pg.journal + b] !== labelOfEntry(entry))
      return `S1 the record of commit ${b} is not the committed one`;
    seen = b;
  }
  return seen;
}

/** After a failover: notes how far the log was when a record in it first was not that of its commit. */
export function noteDivergence(): void {
  if (next[world.failedOver] === 0 || next[world.diverged]! > 0) return;
  let visible = 0;
  let differs = false;
  for (let n = 0; n < LOG_LENGTH; n += 1) {
    const entry = next[kafka.log + n]!;
    if ((entry & DECIDED) === 0) break;
    visible = commitOfEntry(entry);
    if (visible <= next[pg.seq]! && next[pg.journal + visible] !== labelOfEntry(entry)) differs = true;
  }
  if (differs) next[world.diverged] = 1 + visible;
}
