/**
 * The relay's position, and how it stands in Kafka as an offset with metadata (docs/relay.md, "Words").
 */

export interface RelayPosition {
  /** E: end of the commit of the last database transaction that is published whole. */
  readonly lsn: bigint;
  /** The database transaction of which only the first `rows` rows are published; it ends above `lsn`. */
  readonly underWay: { readonly commitLsn: bigint; readonly rows: number } | null;
}

/** What the log is true of: LSNs of another server, timeline or slot mean nothing here. */
export interface LogIdentity {
  readonly systemIdentifier: string;
  readonly timeline: number;
  readonly slot: string;
}

export interface StoredPosition {
  readonly position: RelayPosition;
  readonly log: LogIdentity;
}

/** As it stands in Kafka. */
export interface CommittedPosition {
  readonly offset: bigint;
  readonly metadata: string;
}

/**
 * Of what the group's coordinator answers and what its log has, the later: the coordinator can answer before it has read its log (K1 in
 * docs/protocol.md), the end of the log can be unknown to a new leader for a moment, and positions never fall (RI4).
 * Positions in different logs cannot be compared: then what the coordinator answers is older, or nobody has written it.
 * @param inLog null: it has none, or may not be read
 */
export function laterOf(answered: CommittedPosition | null, inLog: CommittedPosition | null): CommittedPosition | null {
  if (inLog === null) return answered;
  if (answered === null) return inLog;
  const [one, other] = [answered, inLog].map(({ offset, metadata }) => parsePosition(offset, metadata));
  if (!one || !other) return answered; // somebody else's: whoever decides refuses it
  const isSameLog = (["systemIdentifier", "timeline", "slot"] as const).every(
    (part) => one.log[part] === other.log[part],
  );
  if (!isSameLog) return inLog;
  const [a, b] = [one.position, other.position];
  if (a.lsn !== b.lsn) return a.lsn > b.lsn ? answered : inLog;
  const [x, y] = [a.underWay ?? NOTHING, b.underWay ?? NOTHING];
  if (x.commitLsn !== y.commitLsn) return x.commitLsn > y.commitLsn ? answered : inLog;
  return x.rows >= y.rows ? answered : inLog;
}

const NOTHING = { commitLsn: 0n, rows: 0 };

export function formatPosition({ position, log }: StoredPosition): { offset: bigint; metadata: string } {
  const { commitLsn, rows } = position.underWay ?? { commitLsn: 0n, rows: 0 };
  return {
    offset: position.lsn,
    metadata: [log.systemIdentifier, log.timeline, log.slot, commitLsn, rows].join("/"),
  };
}

/** @returns null when no relay of ours wrote it */
export function parsePosition(offset: bigint, metadata: string): StoredPosition | null {
  const match = /^(\d+)\/(\d+)\/([a-z0-9_]+)\/(\d+)\/(\d+)$/.exec(metadata);
  if (!match) return null;
  const [, systemIdentifier, timeline, slot, commitLsn, rows] = match as unknown as [
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  const underWay = { commitLsn: BigInt(commitLsn), rows: Number(rows) };
  return {
    position: { lsn: offset, underWay: underWay.commitLsn === 0n ? null : underWay },
    log: { systemIdentifier, timeline: Number(timeline), slot },
  };
}
