/** Postgres in the model: one call is one transaction, and the guard lives in its WHERE. */
import { backup, breaks, epochHeld, LAST, next, PG_LENGTH, pg, REQUESTS, rules, world } from "./state.ts";

/** 0, 1: the owners; 2, 3: the senders of requests 0 and 1, under the tokens they were sent with. */
export type Holder = number;

/** A failover can undo the transaction that begins now. */
function keepBackup(): void {
  if (next[world.failovers] === 0) return;
  if (rules.failoverDepth === 2 && next[backup.count]! > 0) {
    next.copyWithin(backup.earlier, backup.latest, backup.latest + PG_LENGTH);
    next[backup.count] = 2;
  } else next[backup.count] = 1;
  next.copyWithin(backup.latest, pg.first, pg.first + PG_LENGTH);
}

const tokenAt = pg.tokenIs - pg.first;

function setToken(holder: Holder, now: number, latest: number, earlier: number): void {
  next[pg.tokenIs + holder] = now;
  if (next[backup.count]! > 0) next[backup.latest + tokenAt + holder] = latest;
  if (next[backup.count] === 2) next[backup.earlier + tokenAt + holder] = earlier;
}

export function forgetToken(holder: Holder): void {
  setToken(holder, 0, 0, 0);
  next[epochHeld + holder] = 0;
}

export function copyToken(holder: Holder, from: Holder): void {
  setToken(
    holder,
    next[pg.tokenIs + from]!,
    next[backup.latest + tokenAt + from]!,
    next[backup.earlier + tokenAt + from]!,
  );
  next[epochHeld + holder] = next[epochHeld + from]!;
}

/** @param holder null: whoever sent this F1 has thrown its token away */
export function takeToken(holder: Holder | null): void {
  keepBackup();
  for (let h = 0; h < 2 + REQUESTS; h += 1) next[pg.tokenIs + h] = 0;
  if (rules.wrong.epochWithoutToken) next[pg.epoch]! += 1;
  if (holder === null) return;
  setToken(holder, 1, 0, 0);
  if (rules.wrong.epochWithoutToken) next[epochHeld + holder] = next[pg.epoch]!;
}

export function holds(holder: Holder): boolean {
  if (!rules.wrong.epochWithoutToken) return next[pg.tokenIs + holder] === 1;
  return next[pg.epoch]! > 0 && next[epochHeld + holder] === next[pg.epoch];
}

/**
 * The commit point.
 * @param on label of the commit that the sender's memory stands at
 * @returns false: 0 rows
 */
export function commit(
  holder: Holder,
  of: { b: number; label: number; on: number; confirmed: number; guarded: boolean },
): boolean {
  const { b, label, on } = of;
  if (of.guarded && !holds(holder)) return false;
  if (!rules.wrong.noSeqInGuard && next[pg.seq] !== b - 1) return false;
  if (next[pg.tokenIs + holder] === 0) breaks("S6", `commit ${b} is accepted under another token`);
  else if (b > 1 && on !== next[pg.journal + b - 1])
    breaks("S6", `commit ${b} is accepted on memory that is not the row's`);
  keepBackup();
  next[pg.seq] = b;
  next[pg.journal + b] = label;
  next[pg.rows + b]! += 1;
  next[pg.redo]! |= 1 << b;
  setConfirmed(of.confirmed);
  return true;
}

/** @returns false: 0 rows */
export function confirm(holder: Holder, seq: number): boolean {
  if (!holds(holder) || (!rules.wrong.confirmWithoutSeq && next[pg.seq] !== seq)) return false;
  keepBackup();
  setConfirmed(seq);
  return true;
}

function setConfirmed(confirmed: number): void {
  if (confirmed > next[pg.confirmed]!) next[pg.confirmed] = confirmed;
  for (let b = 1; b <= Math.min(LAST, next[pg.confirmed]!); b += 1) next[pg.redo]! &= ~(1 << b);
}

/** @param lost transactions, the latest of them, that the new primary does not have */
export function failOver(lost: 1 | 2): void {
  const from = lost === 1 ? backup.latest : backup.earlier;
  next.copyWithin(pg.first, from, from + PG_LENGTH);
  next.fill(0, backup.latest, backup.count + 1);
}
