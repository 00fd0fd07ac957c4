/**
 * Where the relay begins, or why it must not: the decision over what was read AFTER the fence (docs/relay.md, "Start", 4). Pure.
 */
import { type ErrorCode, LockstepError } from "../errors.ts";
import { formatLsn } from "../storage/lsn.ts";
import type { Inspection } from "../storage/relay-store.ts";
import { parsePosition, type RelayPosition } from "./position.ts";

export interface Found extends Inspection {
  readonly app: string;
  readonly groupId: string;
  /** The committed offset; null: there is none. */
  readonly committed: { readonly offset: bigint; readonly metadata: string } | null;
}

export interface Start {
  readonly position: RelayPosition;
  readonly first: boolean;
}

const RESYNC = "`lockstep relay resync` publishes what the topic lacks and goes on from there.";

/** @throws {LockstepError} one of the RELAY_ codes, each with what was found and the way on */
export function decideStart(found: Found): Start {
  const { row, server, slot, committed } = found;
  if (row === null || row.slotLsn === null)
    throw halt("RELAY_NOT_SET_UP", `No relay is set up for ${found.app}: run \`lockstep migrate\`.`);
  if (row.groupId !== found.groupId) {
    throw halt(
      "RELAY_NOT_SET_UP",
      `The relay of ${found.app} in this database belongs to group ${row.groupId}, this is ${found.groupId}: one table has one relay. Start with LOCKSTEP_RELAY=off, or use that group.`,
    );
  }
  if (row.resyncReason !== null)
    throw halt("RELAY_RESYNC_NEEDED", `The log does not tell all: ${row.resyncReason}. ${RESYNC}`);
  const stored = committed === null ? null : parsePosition(committed.offset, committed.metadata);
  if (committed !== null && stored === null) {
    throw halt(
      "RELAY_POSITION_CONTRADICTS",
      `The position in Kafka (offset ${committed.offset}, "${committed.metadata}") was written by no relay of Lockstep. ${RESYNC}`,
    );
  }
  const known = stored?.log ?? { systemIdentifier: row.systemIdentifier, timeline: server.timeline };
  if (known.systemIdentifier !== server.systemIdentifier || known.timeline !== server.timeline) {
    throw halt(
      "RELAY_SERVER_CHANGED",
      `The position is of server ${known.systemIdentifier}, timeline ${known.timeline}; this is ${server.systemIdentifier}, timeline ${server.timeline}: a failover or a restore, which may have lost rows that were published. ${RESYNC}`,
    );
  }
  if (stored !== null && stored.log.slot !== row.slot)
    throw halt(
      "RELAY_RESYNC_NEEDED",
      `The position is of slot ${stored.log.slot}, the relay's is ${row.slot}: a resync did not end. ${RESYNC}`,
    );
  const underWay = stored?.position.underWay;
  if (stored !== null && underWay && underWay.commitLsn < stored.position.lsn) {
    throw halt(
      "RELAY_POSITION_CONTRADICTS",
      `The position ${formatLsn(stored.position.lsn)} lies beyond the database transaction ${formatLsn(underWay.commitLsn)}, which it says is under way. ${RESYNC}`,
    );
  }
  const reach = stored && maxOf(stored.position.lsn, stored.position.underWay?.commitLsn ?? 0n);
  if (reach !== null && reach > server.flushed) {
    throw halt(
      "RELAY_POSITION_CONTRADICTS",
      `The position reaches ${formatLsn(reach)}, the server's log ends at ${formatLsn(server.flushed)}: the server was put back to an earlier state. ${RESYNC}`,
    );
  }
  if (slot === null)
    throw halt("RELAY_SLOT_LOST", `The slot ${row.slot} is gone, and with it the log since. ${RESYNC}`);
  if (slot.walStatus === "lost" || slot.plugin !== "pgoutput")
    throw halt(
      "RELAY_SLOT_LOST",
      `The slot ${row.slot} cannot be read any more (${slot.plugin}, wal_status ${slot.walStatus}): the server has removed its log. ${RESYNC}`,
    );
  if (!found.published)
    throw halt(
      "RELAY_SET_UP_CHANGED",
      `The publication ${row.publication} or the place of ${row.table} in it is not the one that \`migrate\` made: rows may have been passed over. ${RESYNC}`,
    );
  if (stored === null) {
    if (row.started || slot.confirmed > row.slotLsn)
      throw halt(
        "RELAY_POSITION_CONTRADICTS",
        `The slot ${row.slot} was used, and Kafka has no position of group ${row.groupId}-relay. ${RESYNC}`,
      );
    return { position: { lsn: row.slotLsn, underWay: null }, first: true };
  }
  if (slot.confirmed > stored.position.lsn) {
    throw halt(
      "RELAY_POSITION_CONTRADICTS",
      `The slot was told that all below ${formatLsn(slot.confirmed)} is published, the position is ${formatLsn(stored.position.lsn)}: what lies between may be gone. ${RESYNC}`,
    );
  }
  return { position: stored.position, first: false };
}

function halt(code: ErrorCode, message: string): LockstepError {
  return new LockstepError(code, message);
}

function maxOf(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
